//! mariadb-backup beside a MariaDB of its own that holds the same rows: it has no clone, and MySQL has
//! no such tool.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use strongroom_testkit::account::Account;
use strongroom_testkit::debian;
use tempfile::TempDir;

use super::Tool;
use crate::bench::meter::{self, Cost};
use crate::bench::peers::growth;
use crate::database::Digests;
use crate::mysql_shop::{self, Filling, MySqlShop};
use crate::{interrupt, packages, process};

const READY_TIMEOUT: Duration = Duration::from_mins(2);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Everything of the installation below one folder, and a server of it.
struct MariaDb {
    usr: PathBuf,
    home: TempDir,
    process: Option<Child>,
}

impl MariaDb {
    fn make(usr: &Path) -> anyhow::Result<Self> {
        let home = tempfile::Builder::new().prefix("strongroom-maria-").tempdir()?;
        Account::ordinary().own(home.path())?;
        let server = Self { usr: usr.to_owned(), home, process: None };
        let mut command = server.command("bin/mariadb-install-db");
        command.arg("--no-defaults").arg(format!("--basedir={}", usr.display()));
        command.arg(format!("--datadir={}", server.data_dir().display()));
        command.args(["--auth-root-authentication-method=normal", "--skip-name-resolve", "--skip-test-db"]);
        process::output(&mut command)?;
        server.launch()
    }

    /// A server on a directory that lies in `home`.
    fn adopt(usr: &Path, home: TempDir) -> anyhow::Result<Self> {
        Account::ordinary().own(home.path())?;
        Self { usr: usr.to_owned(), home, process: None }.launch()
    }

