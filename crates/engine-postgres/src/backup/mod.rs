//! One backup: the copy of the files on one connection, the log it needs on another.
//!
//! The log connection comes first and holds a temporary slot, so nothing the copy will need can
//! be removed; the slot goes with the connection, whatever happens. Streaming starts as soon as
//! the server has said where the backup begins.

mod ancestor;
mod base;
mod block_list;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
pub(crate) mod history;
mod intake;
mod ledger;
mod manifest;
mod pages;
mod patching;
mod small;
pub(crate) mod wal;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use strongroom_core::engine::{BackupFacts, BackupOrder, BackupSink, PageDamage};
use strongroom_core::member::{Dedupe, Member, MemberKind, MemberPath};
use strongroom_core::parent::Reading;
use strongroom_core::time::Randomness;
use strongroom_core::{Error, ErrorKind, Retry};

use self::ancestor::{Ancestor, Examined};
use self::base::{Announcement, CopyStream, Framing, Piece};
use self::intake::{ClusterShape, ControlFile, Intake, KeptFiles, PatchCounts};
use self::manifest::ManifestFacts;
use self::pages::PageFindings;
use self::wal::{LogCapture, LogOrder};
use crate::connection::{Connection, Purpose, Watch};
use crate::facts::{FACTS_FORMAT, LogSegments, PageCounts, PostgresFacts, SourceRole, TablespaceFact, Text};
use crate::fault::{Fault, Result};
use crate::logs;
use crate::lsn::Lsn;
use crate::remedy::quote_identifier;
use crate::server::{self, Settings, System, Version};

/// While the base connection waits for its checkpoint, the server shows on the other one that
/// it is alive.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// Time for the server to get its checkpoint and its lists of changed blocks ready. A full stream
/// needs no lists, so it is not the end when they do not come.
const BLOCK_LISTS_TIMEOUT: Duration = Duration::from_mins(10);

/// Takes one backup.
pub(crate) fn run(
    random: &dyn Randomness,
    order: &BackupOrder<'_>,
    sink: &dyn BackupSink,
) -> strongroom_core::Result<BackupFacts> {
    let has_failed = AtomicBool::new(false);
    let watch = Watch::new(order.cancel).with_partner(&has_failed);
    order.progress.set_phase("connecting");
    let mut session = Session::open(random, order, &watch)?;
    order.progress.set_phase("checkpoint");
    let examined = session.examine(order, &watch)?;
    let (announcement, examined) = session.start_copy(order, examined, &watch)?;
    let first_segment = session.first_segment(&announcement)?;
    order.progress.set_total(announcement.size_bytes);

    order.progress.set_phase("copying");
    let needed_up_to = AtomicU64::new(0);
    let log_order = LogOrder {
        slot: &session.slot,
        system_identifier: session.system.identifier,
        timeline: session.system.timeline,
        segment_size: session.settings.log_segment_size()?,
        first_segment,
        needed_up_to: &needed_up_to,
    };
    let (log_connection, base_connection) = (&mut session.log, &mut session.base);
    let settings = &session.settings;
    let (log, copied) = std::thread::scope(|scope| {
        let log = scope.spawn(|| {
            let result = wal::capture(log_connection, sink, &log_order, &watch);
            has_failed.fetch_or(result.is_err(), Ordering::AcqRel);
            result
        });
        let ancestor = examined.as_ref().ok();
        let copy = Copy { connection: base_connection, sink, order, watch: &watch, announcement, ancestor };
        let copied = copy.run(settings, log_order.system_identifier);
        match &copied {
            Ok(copied) => {
                order.progress.set_phase("log");
                needed_up_to.store(copied.stop.0, Ordering::Release);
            }
            Err(_) => has_failed.store(true, Ordering::Release),
        }
        let log: Result<LogCapture> =
            log.join().unwrap_or_else(|_| Err(Fault::Domain(Error::internal("the log thread panicked"))));
        (log, copied)
    });
    let (copied, log) = both(copied, log)?;
    let history_files = history::capture(&mut session.base, sink, session.system.timeline, &watch)?;
    let began = history::beginning(&mut session.base, session.system.timeline, &watch)?;
    let log_point = logs::point(session.system, began, copied.stop, log_order.segment_size);
    let settings = serde_json::to_vec_pretty(session.settings.values()).map_err(Error::internal)?;
    small::store(sink, "meta/settings.json", &settings, Dedupe::Parent)?;
    Ok(BackupFacts { log: Some(log_point), ..session.facts(copied, log, history_files, &examined)? })
}

