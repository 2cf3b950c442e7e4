//! A throw-away MySQL with the same shop's data in it: made, filled, changed and judged.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use strongroom_testkit::debian;
use strongroom_testkit::mysql::{self, MySqlServer, Options};

use crate::cluster::{PASSWORD, ROLE, VOCABULARY_WORDS, vocabulary};
use crate::{packages, process, say};

const TABLES: [&str; 3] = ["customers", "orders", "payments"];

/// Rows of `orders` that make, with the other tables and the indexes, one gigabyte.
const ORDERS_PER_GB: u64 = 5_400_000;
/// Rows that one statement writes.
const BATCH: u64 = 200_000;
/// Characters of a word of the vocabulary, filled up.
const WORD_LENGTH: u32 = 8;
const WORDS_PER_NOTE: u32 = 10;

/// A server is there, or is unpacked beside the system.
pub(crate) fn ensure_server() -> anyhow::Result<()> {
    if mysql::available() {
        return Ok(());
    }
    say::note("MySQL is unpacked from its Debian suite, beside the system (a minute)");
    packages::ensure(&["debootstrap"], "it unpacks a Debian suite", || process::exists("debootstrap"))?;
    debian::ensure_mysql_tree().map(drop)
}

/// The server of the shop.
pub(crate) struct MySqlShop {
    pub(crate) server: MySqlServer,
    filling: Filling,
}

/// What the shop's server is made with, and one that takes its data back.
pub(crate) fn options() -> Options {
    let arguments = [
        "--innodb-buffer-pool-size=256M",
        "--innodb-redo-log-capacity=512M",
        "--innodb-flush-method=O_DIRECT",
        "--disable-log-bin",
    ];
    Options { arguments: arguments.map(str::to_owned).to_vec(), ..Options::default() }
}

impl MySqlShop {
    /// Makes the server and the account that takes backups.
    pub(crate) fn open() -> anyhow::Result<Self> {
        Self::open_with(&options())
    }

    /// A server with a binary log, which the account may read.
    pub(crate) fn open_logging() -> anyhow::Result<Self> {
        let arguments = ["--innodb-buffer-pool-size=512M", "--innodb-redo-log-capacity=2G"];
        let arguments = arguments.map(str::to_owned).to_vec();
        let shop = Self::open_with(&Options { arguments, ..Options::default() })?;
        shop.server.sql(&format!("GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO '{ROLE}'@'%'"))?;
        Ok(shop)
    }

    fn open_with(options: &Options) -> anyhow::Result<Self> {
        let server = MySqlServer::start(options)?;
        server.sql(&format!(
            "CREATE USER '{ROLE}'@'%' IDENTIFIED BY '{PASSWORD}'; GRANT BACKUP_ADMIN ON *.* TO '{ROLE}'@'%'; \
             GRANT REFERENCES ON *.* TO '{ROLE}'@'%'; CREATE DATABASE shop"
        ))?;
        Ok(Self { server, filling: Filling { orders: 0 } })
    }

    pub(crate) fn version(&self) -> anyhow::Result<String> {
        Ok(format!("MySQL {}", self.server.sql("SELECT VERSION()")?))
    }

    /// Fills the tables until they and their indexes take about `gb`.
    pub(crate) fn fill(&mut self, gb: f64) -> anyhow::Result<()> {
        self.filling = Filling::of(gb);
        self.filling.fill(&|statements| self.server.sql(statements))
    }

    /// One row in a hundred of the biggest table, at random all over it.
    pub(crate) fn change_one_percent(&self) -> anyhow::Result<()> {
        self.filling.change_one_percent(&|statements| self.server.sql(statements))
    }

    /// What the tables hold, to be compared with a restored server's.
    pub(crate) fn digests(&self) -> anyhow::Result<BTreeMap<String, String>> {
        digests(&self.server)
    }

    /// Bytes of all tables' files.
    pub(crate) fn bytes(&self) -> anyhow::Result<u64> {
        let sum = self.server.sql("SELECT SUM(FILE_SIZE) FROM information_schema.INNODB_TABLESPACES")?;
        sum.trim().parse().context("the size of the tables")
    }
}

/// Runs statements on whatever server.
pub(crate) type Run<'r> = dyn Fn(&str) -> anyhow::Result<String> + Sync + 'r;

/// The rows of a shop, made by statements that MySQL and MariaDB both know.
pub(crate) struct Filling {
    orders: u64,
}

impl Filling {
    pub(crate) fn of(gb: f64) -> Self {
        Self { orders: rows(gb) }
    }

    /// Makes and fills the tables, two sessions beside each other.
    pub(crate) fn fill(&self, run: &Run<'_>) -> anyhow::Result<()> {
        run(
            "CREATE TABLE shop.numbers (n INT PRIMARY KEY);
             INSERT INTO shop.numbers WITH RECURSIVE s(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < 999)
               SELECT n FROM s;
             CREATE TABLE shop.customers (id INT PRIMARY KEY, name VARCHAR(80) NOT NULL, mail VARCHAR(80) NOT NULL,
               since DATETIME NOT NULL);
             CREATE TABLE shop.orders (id INT PRIMARY KEY, customer_id INT NOT NULL, placed DATETIME NOT NULL,
               amount DECIMAL(8, 2) NOT NULL, note VARCHAR(120) NOT NULL);
             CREATE TABLE shop.payments (id INT PRIMARY KEY, order_id INT NOT NULL, amount DECIMAL(8, 2) NOT NULL,
               method VARCHAR(10) NOT NULL)",
        )?;
        std::thread::scope(|scope| {
            let beside = scope.spawn(|| self.fill_small(run));
            self.fill_orders(run)?;
            beside.join().expect("loading reports errors and does not panic")
        })
    }

