//! A throw-away PostgreSQL with a shop's data in it: made, filled, changed and judged.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use strongroom_testkit::postgres::{self, Options, PostgresServer};

use crate::{interrupt, packages};

/// Newest first: whatever is installed will do.
const VERSIONS: [u32; 4] = [18, 17, 16, 15];
const TABLES: [&str; 3] = ["customers", "orders", "payments"];
const PGBENCH_TABLES: [&str; 4] =
    ["pgbench_accounts", "pgbench_branches", "pgbench_history", "pgbench_tellers"];

/// Rows of `orders` that make, with the other tables and the indexes, one gigabyte.
const ORDERS_PER_GB: u64 = 4_900_000;

/// Where the log goes that a backup needs which does not hold it, in a folder beside the data.
pub(crate) const ARCHIVED: &str = "archived";
const ARCHIVE_TIMEOUT: Duration = Duration::from_mins(2);

/// Who takes the backups; may do nothing else.
pub(crate) const ROLE: &str = "strongroom";
pub(crate) const PASSWORD: &str = "only-for-this-demonstration";

/// A version that is installed; the package manager is asked when there is none.
pub(crate) fn installed_version() -> anyhow::Result<u32> {
    // A packaged server comes before one that was unpacked for the tests.
    let is_packaged =
        |version: &u32| Path::new(&format!("/usr/lib/postgresql/{version}/bin/postgres")).is_file();
    let is_there = |version: &u32| postgres::available(*version);
    let find = || VERSIONS.into_iter().find(is_packaged).or_else(|| VERSIONS.into_iter().find(is_there));
    packages::ensure(&["postgresql"], "a PostgreSQL server of version 15 to 18 is needed", || {
        find().is_some()
    })?;
    find().context("a PostgreSQL server was just found")
}

/// What the text of an order is made of; a compressor feels the difference.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Text {
    /// Digests in hex, another one in each row: half of it is entropy
    Digests,
    /// Blanks, as pgbench fills its accounts with
    Blank,
    /// Ten words of a small vocabulary, some far more often than others, as people write
    Words,
}

impl Text {
    fn column(self) -> String {
        let fixed = match self {
            Self::Digests => "md5(id::text) || md5((id * 31)::text)",
            Self::Blank => "''::char(84)",
            Self::Words => return words(|number| format!("hashint8extended(id::bigint, {number}) & 255")),
        };
        fixed.to_owned()
    }

    fn changed(self) -> String {
        let fixed = match self {
            Self::Digests => "md5(random()::text) || md5(random()::text)",
            Self::Blank => "note",
            Self::Words => return words(|_| "random() * 255".to_owned()),
        };
        fixed.to_owned()
    }
}

/// How many the vocabulary has.
pub(crate) const VOCABULARY_WORDS: u32 = 256;

/// 256 words in one text. As in real text, a few short words come often and most seldom: entry `n` is
/// word `n² / 256`. Eight bytes each, so that one is found without a search; the filling is taken out again.
pub(crate) fn vocabulary() -> String {
    const SYLLABLES: [&str; 16] =
        ["de", "ter", "an", "lo", "vi", "sam", "or", "pe", "kin", "ra", "mul", "he", "fon", "ti", "gas", "u"];
    let word = |number: usize| match number.checked_sub(SYLLABLES.len()) {
        None => SYLLABLES[number].to_owned(),
        Some(number) => format!("{}{}", SYLLABLES[number % 16], SYLLABLES[number / 16]),
    };
    (0..VOCABULARY_WORDS as usize).fold(String::new(), |known, entry| {
        let word = word(entry * entry / 256) + " ";
        format!("{known}{word:#<8}")
    })
}

/// SQL for ten words, each chosen by a number from 0 to 255.
fn words(choice: impl Fn(u32) -> String) -> String {
    let vocabulary = vocabulary();
    let picks: Vec<String> = (0..10)
        .map(|number| format!("substr(vocabulary, 1 + 8 * ({})::int, 8)", choice(number)))
        .map(|pick| pick.replace("vocabulary", &format!("'{vocabulary}'::bytea")))
        .collect();
    format!("rtrim(replace(convert_from({}, 'UTF8'), '#', ''))", picks.join(" || "))
}

/// The server of the shop.
pub(crate) struct Shop {
    pub(crate) server: PostgresServer,
    orders: u64,
    text: Text,
    /// Filled by pgbench instead of with a shop.
    is_pgbench: bool,
    has_summaries: bool,
}

