//! The databases of the demonstration behind one trait: everything else of it is the same for all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use strongroom_testkit::postgres::PostgresServer;

use crate::cluster::{self, Shop, Text};
use crate::mysql_shop::{self, MySqlShop};

pub(crate) type Digests = BTreeMap<String, String>;

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    Postgresql,
    Mysql,
}

impl Engine {
    /// As `instance add --engine` takes it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Postgresql => "postgresql",
            Self::Mysql => "mysql",
        }
    }

    /// A server can be started; the package manager is asked when there is none.
    pub(crate) fn ensure(self) -> anyhow::Result<()> {
        match self {
            Self::Postgresql => cluster::installed_version().map(drop),
            Self::Mysql => mysql_shop::ensure_server(),
        }
    }

    /// An empty shop on a server of its own.
    pub(crate) fn open(self) -> anyhow::Result<Box<dyn Database>> {
        Ok(match self {
            Self::Postgresql => Box::new(Shop::open(cluster::installed_version()?, &cluster::options(true))?),
            Self::Mysql => Box::new(MySqlShop::open()?),
        })
    }
}

/// A running server with a shop's data in it.
pub(crate) trait Database {
    fn version(&self) -> anyhow::Result<String>;

    fn port(&self) -> u16;

    fn pid(&self) -> Option<u32>;

    fn data_dir(&self) -> PathBuf;

    fn fill(&mut self, gb: f64) -> anyhow::Result<()>;

    fn bytes(&self) -> anyhow::Result<u64>;

    /// One row in a hundred of the biggest table, at random.
    fn change_one_percent(&self) -> anyhow::Result<()>;

    fn digests(&self) -> anyhow::Result<Digests>;

    /// Ends the server as the kernel would.
    fn kill9(&mut self) -> anyhow::Result<()>;

    /// Starts a server on a restored directory; what its tables hold.
    fn digests_in(&self, restored: &Path) -> anyhow::Result<Digests>;
}

impl Database for Shop {
    fn version(&self) -> anyhow::Result<String> {
        Ok(format!("PostgreSQL {}", self.server.version()))
    }

    fn port(&self) -> u16 {
        self.server.port()
    }

    fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    fn data_dir(&self) -> PathBuf {
        self.server.data_dir().to_owned()
    }

    fn fill(&mut self, gb: f64) -> anyhow::Result<()> {
        Self::fill(self, gb, Text::Digests)
    }

    fn bytes(&self) -> anyhow::Result<u64> {
        Self::bytes(self)
    }

    fn change_one_percent(&self) -> anyhow::Result<()> {
        Self::change_one_percent(self)
    }

    fn digests(&self) -> anyhow::Result<Digests> {
        cluster::digests(&self.server)
    }

    fn kill9(&mut self) -> anyhow::Result<()> {
        self.server.kill9()
    }

    fn digests_in(&self, restored: &Path) -> anyhow::Result<Digests> {
        cluster::digests(&PostgresServer::adopt(self.server.version(), restored)?)
    }
}

impl Database for MySqlShop {
    fn version(&self) -> anyhow::Result<String> {
        Self::version(self)
    }

    fn port(&self) -> u16 {
        self.server.port()
    }

    fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    fn data_dir(&self) -> PathBuf {
        self.server.data_dir().to_owned()
    }

    fn fill(&mut self, gb: f64) -> anyhow::Result<()> {
        Self::fill(self, gb)
    }

    fn bytes(&self) -> anyhow::Result<u64> {
        Self::bytes(self)
    }

    fn change_one_percent(&self) -> anyhow::Result<()> {
        Self::change_one_percent(self)
    }

    fn digests(&self) -> anyhow::Result<Digests> {
        Self::digests(self)
    }

    fn kill9(&mut self) -> anyhow::Result<()> {
        self.server.kill9()
    }

    fn digests_in(&self, restored: &Path) -> anyhow::Result<Digests> {
        mysql_shop::digests_in(restored)
    }
}
