//! Tools that ask for the rows by statements and give statements back.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use strongroom_testkit::debian;
use strongroom_testkit::mysql::MySqlServer;
use tempfile::TempDir;

use super::Tool;
use crate::bench::meter::{self, Cost};
use crate::bench::peers::growth;
use crate::cluster::PASSWORD;
use crate::database::Digests;
use crate::mysql_shop::{self, MySqlShop};
use crate::{packages, process};

/// Reads tables and definitions, and writes them back; strongroom's own account may do neither.
const DUMPER: &str = "dumper";

fn folder() -> anyhow::Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("strongroom-dumps-").tempdir()?;
    strongroom_testkit::account::Account::ordinary().own(folder.path())?;
    Ok(folder)
}

fn make_account(server: &MySqlServer) -> anyhow::Result<()> {
    server
        .sql(&format!(
            "CREATE USER IF NOT EXISTS '{DUMPER}'@'%' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON *.* TO '{DUMPER}'@'%'"
        ))
        .map(drop)
}

/// An empty server is started and fed; answers what that cost and what the server then holds.
fn fed(feed: impl FnOnce(&MySqlServer) -> anyhow::Result<Cost>) -> anyhow::Result<(Cost, Digests)> {
    let begun = Instant::now();
    let server = MySqlServer::start(&mysql_shop::options())?;
    make_account(&server)?;
    let started_s = begun.elapsed().as_secs_f64();
    let cost = feed(&server)?;
    Ok((Cost { wall_s: cost.wall_s + started_s, ..cost }, mysql_shop::digests(&server)?))
}

/// One session, one statement after the other, through zstd.
pub(super) struct MySqlDump {
    folder: TempDir,
}

impl MySqlDump {
    pub(super) fn new(_shop: &MySqlShop) -> anyhow::Result<Self> {
        packages::ensure(&["zstd"], "the output of mysqldump is compressed by it", || {
            process::exists("zstd")
        })?;
        Ok(Self { folder: folder()? })
    }

    fn place(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.sql.zst"))
    }
}

/// A shell of the server's account; `$1` is a tool of the server, `$2` its socket, `$3` the file.
fn shell(server: &MySqlServer, tool: &str, file: &PathBuf, script: &str) -> anyhow::Result<Command> {
    let tool = server.tool(tool)?.get_program().to_owned();
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(tool).arg(server.socket()).arg(file);
    Ok(command)
}

impl Tool for MySqlDump {
    fn name(&self) -> &'static str {
        "mysqldump, zst 1"
    }

    fn back_up(&mut self, shop: &MySqlShop, name: &str) -> anyhow::Result<Cost> {
        const SCRIPT: &str = "\"$1\" --no-defaults --user=root --socket=\"$2\" --single-transaction --quick --routines \
             --events --set-gtid-purged=OFF --databases shop | zstd -q -1 > \"$3\" && sync \"$3\"";
        let mut command = shell(&shop.server, "mysqldump", &self.place(name), SCRIPT)?;
        growth(self.folder.path(), || meter::command(&mut command, shop.server.pid()))
    }

    fn restore(&mut self, _shop: &MySqlShop, name: &str) -> anyhow::Result<(Cost, Digests)> {
        const SCRIPT: &str = "zstd -qdc \"$3\" | \"$1\" --no-defaults --user=root --socket=\"$2\"";
        fed(|server| meter::command(&mut shell(server, "mysql", &self.place(name), SCRIPT)?, server.pid()))
    }
}

/// Two sessions, a file for each table or piece of one.
pub(super) struct MyDumper {
    folder: TempDir,
    programs: PathBuf,
}

impl MyDumper {
    pub(super) fn new(shop: &MySqlShop) -> anyhow::Result<Self> {
        packages::ensure(&["debootstrap"], "it unpacks a Debian suite", || process::exists("debootstrap"))?;
        make_account(&shop.server)?;
        Ok(Self { folder: folder()?, programs: debian::ensure_mydumper()? })
    }

    fn command(&self, program: &str, server: &MySqlServer) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.arg(format!("--socket={}", server.socket().display()));
        // Its library looks for the way to log in where Debian installs it, not where it was unpacked.
        command.env("MARIADB_PLUGIN_DIR", self.programs.join("../lib/x86_64-linux-gnu/libmariadb3/plugin"));
        command.args(["--user", DUMPER, "--password", PASSWORD, "--threads=2"]);
        command
    }
}

impl Tool for MyDumper {
    fn name(&self) -> &'static str {
        "mydumper, 2 threads, zst"
    }

    fn back_up(&mut self, shop: &MySqlShop, name: &str) -> anyhow::Result<Cost> {
        let mut command = self.command("mydumper", &shop.server);
        command.args(["--database=shop", "--compress=ZSTD", "--rows=500000", "--outputdir"]);
        command.arg(self.folder.path().join(name));
        growth(self.folder.path(), || meter::command(&mut command, shop.server.pid()))
    }

    fn restore(&mut self, _shop: &MySqlShop, name: &str) -> anyhow::Result<(Cost, Digests)> {
        fed(|server| {
            let mut command = self.command("myloader", server);
            command.arg("--directory").arg(self.folder.path().join(name));
            meter::command(&mut command, server.pid())
        })
    }
}
