//! A throw-away PostgreSQL with a shop's data in it: made, filled, changed and judged.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use clap::ValueEnum;
use strongroom_testkit::postgres::{self, Options, PostgresServer};

use crate::packages;

/// Newest first: whatever is installed will do.
const VERSIONS: [u32; 4] = [18, 17, 16, 15];
const TABLES: [&str; 3] = ["customers", "orders", "payments"];

/// Rows of `orders` that make, with the other tables and the indexes, one gigabyte.
const ORDERS_PER_GB: u64 = 4_900_000;

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
}

impl Text {
    const fn column(self) -> &'static str {
        match self {
            Self::Digests => "md5(id::text) || md5((id * 31)::text)",
            Self::Blank => "''::char(84)",
        }
    }

    const fn changed(self) -> &'static str {
        match self {
            Self::Digests => "md5(random()::text) || md5(random()::text)",
            Self::Blank => "note",
        }
    }
}

/// The server of the shop.
pub(crate) struct Shop {
    pub(crate) server: PostgresServer,
    orders: u64,
    text: Text,
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
        Ok(Self { server, orders: 0, text: Text::Digests })
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

    /// One row in a hundred of the biggest table, at random all over it.
    pub(crate) fn change_one_percent(&self) -> anyhow::Result<()> {
        let update = format!(
            "UPDATE orders SET amount = amount + 1, note = {changed}
              WHERE id IN (SELECT 1 + (random() * {orders})::bigint FROM generate_series(1, {orders} / 100))",
            orders = self.orders,
            changed = self.text.changed()
        );
        self.server.psql("shop", &update)?;
        self.server.psql("shop", "CHECKPOINT")?;
        Ok(())
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
    let mut digests = BTreeMap::new();
    for table in TABLES {
        let query = format!(
            "SELECT count(*) || ' rows, digest ' || coalesce(sum(hashtextextended(t::text, 42)::numeric), 0) FROM {table} AS t"
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
        shop.fill(0.01, Text::Digests).unwrap();
        let before = digests(&shop.server).unwrap();
        assert_eq!(digests(&shop.server).unwrap(), before);
        shop.change_one_percent().unwrap();
        assert_ne!(digests(&shop.server).unwrap(), before);
    }
}