/// Of two failures tells the one that came first: the other side only saw the first one.
fn both(copied: Result<Copied>, log: Result<LogCapture>) -> Result<(Copied, LogCapture)> {
    match (copied, log) {
        (Ok(copied), Ok(log)) => Ok((copied, log)),
        (Err(Fault::Abandoned) | Ok(_), Err(fault)) | (Err(fault), _) => Err(fault),
    }
}

/// The two connections of a backup and what is known of the server behind them.
struct Session {
    log: Connection,
    base: Connection,
    slot: String,
    /// From where the slot holds log; servers before 15 do not tell.
    slot_position: Option<Lsn>,
    system: System,
    settings: Settings,
}

impl Session {
    fn open(random: &dyn Randomness, order: &BackupOrder<'_>, watch: &Watch<'_>) -> Result<Self> {
        let mut log = Connection::open(order.source, Purpose::Replication, watch)?;
        let system = server::identify(&mut log, watch)?;
        check_identity(order, system)?;
        let settings = Settings::read(&mut log, watch)?;
        settings.check_supported()?;
        let slot = slot_name(random, order);
        let slot_position = reserve_log(&mut log, &slot, settings.version()?, watch)?;
        let base = open_base(order, system, watch)?;
        Ok(Self { log, base, slot, slot_position, system, settings })
    }

    /// Whether this backup may be built on the one before it.
    fn examine<'o>(&mut self, order: &BackupOrder<'o>, watch: &Watch<'_>) -> Result<Examined<'o>> {
        ancestor::examine(order.parent, &mut self.base, self.system, &self.settings, watch)
    }

