//! Looks at a source before anything is saved: what is there, what is missing, and the exact
//! statement that mends it.

use std::time::Duration;

use strongroom_core::engine::{CancelToken, CheckLine, Probe, Source, SourceIdentity};
use strongroom_core::{Error, ErrorKind, Result};

use crate::backup::elsewhere;
use crate::clone;
use crate::connection::{Connection, Watch};
use crate::dump;
use crate::facts::EmptyTable;
use crate::fault::{Fault, Foreign, ServerError, code};
use crate::remedy::Account;
use crate::server::{self, Settings, Version};

/// Time for the whole check.
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections that one backup takes.
const CONNECTIONS_NEEDED: u32 = 2;

/// Statements that a line of the check holds.
const GRANTS_MAX: usize = 20;

/// Switches GTIDs on, without a restart.
pub(crate) const GTIDS_ON: &str = "SET PERSIST enforce_gtid_consistency = ON; SET PERSIST gtid_mode = OFF_PERMISSIVE; \
     SET PERSIST gtid_mode = ON_PERMISSIVE; SET PERSIST gtid_mode = ON;";

pub(crate) fn run(source: &Source, cancel: &CancelToken) -> Result<Probe> {
    let watch = Watch::new(cancel).with_deadline(PROBE_TIMEOUT);
    let mut check = Check { source, watch, identity: None, lines: Vec::new() };
    match Connection::open(source, &watch) {
        Ok(connection) => check.look_through(connection)?,
        Err(Fault::Server(refusal)) => check.explain_login(&refusal),
        Err(Fault::Foreign(foreign)) => check.explain_foreign(&foreign),
        Err(fault) => check.explain_failed_reach(fault.into())?,
    }
    Ok(Probe { identity: check.identity, lines: check.lines })
}

struct Check<'a> {
    source: &'a Source,
    watch: Watch<'a>,
    identity: Option<SourceIdentity>,
    lines: Vec<CheckLine>,
}

