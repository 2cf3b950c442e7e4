//! Writers that commit while a backup runs and keep book of it, so that a restored copy can be
//! judged: what was committed before the backup's end is there, and nothing is there in part.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::postgres::PostgresServer;

/// Every transaction books the same amount out of one table and into another.
const TABLES: &str =
    "create table ledger_out(writer int, entry bigint, body text, primary key (writer, entry));
    create table ledger_in(writer int, entry bigint, body text, primary key (writer, entry));";

/// One acknowledged transaction.
#[derive(Debug, Clone, Copy)]
struct Committed {
    entry: u64,
    /// A log position at or after the end of the commit record.
    position: u64,
}

/// Threads that write until told to stop.
pub struct LedgerWriters {
    database: String,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<anyhow::Result<Vec<Committed>>>>,
}

/// What all writers had acknowledged when they were stopped.
#[derive(Debug, Clone)]
pub struct Ledger {
    database: String,
    committed: Vec<Vec<Committed>>,
}

impl LedgerWriters {
    /// Creates the tables in `database` and starts `count` writers.
    pub fn start(server: &PostgresServer, database: &str, count: usize) -> anyhow::Result<Self> {
        Self::start_paced(server, database, count, Duration::ZERO)
    }

    /// As [`LedgerWriters::start`], with a pause before each transaction: for long tests, whose
    /// database is not to grow with their length.
    pub fn start_paced(
        server: &PostgresServer,
        database: &str,
        count: usize,
        pause: Duration,
    ) -> anyhow::Result<Self> {
        server.psql(database, TABLES)?;
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..count)
            .map(|writer| {
                let mut command = server.tool("psql");
                command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database]);
                let mut psql = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
                let mut input = psql.stdin.take().context("psql has an input")?;
                let mut output = BufReader::new(psql.stdout.take().context("psql has an output")?).lines();
                let stop = Arc::clone(&stop);
                Ok(std::thread::spawn(move || {
                    let mut committed = Vec::new();
                    // The server may be killed under the writers; what was acknowledged counts.
                    while !stop.load(Ordering::Relaxed)
                        && let Ok(entry) = u64::try_from(committed.len())
                        && book(&mut input, writer, entry, pause).is_ok()
                        && let Some(Ok(line)) = output.next()
                    {
                        committed.push(Committed { entry, position: parse_position(&line)? });
                    }
                    drop(input);
                    psql.wait()?;
                    Ok(committed)
                }))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { database: database.to_owned(), stop, threads })
    }

    /// Stops the writers and answers with the book.
    pub fn stop(self) -> anyhow::Result<Ledger> {
        self.stop.store(true, Ordering::Relaxed);
        let committed = self
            .threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a writer panicked"))?)
            .collect::<anyhow::Result<_>>()?;
        Ok(Ledger { database: self.database, committed })
    }
}

impl Ledger {
    /// All acknowledged transactions.
    pub fn len(&self) -> usize {
        self.committed.iter().map(Vec::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many transactions were acknowledged before a log position.
    pub fn committed_before(&self, end: u64) -> usize {
        self.committed.iter().flatten().filter(|entry| entry.position <= end).count()
    }

    /// Judges a restored copy of a backup that ends at log position `end`.
    pub fn judge(&self, restored: &PostgresServer, end: u64) -> anyhow::Result<()> {
        let half = restored.psql(
            &self.database,
            "select count(*) from ledger_out o full join ledger_in i using (writer, entry)
             where o.body is distinct from i.body",
        )?;
        ensure!(half == "0", "{half} transactions are there in part");
        let found = restored.psql(
            &self.database,
            "select writer, count(*), coalesce(max(entry), -1) from ledger_out group by writer order by writer",
        )?;
        let mut counts = BTreeMap::new();
        for line in found.lines() {
            let mut fields = line.split('|');
            let writer: usize = fields.next().context("writer")?.parse()?;
            let count: u64 = fields.next().context("count")?.parse()?;
            let last: i64 = fields.next().context("last")?.parse()?;
            ensure!(i64::try_from(count)? == last + 1, "writer {writer} has {count} entries up to {last}");
            counts.insert(writer, count);
        }
        for (writer, entries) in self.committed.iter().enumerate() {
            let wanted =
                entries.iter().filter(|entry| entry.position <= end).map(|entry| entry.entry + 1).max();
            let found = counts.get(&writer).copied().unwrap_or(0);
            ensure!(
                found >= wanted.unwrap_or(0),
                "writer {writer}: {found} transactions restored, {wanted:?} were committed before the end"
            );
        }
        Ok(())
    }
}

fn book(input: &mut ChildStdin, writer: usize, entry: u64, pause: Duration) -> std::io::Result<()> {
    if !pause.is_zero() {
        writeln!(input, "do $$ begin perform pg_sleep({}); end $$;", pause.as_secs_f64())?;
    }
    let body = format!("md5(repeat('{writer}/{entry}', 50))");
    writeln!(
        input,
        "begin; insert into ledger_out values ({writer}, {entry}, {body}); \
         insert into ledger_in values ({writer}, {entry}, {body}); commit; \
         select pg_current_wal_insert_lsn();"
    )?;
    input.flush()
}

/// `H/L` in hex.
fn parse_position(text: &str) -> anyhow::Result<u64> {
    let (high, low) = text.trim().split_once('/').with_context(|| format!("not a log position: {text}"))?;
    Ok((u64::from_str_radix(high, 16)? << 32) | u64::from_str_radix(low, 16)?)
}
