//! The databases whose log is captured: a shop, and what its writers write.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::WRITERS;
use crate::cluster::{self, PASSWORD, ROLE, Shop, Text};
use crate::database::{Database, Engine};
use crate::mysql_shop::MySqlShop;
use crate::process;

/// Of the shop before anybody writes.
const GB: f64 = 0.1;
/// Notes of orders in the text of one page, some 500 characters.
const NOTES: u64 = 8;
/// Pages that one transaction writes again, and orders that it changes beside.
const TAKEN: u64 = 50;
const CHANGED: u64 = 10;
/// Of PostgreSQL's log.
const SEGMENT_BYTES: u64 = 16 << 20;
const PAGE_BYTES: u64 = 8192;
/// The slot of the tool.
const SLOT: &str = "receiver";
/// More than any run writes: nothing goes that is to be compared.
const KEPT: &str = "64GB";

/// A place in the log, as our API tells it: the number of a file, and an offset in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) file: u64,
    pub(super) offset: u64,
}

/// A running server with writers.
pub(super) trait Source: Sync {
    fn engine(&self) -> Engine;

    fn version(&self) -> anyhow::Result<String>;

    fn port(&self) -> u16;

    /// A folder of the server's account.
    fn make_folder(&self, name: &str) -> anyhow::Result<PathBuf>;

    /// Small transactions, one after another without a pause, all of them in the server.
    fn write(&self, writer: u32, seconds: u64) -> anyhow::Result<()>;

    /// How many of them there were.
    fn transactions(&self) -> anyhow::Result<u64>;

    /// Where the log ends now.
    fn end(&self) -> anyhow::Result<Place>;

    /// Bytes of log from one place to a later one.
    fn bytes(&self, from: Place, until: Place) -> anyhow::Result<u64>;

    /// The name of a file of log, by its number.
    fn file_name(&self, number: u64) -> String;

    /// Where the server's own files of log are.
    fn log_folder(&self) -> PathBuf;

    /// The field's own tool, as it receives log from now on, and its name.
    fn tool(&self, folder: &Path) -> anyhow::Result<(&'static str, Command)>;

    /// Up to where the files in a folder of the tool are written.
    fn reached(&self, folder: &Path) -> anyhow::Result<Place>;

    /// What a receiver need not have as the server has it.
    fn forgive(&self, _file: &mut [u8]) {}
}

pub(super) fn open(engine: Engine) -> anyhow::Result<Box<dyn Source>> {
    Ok(match engine {
        Engine::Postgresql => Box::new(Postgres::open()?),
        Engine::Mysql => Box::new(MySql::open()?),
    })
}

/// The pages that a writer takes from, so that no two of them meet: the first, and how many may be it.
fn share(pages: u64, writer: u32) -> (u64, u64) {
    let each = pages / u64::from(WRITERS);
    (u64::from(writer) * each, each - TAKEN)
}

struct Postgres {
    shop: Shop,
    pages: u64,
}

impl Postgres {
    fn open() -> anyhow::Result<Self> {
        let mut options = cluster::options(false);
        options.conf.extend([format!("max_slot_wal_keep_size = {KEPT}"), format!("wal_keep_size = {KEPT}")]);
        let mut shop = Shop::open(cluster::installed_version()?, &options)?;
        shop.fill(GB, Text::Words)?;
        let sql = |statement: &str| shop.server.psql("shop", statement);
        sql(&format!(
            "CREATE TABLE pages AS SELECT id / {NOTES} AS id, string_agg(note, ' ') AS body FROM orders GROUP BY 1"
        ))?;
        sql("ALTER TABLE pages ADD PRIMARY KEY (id)")?;
        sql("CREATE TABLE taken (number bigserial PRIMARY KEY, writer int NOT NULL, body text NOT NULL)")?;
        sql(&format!(
            "CREATE PROCEDURE take(who int, first bigint, count bigint, seconds int) LANGUAGE plpgsql AS $$
             DECLARE until timestamptz := clock_timestamp() + seconds * interval '1 second'; at bigint;
             BEGIN
               WHILE clock_timestamp() < until LOOP
                 at := first + (random() * count)::bigint;
                 INSERT INTO taken (writer, body) SELECT who, body FROM pages WHERE id > at AND id <= at + {TAKEN};
                 UPDATE orders SET amount = amount + 1 WHERE id > at * {NOTES} AND id <= at * {NOTES} + {CHANGED};
                 COMMIT;
               END LOOP;
             END $$"
        ))?;
        sql("CHECKPOINT")?;
        let pages = sql("SELECT max(id) FROM pages")?.parse().context("the number of pages")?;
        Ok(Self { shop, pages })
    }