    /// Sends the command and waits through the checkpoint. Where the server will not build on the
    /// earlier backup, it is asked for everything instead.
    fn start_copy<'o>(
        &mut self,
        order: &BackupOrder<'o>,
        examined: Examined<'o>,
        watch: &Watch<'_>,
    ) -> Result<(Announcement, Examined<'o>)> {
        let is_spent = examined.is_ok();
        let reason = match examined {
            Err(reason) => reason,
            Ok(ancestor) => match self.start_from(&ancestor, order.label, watch) {
                Ok(Some(announcement)) => return Ok((announcement, Ok(ancestor))),
                Ok(None) => "the source did not have its lists of changed blocks ready in time".to_owned(),
                Err(fault) => ancestor::refusal(fault)?,
            },
        };
        if is_spent {
            self.base = open_base(order, self.system, watch)?;
        }
        self.base.start_command(&base::command(order.label, self.framing()?), watch)?;
        if !self.wait_for_answer(base::CHECKPOINT_TIMEOUT, watch)? {
            return Err(Fault::unreachable("The source did not finish its checkpoint in time."));
        }
        let framing = self.framing()?;
        Ok((base::read_announcement(&mut self.base, framing, watch)?, Err(reason)))
    }

    /// Asks for the changes since an earlier backup; `None` when they do not come in time.
    fn start_from(
        &mut self,
        ancestor: &Ancestor<'_>,
        label: &str,
        watch: &Watch<'_>,
    ) -> Result<Option<Announcement>> {
        ancestor.upload(&mut self.base, watch)?;
        self.base.start_command(&base::incremental_command(label), watch)?;
        if !self.wait_for_answer(BLOCK_LISTS_TIMEOUT, watch)? {
            return Ok(None);
        }
        base::read_announcement(&mut self.base, Framing::Typed, watch).map(Some)
    }

    fn framing(&self) -> Result<Framing> {
        Ok(Framing::of(self.settings.version()?))
    }

    /// Waits until the server says something on the copy's connection; `false` when it does not.
    fn wait_for_answer(&mut self, limit: Duration, watch: &Watch<'_>) -> Result<bool> {
        let patient = watch.with_silence(limit + PING_INTERVAL);
        let begun = Instant::now();
        while !self.base.has_message_within(PING_INTERVAL, &patient)? {
            if begun.elapsed() > limit {
                return Ok(false);
            }
            server::identify(&mut self.log, watch)?;
        }
        Ok(true)
    }

    /// The segment in which the backup starts; the slot must have kept it.
    fn first_segment(&self, announcement: &Announcement) -> Result<u64> {
        if announcement.start.timeline != self.system.timeline {
            return Err(Fault::Domain(
                Error::new(
                    ErrorKind::SourceUnreachable,
                    "The source changed its timeline while the backup began (it was promoted). This copy is void.",
                )
                .with_retry(Retry::Later),
            ));
        }
        let size = self.settings.log_segment_size()?;
        let first = size.segment_of(announcement.start.position);
        if let Some(held_from) = self.slot_position.filter(|position| size.segment_of(*position) > first) {
            return Err(Fault::Domain(
                Error::new(
                    ErrorKind::SourceRefused,
                    format!(
                        "The backup would start at {}, before the log that the source reserved from {} on. This copy is void.",
                        announcement.start.position, held_from
                    ),
                )
                .with_retry(Retry::Later),
            ));
        }
        Ok(first)
    }

    fn facts(
        &self,
        copied: Copied,
        log: LogCapture,
        history_files: Vec<String>,
        examined: &Examined<'_>,
    ) -> Result<BackupFacts> {
        let size = self.settings.log_segment_size()?;
        let version = self.settings.version()?;
        let (start, timeline) = (copied.announcement.start.position, self.system.timeline);
        let first = size.segment_of(start);
        let (mut pages, mut damage) = copied.findings.judge(start, copied.stop);
        pages.damaged += copied.inherited.len() as u64;
        damage.extend(copied.inherited);
        damage.truncate(pages::LISTED_MAX);
        let backup_label = copied.kept.backup_label.unwrap_or_default();
        let facts = PostgresFacts {
            format: FACTS_FORMAT,
            server_version_num: version.0,
            pg_control_version: copied.control.control_version,
            catalog_version: copied.control.catalog_version,
            source_role: role_of(&backup_label),
            timeline,
            start_lsn: start,
            stop_lsn: copied.stop,
            log: LogSegments {
                segment_size_bytes: size,
                first: size.file_name(timeline, first),
                last: size.file_name(timeline, first + log.segments.saturating_sub(1)),
                count: log.segments,
            },
            history_files,
            backup_label: Text::from(backup_label.as_slice()),
            tablespace_map: Text::from(copied.kept.tablespace_map.unwrap_or_default().as_slice()),
            tablespaces: copied
                .announcement
                .tablespaces
                .iter()
                .map(|row| TablespaceFact {
                    id: row.id.to_string(),
                    source_path: String::from_utf8_lossy(&row.location).into_owned(),
                })
                .collect(),
            data_directory_mode: self.settings.get("data_directory_mode").to_owned(),
            data_checksums: self.settings.is_on("data_checksums"),
            pages,
            settings: self.settings.values().clone(),
        };
        Ok(BackupFacts {
            identity: server::source_identity(self.system, version),
            engine: serde_json::to_value(facts).map_err(Error::internal)?,
            warnings: damage_warning(pages, &damage).into_iter().collect(),
            damage,
            reading: reading(examined, copied.patches),
            log: None,
        })
    }
}

fn reading(examined: &Examined<'_>, patches: PatchCounts) -> Reading {
    match examined {
        Ok(ancestor) => Reading::BlockLists {
            since: ancestor.facts.start_lsn.to_string(),
            patched_files: patches.files,
            received_blocks: patches.blocks,
        },
        Err(reason) => Reading::full(reason),
    }
}