    fn launch(mut self) -> anyhow::Result<Self> {
        let share = self.usr.join("share/mysql");
        let mut command = self.command("sbin/mariadbd");
        command.arg("--no-defaults").arg(format!("--basedir={}", self.usr.display()));
        command.arg(format!("--datadir={}", self.data_dir().display()));
        command.arg(format!("--socket={}", self.socket().display()));
        command.arg(format!("--log-error={}", self.home.path().join("server.err").display()));
        command.arg(format!("--lc-messages-dir={}", share.display()));
        command.arg(format!("--character-sets-dir={}", share.join("charsets").display()));
        command.arg(format!("--plugin-dir={}", self.usr.join("lib/mysql/plugin").display()));
        command.args(["--skip-networking", "--innodb-buffer-pool-size=256M", "--innodb-log-file-size=512M"]);
        command.args(["--innodb-flush-log-at-trx-commit=2", "--pid-file=server.pid"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.process = Some(child.context("starting mariadbd")?);
        interrupt::wait_for("mariadbd", READY_TIMEOUT, LOOK_INTERVAL, || {
            Ok(self.sql("SELECT 1").is_ok().then_some(()))
        })
        .with_context(|| fs::read_to_string(self.home.path().join("server.err")).unwrap_or_default())?;
        Ok(self)
    }

    fn data_dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    fn socket(&self) -> PathBuf {
        self.home.path().join("sock")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.usr.join(program));
        command.current_dir(self.home.path()).env("LC_ALL", "C.UTF-8");
        Account::ordinary().apply(&mut command);
        command
    }

    fn sql(&self, statements: &str) -> anyhow::Result<String> {
        let mut command = self.command("bin/mariadb");
        command.args(["--no-defaults", "--user=root", "-N", "-B", "-r", "-e", statements]);
        command.arg(format!("--socket={}", self.socket().display()));
        Ok(process::output(&mut command)?.trim_end_matches('\n').to_owned())
    }

    fn digests(&self) -> anyhow::Result<Digests> {
        mysql_shop::digests_by(&|statement| self.sql(statement))
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A full backup, then incremental ones upon it, each a compressed stream.
pub(super) struct MariaDbBackup {
    server: MariaDb,
    filling: Filling,
    folder: TempDir,
    chain: Vec<String>,
}

impl MariaDbBackup {
    pub(super) fn new(gb: f64) -> anyhow::Result<Self> {
        packages::ensure(&["debootstrap"], "it unpacks a Debian suite", || process::exists("debootstrap"))?;
        packages::ensure(&["zstd"], "the backups are compressed by it", || process::exists("zstd"))?;
        let server = MariaDb::make(&debian::ensure_mariadb()?)?;
        server.sql("CREATE DATABASE shop")?;
        let filling = Filling::of(gb);
        filling.fill(&|statements| server.sql(statements))?;
        let folder = tempfile::Builder::new().prefix("strongroom-maria-backups-").tempdir()?;
        Account::ordinary().own(folder.path())?;
        Ok(Self { server, filling, folder, chain: Vec::new() })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.mb.zst"))
    }

    /// Where it notes how far the log was, for the next one. Belongs to no backup.
    fn position(&self, name: &str) -> PathBuf {
        self.server.home.path().join(format!("position-{name}"))
    }

    fn shell(&self, script: &str) -> Command {
        let mut command = self.server.command("bin/mariadb-backup");
        let program = command.get_program().to_owned();
        command = Command::new("bash");
        command.current_dir(self.server.home.path()).args(["-c", script, "bash"]).arg(program);
        Account::ordinary().apply(&mut command);
        command
    }
}

impl Tool for MariaDbBackup {
    fn name(&self) -> &'static str {
        "mariadb-backup (MariaDB), 2 threads, zst 1"
    }

    fn back_up(&mut self, _shop: &MySqlShop, name: &str) -> anyhow::Result<Cost> {
        const SCRIPT: &str = "program=\"$1\"; file=\"$2\"; shift 2; set -o pipefail; \
             \"$program\" --no-defaults --backup --stream=mbstream --parallel=2 --user=root \"$@\" | zstd -q -1 > \"$file\" \
             && sync \"$file\"";
        let mut command = self.shell(SCRIPT);
        command.arg(self.file(name));
        command.arg(format!("--socket={}", self.server.socket().display()));
        command.arg(format!("--datadir={}", self.server.data_dir().display()));
        command.arg(format!("--extra-lsndir={}", self.position(name).display()));
        if let Some(last) = self.chain.last() {
            command.arg(format!("--incremental-basedir={}", self.position(last).display()));
        }
        let pid = self.server.process.as_ref().map(Child::id);
        let cost = growth(self.folder.path(), || meter::command(&mut command, pid))?;
        ensure!(
            self.position(name).join("xtrabackup_checkpoints").is_file(),
            "mariadb-backup did not end well"
        );
        self.chain.push(name.to_owned());
        Ok(cost)
    }

    fn restore(&mut self, _shop: &MySqlShop, _name: &str) -> anyhow::Result<(Cost, Digests)> {
        const SCRIPT: &str = "set -e; program=\"$1\"; home=\"$2\"; shift 2; \
             for file; do part=\"$home/data\"; [ -d \"$part\" ] && part=\"$home/part\"; mkdir \"$part\"; \
               zstd -qdc \"$file\" | \"${program%/*}/mbstream\" -x -C \"$part\"; \
               if [ \"$part\" = \"$home/data\" ]; then \"$program\" --no-defaults --prepare --target-dir=\"$part\"; \
               else \"$program\" --no-defaults --prepare --target-dir=\"$home/data\" --incremental-dir=\"$part\"; rm -r \"$part\"; fi; \
             done; sync -f \"$home/data\"";
        let home = tempfile::Builder::new().prefix("strongroom-maria-restored-").tempdir()?;
        Account::ordinary().own(home.path())?;
        let mut command = self.shell(SCRIPT);
        command.arg(home.path()).args(self.chain.iter().map(|name| self.file(name)));
        let cost = meter::command(&mut command, None)?;
        let begun = Instant::now();
        let restored = MariaDb::adopt(&self.server.usr, home)?;
        let cost = Cost { wall_s: cost.wall_s + begun.elapsed().as_secs_f64(), ..cost };
        Ok((cost, restored.digests()?))
    }

    fn change(&mut self) -> anyhow::Result<()> {
        self.filling.change_one_percent(&|statements| self.server.sql(statements))
    }

    fn expected(&self) -> anyhow::Result<Option<Digests>> {
        self.server.digests().map(Some)
    }
}