    fn receivewal(&self) -> Command {
        let mut command = self.shop.server.tool("pg_receivewal");
        command.env("PGHOST", "127.0.0.1").env("PGUSER", ROLE).env("PGPASSWORD", PASSWORD);
        command.args(["--slot", SLOT]);
        command
    }

    /// A file that is written, and has its full length from the beginning: where what was written ends.
    /// That end may be zeros, as those behind it are; where the server's own file has nothing else up to its
    /// end, they are counted as written.
    fn written(&self, path: &Path, number: u64) -> anyhow::Result<Place> {
        let file = fs::File::open(path)?;
        let page = |at: u64| -> anyhow::Result<Vec<u8>> {
            let mut page = vec![0; usize::try_from(PAGE_BYTES)?];
            let mut have = 0;
            while let Some(rest) = page.get_mut(have..).filter(|rest| !rest.is_empty()) {
                match file.read_at(rest, at * PAGE_BYTES + u64::try_from(have)?)? {
                    0 => break,
                    count => have += count,
                }
            }
            Ok(page)
        };
        // A page begins with its mark.
        let is_begun = |at: u64| anyhow::Ok(page(at)?[..2] != [0, 0]);
        let (mut begun, mut empty) = (0, SEGMENT_BYTES / PAGE_BYTES);
        while begun < empty {
            let middle = u64::midpoint(begun, empty);
            if is_begun(middle)? { begun = middle + 1 } else { empty = middle }
        }
        let Some(last) = begun.checked_sub(1) else { return Ok(Place { file: number, offset: 0 }) };
        let used = page(last)?.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        let place =
            Place { file: number, offset: last * PAGE_BYTES + u64::try_from(used.next_multiple_of(8))? };
        let end = self.end()?;
        if place.file != end.file || place >= end {
            return Ok(place);
        }
        let mut own = vec![0; usize::try_from(end.offset - place.offset)?];
        let name = self.log_folder().join(self.file_name(number));
        fs::File::open(name)?.read_exact_at(&mut own, place.offset)?;
        Ok(if own.iter().all(|byte| *byte == 0) { end } else { place })
    }
}

impl Source for Postgres {
    fn engine(&self) -> Engine {
        Engine::Postgresql
    }

    fn version(&self) -> anyhow::Result<String> {
        Database::version(&self.shop)
    }

    fn port(&self) -> u16 {
        self.shop.server.port()
    }

    fn make_folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        self.shop.server.make_folder(name)
    }

    fn write(&self, writer: u32, seconds: u64) -> anyhow::Result<()> {
        let (first, count) = share(self.pages, writer);
        let call = format!("CALL take({writer}, {first}, {count}, {seconds})");
        self.shop.server.psql("shop", &call).map(drop)
    }

    fn transactions(&self) -> anyhow::Result<u64> {
        let rows: u64 = self.shop.server.psql("shop", "SELECT count(*) FROM taken")?.parse()?;
        Ok(rows / TAKEN)
    }

