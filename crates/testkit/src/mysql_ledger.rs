//! Writers that commit, and change definitions of tables, while a backup of MySQL runs, and keep book
//! of it: what was committed before the backup began is in a copy, and nothing is there in part.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, ensure};

use crate::mysql::MySqlServer;

/// Every transaction books the same amount out of one table and into another.
const TABLES: &str = "create database if not exists ledger;
    create table ledger.books_out(writer int, entry bigint, body varchar(900), primary key (writer, entry), key (body(40)));
    create table ledger.books_in(writer int, entry bigint, body varchar(900), primary key (writer, entry));";

/// Threads that write until told to stop.
pub struct MySqlWriters {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<anyhow::Result<()>>>,
    /// Entries acknowledged, by writer.
    acknowledged: Vec<Arc<AtomicU64>>,
    /// Rounds of changed definitions that are over.
    churned: Arc<AtomicU64>,
}

impl MySqlWriters {
    /// Makes the tables and starts `count` writers, and one that makes, renames, alters and drops
    /// tables in `ledger_churn` when `with_definitions` is set.
    pub fn start(server: &MySqlServer, count: usize, with_definitions: bool) -> anyhow::Result<Self> {
        server.sql(TABLES)?;
        let stop = Arc::new(AtomicBool::new(false));
        let churned = Arc::new(AtomicU64::new(0));
        let acknowledged: Vec<Arc<AtomicU64>> = (0..count).map(|_| Arc::default()).collect();
        let mut threads = Vec::new();
        for (writer, count) in acknowledged.iter().enumerate() {
            let (stop, count) = (Arc::clone(&stop), Arc::clone(count));
            threads.push(converse(server, move |session| {
                while !stop.load(Ordering::Relaxed) {
                    let entry = count.load(Ordering::Relaxed);
                    // The server may be killed under the writers; what was acknowledged counts.
                    if session.ask(&booking(writer, entry)).is_err() {
                        return;
                    }
                    count.fetch_add(1, Ordering::Release);
                }
            })?);
        }
        if with_definitions {
            server.sql("create database if not exists ledger_churn")?;
            let (stop, churned) = (Arc::clone(&stop), Arc::clone(&churned));
            threads.push(converse(server, move |session| {
                while !stop.load(Ordering::Relaxed) {
                    let round = churned.load(Ordering::Relaxed);
                    if session.ask(&churn(round)).is_err() {
                        return;
                    }
                    churned.fetch_add(1, Ordering::Release);
                }
            })?);
        }
        Ok(Self { stop, threads, acknowledged, churned })
    }

    /// How many entries of each writer are acknowledged by now.
    pub fn acknowledged(&self) -> Vec<u64> {
        self.acknowledged.iter().map(|count| count.load(Ordering::Acquire)).collect()
    }

    /// How many rounds of changed definitions are over by now.
    pub fn churned(&self) -> u64 {
        self.churned.load(Ordering::Acquire)
    }

    /// Stops the writers and answers with what each had acknowledged.
    pub fn stop(self) -> anyhow::Result<Vec<u64>> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| anyhow::anyhow!("a writer panicked"))??;
        }
        Ok(self.acknowledged.iter().map(|count| count.load(Ordering::Acquire)).collect())
    }
}

/// Judges a restored copy: what was acknowledged before the backup began is there.
pub fn judge(restored: &MySqlServer, acknowledged_before: &[u64]) -> anyhow::Result<()> {
    let half = restored.sql(
        "select count(*) from ledger.books_out o left join ledger.books_in i using (writer, entry) where not (o.body <=> i.body);
         select count(*) from ledger.books_in i left join ledger.books_out o using (writer, entry) where o.entry is null;",
    )?;
    ensure!(half == "0\n0", "transactions are there in part: {half}");
    let found = restored
        .sql("select writer, count(*), max(entry) from ledger.books_out group by writer order by writer")?;
    let mut counts = BTreeMap::new();
    for line in found.lines() {
        let mut fields = line.split('\t');
        let writer: usize = fields.next().context("writer")?.parse()?;
        let count: u64 = fields.next().context("count")?.parse()?;
        let last: u64 = fields.next().context("last")?.parse()?;
        ensure!(count == last + 1, "writer {writer} has {count} entries up to {last}");
        counts.insert(writer, count);
    }
    for (writer, wanted) in acknowledged_before.iter().enumerate() {
        let found = counts.get(&writer).copied().unwrap_or(0);
        ensure!(
            found >= *wanted,
            "writer {writer}: {found} entries restored, {wanted} were committed before the backup began"
        );
    }
    Ok(())
}

/// A client that is fed with statements and answers each lot with one line.
struct Session {
    input: ChildStdin,
    output: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Session {
    fn ask(&mut self, statements: &str) -> anyhow::Result<()> {
        writeln!(self.input, "{statements} select 'done';")?;
        self.input.flush()?;
        let line = self.output.next().context("the client has ended")??;
        ensure!(line == "done", "{line}");
        Ok(())
    }
}

fn converse(
    server: &MySqlServer,
    act: impl FnOnce(&mut Session) + Send + 'static,
) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let mut command = server.tool("mysql")?;
    command.args(["--skip-column-names", "--batch", "--unbuffered"]);
    let mut client: Child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let input = client.stdin.take().context("the client has an input")?;
    let output = BufReader::new(client.stdout.take().context("the client has an output")?).lines();
    Ok(std::thread::spawn(move || {
        let mut session = Session { input, output };
        act(&mut session);
        drop(session);
        client.wait()?;
        Ok(())
    }))
}

fn booking(writer: usize, entry: u64) -> String {
    let body = format!("repeat(sha2('{writer}/{entry}', 256), 12)");
    format!(
        "begin; insert into ledger.books_out values ({writer}, {entry}, {body}); \
         insert into ledger.books_in values ({writer}, {entry}, {body}); commit;"
    )
}

/// A table is born, filled, altered in place and anew, renamed; the one of five rounds ago goes. Names
/// come again, so that a file may take the name of another that has just gone.
fn churn(round: u64) -> String {
    let (number, gone) = (round % 7, (round + 2) % 7);
    format!(
        "drop table if exists ledger_churn.t{number}, ledger_churn.kept{number}; \
         create table ledger_churn.t{number} (id int primary key, round bigint, body varchar(400)); \
         insert into ledger_churn.t{number} with recursive n(i) as (select 1 union all select i + 1 from n where i < 200) \
           select i, {round}, repeat(sha2(concat(i, '/', {round}), 256), 6) from n; \
         alter table ledger_churn.t{number} add column more int default {number}; \
         alter table ledger_churn.t{number} add key (round), engine = innodb; \
         rename table ledger_churn.t{number} to ledger_churn.kept{number}; \
         drop table if exists ledger_churn.kept{gone};"
    )
}