/// The copy of the files, from the first archive to the end of the command.
struct Copy<'r> {
    connection: &'r mut Connection,
    sink: &'r dyn BackupSink,
    order: &'r BackupOrder<'r>,
    watch: &'r Watch<'r>,
    announcement: Announcement,
    ancestor: Option<&'r Ancestor<'r>>,
}

/// What a complete copy leaves behind.
struct Copied {
    announcement: Announcement,
    stop: Lsn,
    findings: PageFindings,
    inherited: Vec<PageDamage>,
    patches: PatchCounts,
    kept: KeptFiles,
    control: ControlFile,
}

impl Copy<'_> {
    fn run(mut self, settings: &Settings, identifier: u64) -> Result<Copied> {
        let shape = ClusterShape {
            blocks_per_segment: settings.blocks_per_segment()?,
            has_checksums: settings.is_on("data_checksums"),
            size_bytes_max: self.announcement.size_bytes_max(),
        };
        let mut intake =
            Intake::new(self.sink, shape, &self.announcement.tablespaces).with_ancestor(self.ancestor);
        let mut stream = CopyStream::new(Framing::of(settings.version()?), &mut self.announcement);
        self.take_archives(&mut stream, &mut intake)?;
        intake.end_archives()?;
        let manifest = self.take_manifest(&mut stream, &mut intake)?;
        let stop = base::read_end(self.connection, self.announcement.start, self.watch)?;
        self.check_manifest(&manifest, identifier, stop)?;
        let control = ControlFile::parse(intake.kept.pg_control.as_deref().unwrap_or_default(), identifier)?;
        Ok(Copied {
            announcement: self.announcement,
            stop,
            findings: intake.findings,
            inherited: intake.inherited.into_kept(),
            patches: intake.patches,
            kept: intake.kept,
            control,
        })
    }

    fn take_archives(&mut self, stream: &mut CopyStream, intake: &mut Intake<'_>) -> Result<()> {
        let mut pace = Pace::new();
        loop {
            match stream.next(self.connection, self.watch)? {
                Piece::Data(bytes) if !bytes.is_empty() => {
                    let spared = intake.patches.spared_bytes;
                    intake.feed(bytes)?;
                    let spared = intake.patches.spared_bytes - spared;
                    self.order.progress.add_done(bytes.len() as u64 + spared);
                    pace = Pace::new();
                }
                Piece::Archive(name) => intake.begin_archive(name)?,
                Piece::Data(_) | Piece::Progress => pace.check(self.watch)?,
                Piece::Manifest => return Ok(()),
                Piece::End => return Err(Fault::hostile("a backup without a manifest")),
            }
        }
    }

    /// Stores the manifest as it is and compares it with what came.
    fn take_manifest(&mut self, stream: &mut CopyStream, intake: &mut Intake<'_>) -> Result<ManifestFacts> {
        let mut writer = self.sink.open(Member {
            path: MemberPath::parse(b"meta/backup_manifest")?,
            kind: MemberKind::File,
            size: None,
            mode: 0o600,
            mtime_s: 0,
            page_size: 0,
            dedupe: Dedupe::Parent,
        })?;
        let (connection, watch) = (&mut *self.connection, self.watch);
        let mut pace = Pace::new();
        let facts =
            manifest::compare(&mut intake.ledger, |buffer| match stream.next(connection, watch)? {
                Piece::Data(bytes) if !bytes.is_empty() => {
                    writer.write(bytes)?;
                    buffer.extend_from_slice(bytes);
                    pace = Pace::new();
                    Ok(true)
                }
                Piece::Data(_) | Piece::Progress => pace.check(watch).map(|()| true),
                Piece::End => Ok(false),
                Piece::Archive(_) | Piece::Manifest => Err(Fault::hostile("an archive behind the manifest")),
            })?;
        writer.finish()?;
        Ok(facts)
    }

    /// The manifest must speak of this backup.
    fn check_manifest(&self, manifest: &ManifestFacts, identifier: u64, stop: Lsn) -> Result<()> {
        let start = self.announcement.start;
        let is_ours = manifest.wal_ranges.iter().any(|range| {
            range.timeline == start.timeline && range.start == start.position && range.end == stop
        });
        if !is_ours || manifest.system_identifier.is_some_and(|named| named != identifier) {
            return Err(Fault::hostile("the manifest of another backup"));
        }
        Ok(())
    }
}