    fn end(&self) -> anyhow::Result<Place> {
        let end = self.shop.server.psql("postgres", "SELECT pg_current_wal_flush_lsn() - '0/0'::pg_lsn")?;
        let end: u64 = end.parse().context("the end of the log")?;
        Ok(Place { file: end / SEGMENT_BYTES, offset: end % SEGMENT_BYTES })
    }

    fn bytes(&self, from: Place, until: Place) -> anyhow::Result<u64> {
        let at = |place: Place| place.file * SEGMENT_BYTES + place.offset;
        at(until).checked_sub(at(from)).context("a place behind another one")
    }

    fn file_name(&self, number: u64) -> String {
        format!("00000001{:08X}{:08X}", number >> 8, number & 0xff)
    }

    fn log_folder(&self) -> PathBuf {
        self.shop.server.data_dir().join("pg_wal")
    }

    fn tool(&self, folder: &Path) -> anyhow::Result<(&'static str, Command)> {
        process::output(self.receivewal().arg("--create-slot"))?;
        let mut command = self.receivewal();
        command.arg("--no-loop").arg("--directory").arg(folder);
        Ok(("pg_receivewal", command))
    }

    fn reached(&self, folder: &Path) -> anyhow::Result<Place> {
        let Some(name) = newest(folder)? else { return Ok(Place { file: 0, offset: 0 }) };
        let (whole, is_whole) = name.strip_suffix(".partial").map_or((&*name, true), |whole| (whole, false));
        let part = |from: usize| {
            let digits = whole.get(from..from + 8).context("a name of a segment has 24 digits")?;
            u64::from_str_radix(digits, 16).context("a name of a segment")
        };
        let number = (part(8)? << 8) + part(16)?;
        if is_whole {
            return Ok(Place { file: number + 1, offset: 0 });
        }
        match self.written(&folder.join(&name), number) {
            // Its name has changed because it is whole now.
            Err(_) if !folder.join(&name).exists() => Ok(Place { file: number + 1, offset: 0 }),
            Ok(place) if place.offset == SEGMENT_BYTES => Ok(Place { file: number + 1, offset: 0 }),
            written => written,
        }
    }
}

struct MySql {
    shop: MySqlShop,
    pages: u64,
}

impl MySql {
    fn open() -> anyhow::Result<Self> {
        let mut shop = MySqlShop::open_logging()?;
        shop.fill(GB)?;
        let sql = |statements: &str| shop.server.sql(statements);
        sql(&format!(
            "CREATE TABLE shop.pages (id INT PRIMARY KEY, body TEXT NOT NULL); \
             INSERT INTO shop.pages SELECT id DIV {NOTES} AS page, GROUP_CONCAT(note SEPARATOR ' ') FROM shop.orders GROUP BY page; \
             CREATE TABLE shop.taken (number BIGINT AUTO_INCREMENT PRIMARY KEY, writer INT NOT NULL, body TEXT NOT NULL)"
        ))?;
        // The client ends a statement at its delimiter, which the procedure has within.
        sql(&format!(
            "DELIMITER //\n\
             CREATE PROCEDURE shop.take(who INT, first BIGINT, pages BIGINT, seconds INT)\n\
             BEGIN\n\
               DECLARE finish DATETIME(6) DEFAULT SYSDATE(6) + INTERVAL seconds SECOND;\n\
               DECLARE here BIGINT;\n\
               SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;\n\
               WHILE SYSDATE(6) < finish DO\n\
                 SET here = first + FLOOR(RAND() * pages);\n\
                 START TRANSACTION;\n\
                 INSERT INTO shop.taken (writer, body) SELECT who, body FROM shop.pages WHERE id > here AND id <= here + {TAKEN};\n\
                 UPDATE shop.orders SET amount = amount + 1 WHERE id > here * {NOTES} AND id <= here * {NOTES} + {CHANGED};\n\
                 COMMIT;\n\
               END WHILE;\n\
             END//\n\
             DELIMITER ;\n\
             FLUSH BINARY LOGS;"
        ))?;
        let pages = sql("SELECT MAX(id) FROM shop.pages")?.parse().context("the number of pages")?;
        Ok(Self { shop, pages })
    }
}