/// What the shop's server is made with.
pub(crate) fn options(tls: bool) -> Options {
    let conf = [
        "shared_buffers = 256MB",
        "maintenance_work_mem = 256MB",
        "max_wal_size = 4GB",
        "checkpoint_timeout = 1h",
        "autovacuum = off",
    ];
    Options { tls, conf: conf.map(str::to_owned).to_vec(), ..Options::default() }
}

impl Shop {
    /// Makes the cluster and the role that takes backups.
    pub(crate) fn open(version: u32, options: &Options) -> anyhow::Result<Self> {
        let server = PostgresServer::start(version, options)?;
        server.psql("postgres", &format!("CREATE ROLE {ROLE} LOGIN REPLICATION PASSWORD '{PASSWORD}'"))?;
        server.psql("postgres", "CREATE DATABASE shop")?;
        Ok(Self { server, orders: 0, text: Text::Digests, is_pgbench: false, has_summaries: false })
    }

    /// A server for measurements: it can archive its log, and summarise it when asked.
    pub(crate) fn open_archiving(version: u32, has_summaries: bool) -> anyhow::Result<Self> {
        let mut options = options(false);
        options.conf.push("archive_mode = on".to_owned());
        // Runs in the data directory; copies only while a backup needs the log.
        options
            .conf
            .push(format!("archive_command = 'test ! -e ../{ARCHIVED}/wanted || cp %p ../{ARCHIVED}/%f'"));
        if has_summaries {
            options.conf.push("summarize_wal = on".to_owned());
        }
        let mut shop = Self::open(version, &options)?;
        shop.server.make_folder(ARCHIVED)?;
        shop.has_summaries = has_summaries;
        Ok(shop)
    }