/// When content came last. Reports of progress are none, nor are pieces of nothing.
struct Pace(Instant);

impl Pace {
    fn new() -> Self {
        Self(Instant::now())
    }

    fn check(&self, watch: &Watch<'_>) -> Result<()> {
        if self.0.elapsed() <= watch.silence_max {
            return Ok(());
        }
        Err(Fault::unreachable("The source has stopped sending data."))
    }
}

/// A second connection, which must lead to the same server.
fn open_base(order: &BackupOrder<'_>, system: System, watch: &Watch<'_>) -> Result<Connection> {
    let mut base = Connection::open(order.source, Purpose::Replication, watch)?;
    let other = server::identify(&mut base, watch)?;
    if (other.identifier, other.timeline) == (system.identifier, system.timeline) {
        return Ok(base);
    }
    Err(Fault::Domain(Error::new(
        ErrorKind::SourceRefused,
        "Two connections to the source reached two different databases or timelines. Nothing was stored as complete.",
    )
    .with_hint("Name the database server itself, not a balancer that spreads connections.")
    .with_retry(Retry::Later)))
}

/// The registered database, and no other (faults.md B03).
fn check_identity(order: &BackupOrder<'_>, system: System) -> Result<()> {
    let found = system.identifier.to_string();
    match order.identity {
        Some(known) if known.system_identifier != found => Err(Fault::Domain(
            Error::new(
                ErrorKind::SourceRefused,
                format!(
                    "Another database answers at this address: its system identifier is {found}, the registered one has {}. \
                     Nothing was stored.",
                    known.system_identifier
                ),
            )
            .with_hint("Correct the address, or register the new database as an instance of its own."),
        )),
        _ => Ok(()),
    }
}

/// Unique even when an attempt is begun twice: the server may not have noticed yet that the
/// first connection is gone.
fn slot_name(random: &dyn Randomness, order: &BackupOrder<'_>) -> String {
    let mut suffix = [0; 4];
    random.fill(&mut suffix);
    format!("strongroom_{}_{}", order.attempt, hex::encode(suffix))
}

/// A backup's label says on whom it was taken; `in_hot_standby` does so from 14 on only.
fn role_of(backup_label: &[u8]) -> SourceRole {
    let from = backup_label.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"BACKUP FROM: "));
    if from == Some(b"standby") { SourceRole::Standby } else { SourceRole::Primary }
}

/// Creates the temporary slot and answers with the position from which it holds log. Before 15 no
/// replication command tells it; a server that lacks the first segment then refuses to stream it.
fn reserve_log(
    connection: &mut Connection,
    slot: &str,
    version: Version,
    watch: &Watch<'_>,
) -> Result<Option<Lsn>> {
    let slot = quote_identifier(slot);
    connection.query(&format!("CREATE_REPLICATION_SLOT {slot} TEMPORARY PHYSICAL RESERVE_WAL"), watch)?;
    if version.major() < 15 {
        return Ok(None);
    }
    let rows = connection.query(&format!("READ_REPLICATION_SLOT {slot}"), watch)?;
    let [row] = rows.as_slice() else { return Err(Fault::hostile("no answer to READ_REPLICATION_SLOT")) };
    Lsn::parse(row.text(1)?).map(Some).ok_or_else(|| Fault::hostile("a malformed log position"))
}

fn damage_warning(pages: PageCounts, damage: &[PageDamage]) -> Option<String> {
    let first = damage.first()?;
    let (count, noun) = (pages.damaged, if pages.damaged == 1 { "page" } else { "pages" });
    Some(format!(
        "{count} {noun} of the source had a wrong checksum when read, the first is block {} of {}; \
         the backup holds the damage as it is. Compare with older backups before they expire.",
        first.block, first.relation
    ))
}