impl Check<'_> {
    fn look_through(&mut self, mut connection: Connection) -> Result<()> {
        self.add_reach(&connection);
        let version = connection.greeting()?.version;
        self.add_version(version);
        let settings = match Settings::read(&mut connection, &self.watch) {
            Ok(settings) => settings,
            Err(Fault::Server(refusal)) => {
                self.explain_login(&refusal);
                return Ok(());
            }
            Err(fault) => return Err(fault.into()),
        };
        self.identity = Some(settings.identity()?);
        self.add(CheckLine::ok("login", format!("{} is let in", self.source.user)));
        let account = server::account(&mut connection, &self.watch)?;
        let has_plugin = self.add_plugin(&mut connection)?;
        self.add_right(&mut connection, &account, has_plugin)?;
        self.add_connections(&settings)?;
        self.add_other_engines(&mut connection, &account)?;
        self.add_persisted(&mut connection, &account)?;
        self.add_gtids(&settings);
        Ok(())
    }

    /// Whether the plugin is there and active.
    fn add_plugin(&mut self, connection: &mut Connection) -> Result<bool> {
        let statement = "SELECT PLUGIN_STATUS FROM information_schema.PLUGINS WHERE PLUGIN_NAME = 'clone'";
        let rows = connection.query(statement, &self.watch)?;
        let found = rows.first().map(|row| row.text(0)).transpose()?.unwrap_or("not installed");
        if found == "ACTIVE" {
            self.add(CheckLine::ok("clone plugin", "active"));
            return Ok(true);
        }
        let (found, remedy) = if rows.is_empty() {
            ("not installed".to_owned(), "INSTALL PLUGIN clone SONAME 'mysql_clone.so';")
        } else {
            let again = "UNINSTALL PLUGIN clone; INSTALL PLUGIN clone SONAME 'mysql_clone.so';";
            (found.to_lowercase(), again)
        };
        self.add(CheckLine {
            remedy: Some(remedy.to_owned()),
            why: Some("The server itself sends its files through it; no restart is needed.".to_owned()),
            ..CheckLine::missing("clone plugin", found, "active")
        });
        Ok(false)
    }

    /// The way a backup will go: the server answers whether we may.
    fn add_right(&mut self, connection: &mut Connection, account: &Account, has_plugin: bool) -> Result<()> {
        let remedy = account.grant("BACKUP_ADMIN", "*.*");
        let lacking = |found: String| CheckLine {
            remedy: Some(remedy.clone()),
            why: Some("It lets an account take a copy of all data, and nothing else.".to_owned()),
            ..CheckLine::missing("backup right", found, "BACKUP_ADMIN")
        };
        if !has_plugin {
            let statement = "SELECT COUNT(*) FROM information_schema.USER_PRIVILEGES WHERE PRIVILEGE_TYPE = 'BACKUP_ADMIN'";
            let is_granted = connection.query_value(statement, &self.watch)? != "0";
            self.add(if is_granted {
                CheckLine::ok("backup right", "granted")
            } else {
                lacking("not granted".to_owned())
            });
            return Ok(());
        }
        let mut second = Connection::open(self.source, &self.watch)?;
        let line = match second.enter_clone(&self.watch) {
            Ok(()) => {
                clone::leave(&mut second, &self.watch)?;
                CheckLine::ok("backup right", "granted")
            }
            Err(Fault::Server(error)) if error.code == code::RIGHT_MISSING => {
                lacking("not granted".to_owned())
            }
            Err(Fault::Server(error)) => {
                CheckLine::missing("clone", error.quoted(), "an answer to COM_CLONE")
            }
            Err(fault) => return Err(fault.into()),
        };
        self.add(line);
        Ok(())
    }

    fn add_connections(&mut self, settings: &Settings) -> Result<()> {
        let limit = settings.get("max_connections").to_owned();
        let line = match Connection::open(self.source, &self.watch) {
            Ok(_) => CheckLine::ok("connections", format!("{CONNECTIONS_NEEDED} free of {limit}")),
            Err(Fault::Server(error)) => {
                let wanted = limit.parse::<u32>().unwrap_or(150).saturating_add(CONNECTIONS_NEEDED);
                let remedy = match error.code {
                    code::TOO_MANY_CONNECTIONS => Some(format!("SET PERSIST max_connections = {wanted};")),
                    _ => None,
                };
                CheckLine {
                    remedy,
                    why: Some("One carries the data, on the other its ends are acknowledged.".to_owned()),
                    ..CheckLine::missing(
                        "connections",
                        error.quoted(),
                        format!("{CONNECTIONS_NEEDED} at a time"),
                    )
                }
            }
            Err(fault) => return Err(fault.into()),
        };
        self.add(line);
        Ok(())
    }

    fn add_other_engines(&mut self, connection: &mut Connection, account: &Account) -> Result<()> {
        let found = elsewhere::look(connection, &self.watch)?;
        let why = "A clone holds InnoDB tables only: tables of other engines come back empty.";
        if let Some(first) = found.tables.first() {
            let named: Vec<_> = found.tables.iter().collect();
            self.add(CheckLine {
                remedy: Some(format!("ALTER TABLE {} ENGINE = InnoDB;", first.quoted())),
                why: Some(why.to_owned()),
                ..CheckLine::warning(
                    "other engines",
                    format!(
                        "{}: {}",
                        dump::count_in_words(named.len() as u64 + found.unlisted),
                        dump::named(&named, found.unlisted)
                    ),
                    "InnoDB tables only",
                )
            });
            self.add_rows_beside(connection, account, &found.tables)?;
        }
        self.add(if found.is_complete {
            CheckLine::ok("tables of other engines", "would be seen")
        } else {
            CheckLine {
                remedy: Some(account.grant("REFERENCES", "*.*")),
                why: Some(format!(
                    "{why} To tell of them their names must be seen, for which any right on them is enough."
                )),
                ..CheckLine::warning(
                    "tables of other engines",
                    "names of tables are not seen",
                    "a right on all tables",
                )
            }
        });
        Ok(())
    }

    /// Whose rows are read into a file beside the copy.
    fn add_rows_beside(
        &mut self,
        connection: &mut Connection,
        account: &Account,
        tables: &[EmptyTable],
    ) -> Result<()> {
        const WHAT: &str = "rows of other engines";
        let closed = elsewhere::closed(connection, tables, &self.watch)?;
        if closed.is_empty() {
            self.add(CheckLine::ok(WHAT, "would be dumped beside the copy"));
            return Ok(());
        }
        let grants: Vec<String> =
            closed.iter().take(GRANTS_MAX).map(|table| account.grant("SELECT", &table.quoted())).collect();
        self.add(CheckLine {
            remedy: Some(grants.join(" ")),
            why: Some(
                "Rows that the account may read are dumped into a file beside the copy, each table with its own moment."
                    .to_owned(),
            ),
            ..CheckLine::warning(
                WHAT,
                format!("not readable, and not dumped: {}", dump::named(&closed, 0)),
                "SELECT on these tables",
            )
        });
        Ok(())
    }

    fn add_persisted(&mut self, connection: &mut Connection, account: &Account) -> Result<()> {
        let line = match server::persisted(connection, &self.watch)? {
            Some(persisted) => {
                CheckLine::ok("persisted variables", format!("{} to be recorded", persisted.len()))
            }
            None => CheckLine {
                remedy: Some(account.grant("SELECT", "performance_schema.persisted_variables")),
                why: Some(
                    "What SET PERSIST has set is in a file that no clone holds; it can be recorded."
                        .to_owned(),
                ),
                ..CheckLine::warning("persisted variables", "not readable", "readable")
            },
        };
        self.add(line);
        Ok(())
    }

    fn add_gtids(&mut self, settings: &Settings) {
        let mode = settings.get("gtid_mode");
        self.add(if mode == "ON" {
            CheckLine::ok("gtid_mode", mode)
        } else {
            CheckLine {
                remedy: Some(GTIDS_ON.to_owned()),
                why: Some("Without it a copy does not say which transactions it holds.".to_owned()),
                ..CheckLine::warning("gtid_mode", mode, "ON")
            }
        });
    }

    fn add_version(&mut self, version: Version) {
        let found = format!("MySQL {}", version.text());
        self.add(if version.major > Version::NEWEST_TRIED {
            CheckLine {
                why: Some("This release is newer than those that were tried.".to_owned()),
                ..CheckLine::warning("version", found, "MySQL 8.0.27 to 9")
            }
        } else {
            CheckLine::ok("version", found)
        });
    }

    /// The server let nobody in.
    fn explain_login(&mut self, refusal: &ServerError) {
        self.add(CheckLine::ok(self.reach(), "answers"));
        let user = &self.source.user;
        let account = Account::new(user, refusal.client_host().unwrap_or("%"));
        let line = match refusal.code {
            code::ACCESS_DENIED | code::ACCESS_DENIED_NO_PASSWORD => CheckLine {
                remedy: Some(format!("{} or: {}", account.alter("IDENTIFIED BY '...'"), account.create())),
                why: Some(
                    "The server does not tell a wrong password from an account that does not exist."
                        .to_owned(),
                ),
                ..CheckLine::missing(
                    "login",
                    format!("refused for {user}: wrong password or no such account"),
                    "the right password",
                )
            },
            code::HOST_NOT_ALLOWED => CheckLine {
                remedy: Some(account.create()),
                ..CheckLine::missing("login", refusal.quoted(), "an account that may come from here")
            },
            code::HOST_BLOCKED => CheckLine {
                remedy: Some("TRUNCATE TABLE performance_schema.host_cache;".to_owned()),
                ..CheckLine::missing("login", refusal.quoted(), "a host that is not blocked")
            },
            code::ACCOUNT_LOCKED => CheckLine {
                remedy: Some(account.alter("ACCOUNT UNLOCK")),
                ..CheckLine::missing("login", refusal.quoted(), "an account that is not locked")
            },
            code::PASSWORD_MUST_CHANGE | code::PASSWORD_EXPIRED => CheckLine {
                remedy: Some(account.alter("IDENTIFIED BY '...' PASSWORD EXPIRE NEVER")),
                ..CheckLine::missing("login", refusal.quoted(), "a password that has not expired")
            },
            code::INSECURE_TRANSPORT => CheckLine {
                remedy: Some("register the instance with tls require or verify-full".to_owned()),
                ..CheckLine::missing("login", refusal.quoted(), "TLS")
            },
            code::TOO_MANY_CONNECTIONS | code::TOO_MANY_USER_CONNECTIONS => CheckLine {
                remedy: Some("SET PERSIST max_connections = @@max_connections + 10;".to_owned()),
                ..CheckLine::missing("connections", refusal.quoted(), format!("{CONNECTIONS_NEEDED} free"))
            },
            _ => CheckLine::missing("login", refusal.quoted(), "an account that may log in"),
        };
        self.add(line);
    }

    fn explain_foreign(&mut self, foreign: &Foreign) {
        self.add(CheckLine::ok(self.reach(), "answers"));
        let what = match foreign {
            Foreign::MariaDb { .. } => "clone protocol",
            Foreign::TooOld { .. } => "version",
        };
        self.add(CheckLine {
            why: Some(foreign.obstacle().to_owned()),
            ..CheckLine::missing(what, foreign.found(), "MySQL 8.0.27 or newer")
        });
    }

    /// TCP, TLS or the login's rules failed before the server said a word about the account.
    fn explain_failed_reach(&mut self, error: Error) -> Result<()> {
        if error.kind() != ErrorKind::SourceRefused {
            return Err(error);
        }
        self.add(CheckLine {
            remedy: error.hint().map(str::to_owned),
            ..CheckLine::missing(self.reach(), error.public(), "a protected login")
        });
        Ok(())
    }

    fn add(&mut self, line: CheckLine) {
        self.lines.push(line);
    }

    fn reach(&self) -> String {
        format!("reach {}:{}", self.source.host, self.source.port)
    }

    fn add_reach(&mut self, connection: &Connection) {
        let found = connection.protection(self.source.tls);
        let is_local = connection.local_address().is_some_and(|address| address.is_loopback());
        let line = if connection.session().is_some() || is_local {
            CheckLine::ok(self.reach(), found)
        } else {
            CheckLine {
                remedy: Some("register the instance with tls verify-full".to_owned()),
                why: Some("The whole database crosses the network readable.".to_owned()),
                ..CheckLine::warning(self.reach(), found, "TLS")
            }
        };
        self.add(line);
    }
}