    /// A folder beside the data directory.
    pub(crate) fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let parent = self.server.data_dir().parent().context("a data directory has a parent")?;
        Ok(parent.join(name))
    }

    /// Archives the log while `work` is done, and ends when all of that is in the archive.
    pub(crate) fn archiving<T>(&self, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let wanted = self.folder(ARCHIVED)?.join("wanted");
        fs::write(&wanted, "")?;
        let done = work()?;
        let last = self.server.psql("postgres", "SELECT pg_walfile_name(pg_switch_wal() - 1)")?;
        let question = format!("SELECT coalesce(last_archived_wal >= '{last}', false) FROM pg_stat_archiver");
        interrupt::wait_for("archiving the log", ARCHIVE_TIMEOUT, Duration::from_millis(50), || {
            Ok((self.server.psql("postgres", &question)? == "t").then_some(()))
        })?;
        fs::remove_file(wanted)?;
        Ok(done)
    }

    pub(crate) fn has_summaries(&self) -> bool {
        self.has_summaries
    }

    /// Fills the tables, two sessions beside each other, until they and their indexes take about `gb`.
    pub(crate) fn fill(&mut self, gb: f64, text: Text) -> anyhow::Result<()> {
        self.orders = rows(gb);
        self.text = text;
        let orders = self.orders;
        let customers = orders / 10;
        let big = format!(
            "CREATE TABLE orders AS
               SELECT id, 1 + (random() * {customers})::bigint AS customer_id,
                      timestamptz '2026-01-01' + id * interval '7 seconds' AS placed,
                      (random() * 500)::numeric(8, 2) AS amount,
                      {} AS note
                 FROM generate_series(1, {orders}) AS id;
             ALTER TABLE orders ADD PRIMARY KEY (id);
             VACUUM (FREEZE, ANALYZE) orders;",
            text.column()
        );
        let small = format!(
            "CREATE TABLE customers AS
               SELECT id, 'Customer ' || md5(id::text) AS name,
                      md5((id * 17)::text) || '@example.org' AS mail,
                      now() - id * interval '1 minute' AS since
                 FROM generate_series(1, {customers}) AS id;
             ALTER TABLE customers ADD PRIMARY KEY (id);
             CREATE INDEX ON customers (name);
             CREATE TABLE payments AS
               SELECT id, 1 + (random() * {orders})::bigint AS order_id, (random() * 500)::numeric(8, 2) AS amount,
                      (ARRAY['card', 'transfer', 'voucher'])[1 + id % 3] AS method
                 FROM generate_series(1, {orders} / 2) AS id;
             ALTER TABLE payments ADD PRIMARY KEY (id);
             VACUUM (FREEZE, ANALYZE) customers, payments;"
        );
        std::thread::scope(|scope| {
            let beside = scope.spawn(|| self.run(&small));
            self.run(&big)?;
            beside.join().expect("loading reports errors and does not panic")
        })?;
        self.server.psql("shop", "CHECKPOINT")?;
        Ok(())
    }

    /// Statements one by one, because VACUUM refuses to be part of a transaction.
    fn run(&self, statements: &str) -> anyhow::Result<()> {
        for statement in statements.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
            self.server.psql("shop", statement)?;
        }
        Ok(())
    }

    /// Fills the tables of pgbench instead.
    pub(crate) fn fill_pgbench(&mut self, scale: u32) -> anyhow::Result<()> {
        self.is_pgbench = true;
        let scale = scale.to_string();
        self.server.run_tool("pgbench", &["--initialize", "--quiet", "--scale", &scale, "shop"])?;
        self.server.psql("shop", "CHECKPOINT")?;
        Ok(())
    }

    /// Transactions of pgbench all over its accounts, in two sessions.
    pub(crate) fn transact(&self, transactions: u32) -> anyhow::Result<()> {
        let each = (transactions / 2).to_string();
        let arguments = ["--client=2", "--no-vacuum", "--transactions", &each, "--random-seed=7", "shop"];
        self.server.run_tool("pgbench", &arguments)?;
        self.server.psql("shop", "CHECKPOINT")?;
        Ok(())
    }

    /// One row in a hundred of the biggest table, at random all over it.
    pub(crate) fn change_one_percent(&self) -> anyhow::Result<()> {
        let orders = self.orders;
        self.change(&format!(
            "id IN (SELECT 1 + (random() * {orders})::bigint FROM generate_series(1, {orders} / 100))"
        ))
    }

    /// One row in a hundred of the biggest table, neighbours all.
    pub(crate) fn change_one_percent_contiguous(&self) -> anyhow::Result<()> {
        let first = self.orders / 3;
        self.change(&format!("id BETWEEN {first} AND {}", first + self.orders / 100 - 1))
    }

    fn change(&self, which: &str) -> anyhow::Result<()> {
        let changed = self.text.changed();
        let update = format!("UPDATE orders SET amount = amount + 1, note = {changed} WHERE {which}");
        self.server.psql("shop", &update)?;
        self.server.psql("shop", "CHECKPOINT")?;
        Ok(())
    }

    /// What the tables hold, to be compared with a restored server's.
    pub(crate) fn digests(&self) -> anyhow::Result<BTreeMap<String, String>> {
        self.digests_of(&self.server)
    }

    /// The same tables on another server.
    pub(crate) fn digests_of(&self, server: &PostgresServer) -> anyhow::Result<BTreeMap<String, String>> {
        if self.is_pgbench { digests_of(server, &PGBENCH_TABLES) } else { digests(server) }
    }

    /// Bytes of all databases as the server counts them.
    pub(crate) fn bytes(&self) -> anyhow::Result<u64> {
        let sum =
            self.server.psql("postgres", "SELECT sum(pg_database_size(oid))::bigint FROM pg_database")?;
        sum.trim().parse().context("the size of the databases")
    }
}

fn rows(gb: f64) -> u64 {
    // A size given by a person, positive and far below 2^53.
    #[expect(clippy::cast_sign_loss, reason = "checked by the argument parser")]
    #[expect(clippy::cast_precision_loss, reason = "a constant far below 2^53")]
    let rows = (gb * ORDERS_PER_GB as f64) as u64;
    rows.max(10_000)
}

/// Rows and an order-free digest of all columns, for each table.
pub(crate) fn digests(server: &PostgresServer) -> anyhow::Result<BTreeMap<String, String>> {
    digests_of(server, &TABLES)
}

fn digests_of(server: &PostgresServer, tables: &[&str]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut digests = BTreeMap::new();
    for &table in tables {
        let query = format!(
            "SELECT count(*) || ' rows, digest ' || coalesce(sum(hash_record_extended(t, 42)::numeric), 0) FROM {table} AS t"
        );
        digests.insert(table.to_owned(), server.psql("shop", &query)?.trim().to_owned());
    }
    Ok(digests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_server_a_changed_shop_is_told_from_an_unchanged_one() {
        let mut shop = Shop::open(installed_version().unwrap(), &options(false)).unwrap();
        shop.fill(0.01, Text::Words).unwrap();
        let before = shop.digests().unwrap();
        assert_eq!(shop.digests().unwrap(), before);
        shop.change_one_percent().unwrap();
        let after = shop.digests().unwrap();
        assert_ne!(after, before);
        shop.change_one_percent_contiguous().unwrap();
        assert_ne!(shop.digests().unwrap(), after);
    }
}