impl Source for MySql {
    fn engine(&self) -> Engine {
        Engine::Mysql
    }

    fn version(&self) -> anyhow::Result<String> {
        self.shop.version()
    }

    fn port(&self) -> u16 {
        self.shop.server.port()
    }

    fn make_folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        self.shop.server.make_folder(name)
    }

    fn write(&self, writer: u32, seconds: u64) -> anyhow::Result<()> {
        let (first, count) = share(self.pages, writer);
        self.shop.server.sql(&format!("CALL shop.take({writer}, {first}, {count}, {seconds})")).map(drop)
    }

    fn transactions(&self) -> anyhow::Result<u64> {
        let rows: u64 = self.shop.server.sql("SELECT COUNT(*) FROM shop.taken")?.parse()?;
        Ok(rows / TAKEN)
    }

    fn end(&self) -> anyhow::Result<Place> {
        let status = ["SHOW BINARY LOG STATUS", "SHOW MASTER STATUS"];
        let status = status.iter().find_map(|statement| self.shop.server.sql(statement).ok());
        let status = status.context("the server tells where its log ends")?;
        let mut fields = status.split('\t');
        let file = fields.next().and_then(number_of).context("a file of log")?;
        let offset = fields.next().and_then(|field| field.parse().ok()).context("a place in it")?;
        Ok(Place { file, offset })
    }

    fn bytes(&self, from: Place, until: Place) -> anyhow::Result<u64> {
        let mut before = 0;
        for number in from.file..until.file {
            before += fs::metadata(self.log_folder().join(self.file_name(number)))?.len();
        }
        (before + until.offset).checked_sub(from.offset).context("a place behind another one")
    }

    fn file_name(&self, number: u64) -> String {
        format!("binlog.{number:06}")
    }

    fn log_folder(&self) -> PathBuf {
        self.shop.server.data_dir().to_owned()
    }

    fn tool(&self, folder: &Path) -> anyhow::Result<(&'static str, Command)> {
        // What the server's other tools are told about it is not known to this one.
        let mut command = Command::new(self.shop.server.tool("mysqlbinlog")?.get_program());
        strongroom_testkit::account::Account::ordinary().apply(&mut command);
        command.args([
            "--no-defaults",
            "--read-from-remote-server",
            "--raw",
            "--stop-never",
            "--protocol=tcp",
        ]);
        command.args(["--host=127.0.0.1", &format!("--port={}", self.port()), "--user", ROLE]);
        command.env("MYSQL_PWD", PASSWORD);
        command.arg(format!("--result-file={}/", folder.display())).arg(self.file_name(self.end()?.file));
        Ok(("mysqlbinlog --raw", command))
    }

    fn reached(&self, folder: &Path) -> anyhow::Result<Place> {
        let Some(name) = newest(folder)? else { return Ok(Place { file: 0, offset: 0 }) };
        let Some(file) = number_of(&name) else { bail!("{name} is no file of log") };
        Ok(Place { file, offset: fs::metadata(folder.join(&name))?.len() })
    }

    fn forgive(&self, file: &mut [u8]) {
        // A mark of the first event that the server has the file open; it is not sent.
        if let Some(flags) = file.get_mut(4 + 17) {
            *flags &= !1;
        }
    }
}

fn number_of(name: &str) -> Option<u64> {
    name.rsplit_once('.')?.1.parse().ok()
}

fn newest(folder: &Path) -> anyhow::Result<Option<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    Ok(names.into_iter().max())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_writers_meet() {
        for writer in 1..WRITERS {
            let (before, count) = share(10_007, writer - 1);
            assert!(before + count + TAKEN <= share(10_007, writer).0);
        }
    }
}
