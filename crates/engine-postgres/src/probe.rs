//! Looks at a source before anything is saved: what is there, what is missing, and the exact
//! statement that mends it.

use std::time::Duration;

use strongroom_core::engine::{CancelToken, CheckLine, Probe, Source, SourceIdentity, TlsMode};
use strongroom_core::time::Randomness;
use strongroom_core::{Error, ErrorKind, Result};

use crate::connection::{Connection, Purpose, Watch};
use crate::fault::{Fault, ServerError};
use crate::remedy::{self, TakesEffect, quote_identifier};
use crate::server::{self, Settings, Version};

/// Time for the whole check.
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);

/// WAL senders that one backup takes: one for the copy, one for the log.
const SENDERS_NEEDED: u32 = 2;

pub(crate) fn run(random: &dyn Randomness, source: &Source, cancel: &CancelToken) -> Result<Probe> {
    let watch = Watch::new(cancel).with_deadline(PROBE_TIMEOUT);
    let mut check = Check { random, source, watch, identity: None, lines: Vec::new() };
    check.run()?;
    Ok(Probe { identity: check.identity, lines: check.lines })
}

struct Check<'a> {
    random: &'a dyn Randomness,
    source: &'a Source,
    watch: Watch<'a>,
    identity: Option<SourceIdentity>,
    lines: Vec<CheckLine>,
}