    fn fill_orders(&self, run: &Run<'_>) -> anyhow::Result<()> {
        let customers = self.orders / 10;
        // The factors: a checksum of texts that differ by an end alone is the same but for a constant.
        let note = note(|word| format!("CRC32(i * {}) & 255", 7_919 + 1_234 * word));
        in_batches(run, self.orders, |from| {
            format!(
                "INSERT INTO shop.orders SELECT i, 1 + CRC32(i) % {customers}, '2026-01-01' + INTERVAL i * 7 SECOND, \
                 (CRC32(i * 3) % 50000) / 100, {note} FROM {from}"
            )
        })
    }

    fn fill_small(&self, run: &Run<'_>) -> anyhow::Result<()> {
        in_batches(run, self.orders / 10, |from| {
            format!(
                "INSERT INTO shop.customers SELECT i, CONCAT('Customer ', LEFT(SHA2(i, 256), 32)), \
                 CONCAT(LEFT(SHA2(i * 17, 256), 32), '@example.org'), '2026-01-01' - INTERVAL i MINUTE FROM {from}"
            )
        })?;
        run("ALTER TABLE shop.customers ADD KEY (name)")?;
        let orders = self.orders;
        in_batches(run, self.orders / 2, |from| {
            format!(
                "INSERT INTO shop.payments SELECT i, 1 + CRC32(i) % {orders}, (CRC32(i * 5) % 50000) / 100, \
                 ELT(1 + i % 3, 'card', 'transfer', 'voucher') FROM {from}"
            )
        })
    }

    pub(crate) fn change_one_percent(&self, run: &Run<'_>) -> anyhow::Result<()> {
        let (orders, changed) = (self.orders, self.orders.div_ceil(100));
        let note = note(|_| "RAND() * 255".to_owned());
        run(&format!(
            "SET @words = '{words}'; CREATE TEMPORARY TABLE shop.picked (id INT);
             INSERT INTO shop.picked SELECT 1 + FLOOR(RAND() * {orders}) FROM shop.numbers a, shop.numbers b LIMIT {changed};
             UPDATE shop.orders JOIN (SELECT DISTINCT id FROM shop.picked) AS p USING (id)
               SET amount = amount + 1, note = {note}",
            words = vocabulary()
        ))
        .map(drop)
    }
}

/// Runs a statement again and again, each time over the next numbers `i`, from 1 to `count`.
fn in_batches(run: &Run<'_>, count: u64, statement: impl Fn(&str) -> String) -> anyhow::Result<()> {
    let mut begin = 0;
    while begin < count {
        let length = BATCH.min(count - begin);
        let numbers = format!(
            "(SELECT 1 + {begin} + a.n * 1000 + b.n AS i FROM shop.numbers a, shop.numbers b \
             WHERE a.n < {thousands} AND a.n * 1000 + b.n < {length}) AS s",
            thousands = length.div_ceil(1000)
        );
        run(&format!("SET @words = '{}'; {}", vocabulary(), statement(&numbers)))?;
        begin += length;
    }
    Ok(())
}

/// A text of some words; `choice` gives a number from 0 to 255 for each.
fn note(choice: impl Fn(u32) -> String) -> String {
    let picks: Vec<String> = (0..WORDS_PER_NOTE)
        .map(|word| {
            format!(
                "SUBSTR(@words, 1 + {WORD_LENGTH} * LEAST(FLOOR({}), {}), {WORD_LENGTH})",
                choice(word),
                VOCABULARY_WORDS - 1
            )
        })
        .collect();
    format!("TRIM(REPLACE(CONCAT({}), '#', ''))", picks.join(", "))
}

fn rows(gb: f64) -> u64 {
    // A size given by a person, positive and far below 2^53.
    #[expect(clippy::cast_sign_loss, reason = "checked by the argument parser")]
    #[expect(clippy::cast_precision_loss, reason = "a constant far below 2^53")]
    let rows = (gb * ORDERS_PER_GB as f64) as u64;
    rows.max(10_000)
}

pub(crate) fn digests(server: &MySqlServer) -> anyhow::Result<BTreeMap<String, String>> {
    digests_by(&|statement| server.sql(statement))
}

/// Rows and the server's own checksum over all of them, for each table.
pub(crate) fn digests_by(run: &Run<'_>) -> anyhow::Result<BTreeMap<String, String>> {
    let mut digests = BTreeMap::new();
    for table in TABLES {
        let count = run(&format!("SELECT COUNT(*) FROM shop.{table}"))?;
        let sum = run(&format!("CHECKSUM TABLE shop.{table}"))?;
        let sum = sum.split_whitespace().last().context("a checksum")?;
        digests.insert(table.to_owned(), format!("{count} rows, checksum {sum}"));
    }
    Ok(digests)
}

/// Starts a server on a restored directory and looks at its tables.
pub(crate) fn digests_in(restored: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    digests(&MySqlServer::adopt(restored, &[])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_server_a_changed_shop_of_mysql_is_told_from_an_unchanged_one() {
        if !mysql::require() {
            return;
        }
        let mut shop = MySqlShop::open().unwrap();
        shop.fill(0.01).unwrap();
        let before = shop.digests().unwrap();
        assert_eq!(shop.digests().unwrap(), before);
        assert!(before["orders"].starts_with("54000 rows"), "{before:?}");
        let words = shop
            .server
            .sql("SELECT MIN(LENGTH(note)), COUNT(DISTINCT note) > 50000 FROM shop.orders")
            .unwrap();
        assert!(words.ends_with("\t1") && !words.starts_with('0'), "{words}");
        shop.change_one_percent().unwrap();
        assert_ne!(shop.digests().unwrap(), before);
    }
}