impl Check<'_> {
    fn run(&mut self) -> Result<()> {
        match Connection::open(self.source, Purpose::Replication, &self.watch) {
            Ok(connection) => self.look_through_replication(connection),
            Err(Fault::Server(refusal)) => self.look_through_sql(&refusal),
            Err(fault) => self.explain_failed_reach(fault.into()),
        }
    }

    /// The way a backup will go is open.
    fn look_through_replication(&mut self, mut connection: Connection) -> Result<()> {
        self.add_reach(&connection);
        let system = server::identify(&mut connection, &self.watch)?;
        let settings = Settings::read(&mut connection, &self.watch)?;
        let version = settings.version()?;
        self.identity = Some(server::source_identity(system, version));
        self.add_version(version);
        self.add(CheckLine::ok("replication right", "granted"));
        self.add(CheckLine::ok("replication access", "allowed by pg_hba.conf"));
        self.add_wal_level(&settings);
        let second = Connection::open(self.source, Purpose::Replication, &self.watch);
        self.add_senders(&settings, second.as_ref().err())?;
        if let Ok(mut second) = second {
            self.add_slots(&mut second)?;
        }
        self.add_settings(&settings);
        Ok(())
    }

    /// Replication was refused; what else can be said comes from an ordinary session.
    fn look_through_sql(&mut self, refusal: &ServerError) -> Result<()> {
        // One wrong password is enough; more would lock an account.
        let mut sql = if refusal.is_wrong_password() { None } else { self.open_sql()? };
        let is_encrypted = match &sql {
            Some(connection) => connection.session().is_some(),
            None => self.source.tls != TlsMode::Disable,
        };
        match &sql {
            Some(connection) => self.add_reach(connection),
            None => self.add(CheckLine::ok(self.reach(), "answers")),
        }
        if let Some(connection) = &mut sql {
            let version = Version::parse(&server::show(connection, "server_version_num", &self.watch)?)?;
            self.identity = self.identity_by_sql(connection, version)?;
            self.add_version(version);
        }
        let line = self.explain_refusal(refusal, sql.as_ref(), is_encrypted);
        self.add(line);
        if let Some(mut connection) = sql {
            let settings = Settings::read(&mut connection, &self.watch)?;
            self.add_wal_level(&settings);
            self.add_settings(&settings);
        }
        Ok(())
    }

    /// A session in a database that most clusters have; `None` when none lets us in.
    fn open_sql(&self) -> Result<Option<Connection>> {
        for database in ["postgres", "template1", self.source.user.as_str()] {
            match Connection::open(self.source, Purpose::Sql { database }, &self.watch) {
                Ok(connection) => return Ok(Some(connection)),
                Err(Fault::Server(error)) if error.is_wrong_password() => return Ok(None),
                Err(Fault::Server(_)) => {}
                Err(fault) => return Err(fault.into()),
            }
        }
        Ok(None)
    }

    fn identity_by_sql(
        &self,
        connection: &mut Connection,
        version: Version,
    ) -> Result<Option<SourceIdentity>> {
        let statement = "SELECT system_identifier FROM pg_catalog.pg_control_system()";
        match connection.query_value(statement, &self.watch) {
            Ok(identifier) => Ok(Some(SourceIdentity {
                engine: strongroom_core::engine::EngineKind::PostgreSql,
                version: version.text(),
                system_identifier: identifier,
            })),
            // The function may have been taken from ordinary roles.
            Err(Fault::Server(_)) => Ok(None),
            Err(fault) => Err(fault.into()),
        }
    }

    /// TCP, TLS or the login's rules failed before the server said a word about replication.
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

    fn explain_refusal(
        &self,
        refusal: &ServerError,
        sql: Option<&Connection>,
        is_encrypted: bool,
    ) -> CheckLine {
        let user = &self.source.user;
        if refusal.is_wrong_password() {
            return CheckLine {
                remedy: Some(format!("ALTER ROLE {} PASSWORD '...';", quote_identifier(user))),
                why: Some(
                    "The server does not tell a wrong password from a role that does not exist.".to_owned(),
                ),
                ..CheckLine::missing(
                    "login",
                    format!("refused for role {user}: wrong password or no such role"),
                    "the right password",
                )
            };
        }
        if refusal.is_missing_hba_entry() {
            let client = refusal.client_address().or_else(|| sql.and_then(Connection::local_address));
            return CheckLine {
                remedy: Some(format!(
                    "add to pg_hba.conf, then SELECT pg_reload_conf();   {}",
                    remedy::hba_line("replication", user, client, is_encrypted)
                )),
                why: Some(
                    "The word \"all\" in pg_hba.conf does not cover replication connections.".to_owned(),
                ),
                ..CheckLine::missing(
                    "replication access",
                    refusal.quoted(),
                    "a line for replication in pg_hba.conf",
                )
            };
        }
        if refusal.is_unknown_role() {
            return CheckLine {
                remedy: Some(format!(
                    "CREATE ROLE {} LOGIN REPLICATION PASSWORD '...';",
                    quote_identifier(user)
                )),
                ..CheckLine::missing("login", refusal.quoted(), "a role that may log in")
            };
        }
        if refusal.is_missing_right() {
            return CheckLine {
                remedy: Some(remedy::grant_replication(user)),
                why: Some("Physical backups and point-in-time recovery need it.".to_owned()),
                ..CheckLine::missing("replication right", "not granted", "REPLICATION")
            };
        }
        if refusal.is_out_of_connections() {
            return senders_missing(refusal, None);
        }
        CheckLine::missing("replication", refusal.quoted(), "a replication connection")
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
                remedy: Some("set ssl = on at the source and register it with tls verify-full".to_owned()),
                why: Some("The whole database crosses the network readable.".to_owned()),
                ..CheckLine::warning(self.reach(), found, "TLS")
            }
        };
        self.add(line);
    }

    fn add_version(&mut self, version: Version) {
        let found = format!("PostgreSQL {}", version.text());
        let line = match version.obstacle() {
            None => CheckLine::ok("version", found),
            Some(obstacle) => CheckLine {
                why: Some(obstacle.to_owned()),
                ..CheckLine::missing("version", found, "PostgreSQL 13 to 18")
            },
        };
        self.add(line);
    }

    fn add_wal_level(&mut self, settings: &Settings) {
        let level = settings.get("wal_level");
        let line = if level == "minimal" {
            CheckLine {
                remedy: Some(remedy::change_setting("wal_level", "replica", TakesEffect::Restart)),
                why: Some("The log of a minimal level cannot make a copy consistent.".to_owned()),
                ..CheckLine::missing("wal_level", level, "replica or logical")
            }
        } else {
            CheckLine::ok("wal_level", level)
        };
        self.add(line);
    }

    fn add_senders(&mut self, settings: &Settings, refusal: Option<&Fault>) -> Result<()> {
        let limit = settings.get("max_wal_senders");
        let line = match refusal {
            None => CheckLine::ok("WAL senders", format!("{SENDERS_NEEDED} free of {limit}")),
            Some(fault) => match fault.server() {
                Some(error) if error.is_out_of_connections() => senders_missing(error, limit.parse().ok()),
                Some(error) => {
                    CheckLine::missing("WAL senders", error.quoted(), format!("{SENDERS_NEEDED} free"))
                }
                None => {
                    return Err(Error::new(
                        ErrorKind::SourceUnreachable,
                        "The second connection to the source failed.",
                    ));
                }
            },
        };
        self.add(line);
        Ok(())
    }

    /// Only making a slot shows that there is room for one; it goes with the connection.
    fn add_slots(&mut self, connection: &mut Connection) -> Result<()> {
        let mut suffix = [0; 8];
        self.random.fill(&mut suffix);
        let name = quote_identifier(&format!("strongroom_check_{}", hex::encode(suffix)));
        let command = format!("CREATE_REPLICATION_SLOT {name} TEMPORARY PHYSICAL");
        let line = match connection.query(&command, &self.watch) {
            Ok(_) => CheckLine::ok("replication slots", "one is free"),
            Err(Fault::Server(error)) => CheckLine {
                remedy: Some(remedy::change_setting("max_replication_slots", "10", TakesEffect::Restart)),
                why: Some(
                    "A slot keeps the log that a running backup needs; it is dropped when the backup ends."
                        .to_owned(),
                ),
                ..CheckLine::missing("replication slots", error.quoted(), "one free")
            },
            Err(fault) => return Err(fault.into()),
        };
        self.add(line);
        Ok(())
    }

    fn add_settings(&mut self, settings: &Settings) {
        let is_standby = settings.is_on("in_hot_standby");
        if !settings.is_on("full_page_writes") && is_standby {
            self.add(CheckLine {
                remedy: Some(remedy::change_setting("full_page_writes", "on", TakesEffect::Reload)),
                why: Some("A backup of a standby fails unless its primary writes full pages.".to_owned()),
                ..CheckLine::warning("full_page_writes", "off", "on, at the primary")
            });
        }
        self.add(if settings.is_on("data_checksums") {
            CheckLine::ok("page checksums", "on")
        } else {
            CheckLine {
                remedy: Some(
                    "stop the server, then run: pg_checksums --enable -D <data directory>".to_owned(),
                ),
                why: Some("Without them, damage that is already in the source cannot be seen.".to_owned()),
                ..CheckLine::warning("page checksums", "off", "on")
            }
        });
        self.add_summaries(settings);
        if settings.get("in_hot_standby").is_empty() {
            // PostgreSQL 13 does not say it here; its backups do.
            return;
        }
        self.add(if is_standby {
            CheckLine {
                why: Some(
                    "A copy of a standby is as old as the standby, and fails when it is promoted meanwhile."
                        .to_owned(),
                ),
                ..CheckLine::warning("role", "standby", "primary")
            }
        } else {
            CheckLine::ok("role", "primary")
        });
    }
}

impl Check<'_> {
    /// Where the server can note which blocks its log changes, it should.
    fn add_summaries(&mut self, settings: &Settings) {
        let line = match settings.get("summarize_wal") {
            "" => return,
            "on" => CheckLine::ok("changed blocks", "summarize_wal is on"),
            found => CheckLine {
                remedy: Some(remedy::change_setting("summarize_wal", "on", TakesEffect::Reload)),
                why: Some(
                    "With it, a backup reads only the blocks that changed since the one before; without it, every file."
                        .to_owned(),
                ),
                ..CheckLine::warning("changed blocks", format!("summarize_wal is {found}"), "on")
            },
        };
        self.add(line);
    }
}

fn senders_missing(refusal: &ServerError, limit: Option<u32>) -> CheckLine {
    let wanted = limit.unwrap_or(8) + SENDERS_NEEDED;
    CheckLine {
        remedy: Some(remedy::change_setting("max_wal_senders", &wanted.to_string(), TakesEffect::Restart)),
        why: Some("One backup takes two: one for the copy, one for the log.".to_owned()),
        ..CheckLine::missing("WAL senders", refusal.quoted(), format!("{SENDERS_NEEDED} free"))
    }
}
