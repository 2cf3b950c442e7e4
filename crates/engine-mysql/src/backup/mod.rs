//! One backup: what the server says of itself, the clone, what it says afterwards.

pub(crate) mod elsewhere;
mod encrypted;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod intake;
mod names;
mod space;

use std::sync::Arc;
use std::time::{Duration, Instant};

use strongroom_core::engine::{BackupFacts, BackupOrder, BackupSink, PageDamage, SourceIdentity};
use strongroom_core::logs::LogPoint;
use strongroom_core::parent::{ParentOffer, Reading};
use strongroom_core::time::Randomness;
use strongroom_core::{Error, ErrorKind};

use self::elsewhere::Elsewhere;
use self::intake::{Intake, Shape};
use crate::clone::{Donor, Introduction, Outcome, Stages, StateDescriptor};
use crate::connection::{Connection, Watch};
use crate::dump;
use crate::facts::{FACTS_FORMAT, FACTS_FORMAT_WITH_KEYRING, GtidFacts, MySqlFacts};
use crate::fault::{Fault, Result};
use crate::keyring::Keyring;
use crate::logs;
use crate::page::PageFindings;
use crate::server::{self, Settings};

/// How long a donor waits for a clone whose connection broke, when it does not say.
const PATIENCE_MINUTES: u64 = 5;
/// What is left of it when we give up: our clock began later than the donor's.
const PATIENCE_MARGIN: Duration = Duration::from_secs(10);
/// Between two tries to take a clone up again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Broken connections one after another that brought nothing.
const BARREN_RESUMES_MAX: u32 = 3;
/// A donor that says that it lives and does not come on, in silences that are allowed.
const STALLED_SILENCES_MAX: u32 = 5;

/// Takes one backup.
pub(crate) fn run(
    random: &dyn Randomness,
    order: &BackupOrder<'_>,
    sink: &dyn BackupSink,
) -> strongroom_core::Result<BackupFacts> {
    let watch = Watch::new(order.cancel);
    order.progress.set_phase("connecting");
    let (mut survey, connection) = Survey::take(order, &watch)?;
    let findings = Arc::new(PageFindings::default());
    let shape = Shape {
        system_files: names::system_files(survey.settings.get("innodb_data_file_path")),
        began_s: survey.began_s,
        page_size_bytes: survey.settings.page_size_bytes()?,
        findings: Arc::clone(&findings),
        keyring: keyring_for(random, order),
    };
    let mut intake = Intake::new(sink, order.progress, shape);
    order.progress.set_phase("snapshot");
    let uuid = &survey.identity.system_identifier;
    let (mut donor, introduction) = Donor::begin(order.source, connection, uuid, &watch)?;
    let mut stages = Stages::new();
    let patience = Duration::from_secs(introduction.patience_minutes().unwrap_or(PATIENCE_MINUTES) * 60);
    let mut copy = Copy { donor: &mut donor, stages: &mut stages, intake: &mut intake, patience };
    let copied = copy.run(&watch);
    if let Err(fault) = copied {
        donor.call_off(stages.last_state());
        return Err(fault.into());
    }
    let after = read_after(&mut donor, &watch)?;
    order.progress.set_phase("other-tables");
    dump::run(&donor, sink, survey.began_s, &mut survey.elsewhere.tables, &watch)?;
    order.progress.set_phase("pages");
    intake.finish()?;
    intake.counts.damaged_pages = findings.counts().damaged;
    Ok(survey.facts(order, introduction, after, &intake, findings.damage())?)
}

/// The key of the backup before, when it had one: first pages that did not change are the same again.
fn keyring_for(random: &dyn Randomness, order: &BackupOrder<'_>) -> Keyring {
    let before = match order.parent {
        ParentOffer::Offered(parent) => MySqlFacts::of(parent.facts()).ok().and_then(|facts| facts.keyring),
        ParentOffer::Withheld(_) => None,
    };
    before.map_or_else(|| Keyring::generate(random), |fact| fact.keyring)
}

/// The transactions that a server had executed when its clone was complete.
fn read_after(donor: &mut Donor<'_>, watch: &Watch<'_>) -> Result<String> {
    match donor.leave(watch) {
        Ok(connection) => server::executed_gtids(connection, watch),
        // The clone is complete; only its session broke.
        Err(Fault::Lost(_)) => server::executed_gtids(&mut donor.reach(watch)?, watch),
        Err(fault) => Err(fault),
    }
}

/// What the server says of itself before the clone.
struct Survey {
    identity: SourceIdentity,
    settings: Settings,
    server_version: String,
    persisted: Option<std::collections::BTreeMap<String, String>>,
    elsewhere: Elsewhere,
    log: Option<LogPoint>,
    gtid_before: String,
    began_s: i64,
}

impl Survey {
    fn take(order: &BackupOrder<'_>, watch: &Watch<'_>) -> Result<(Self, Connection)> {
        let mut connection = Connection::open(order.source, watch)?;
        let settings = Settings::read(&mut connection, watch)?;
        let identity = settings.identity()?;
        server::check_identity(order.identity, &identity)?;
        let elsewhere = elsewhere::look(&mut connection, watch)?;
        let persisted = server::persisted(&mut connection, watch)?;
        let began_s = server::now_s(&mut connection, watch)?;
        // Before the set: what is in no file from this one on is in the set.
        let log = logs::point(&mut connection, &settings, watch)?;
        let survey = Self {
            log,
            identity,
            server_version: connection.greeting()?.version_text.clone(),
            settings,
            persisted,
            elsewhere,
            // Last: what is executed from here on may be in the clone, what is in here is.
            gtid_before: server::executed_gtids(&mut connection, watch)?,
            began_s,
        };
        Ok((survey, connection))
    }

    fn facts(
        self,
        order: &BackupOrder<'_>,
        introduction: Introduction,
        gtid_after: String,
        intake: &Intake<'_>,
        damage: Vec<PageDamage>,
    ) -> Result<BackupFacts> {
        let mut warnings = self.elsewhere.warnings(order);
        warnings.extend(damage_warning(intake.counts.damaged_pages, &damage));
        let keyring = intake.keyring();
        let facts = MySqlFacts {
            format: if keyring.is_some() { FACTS_FORMAT_WITH_KEYRING } else { FACTS_FORMAT },
            server_version: self.server_version,
            server_uuid: self.identity.system_identifier.clone(),
            clone_protocol: introduction.protocol,
            page_size_bytes: self.settings.page_size_bytes()?,
            plugins: introduction.plugins,
            collations: introduction.collations,
            configuration: introduction.configuration,
            settings: self.settings.values().clone(),
            persisted: self.persisted,
            gtid: GtidFacts {
                mode: self.settings.get("gtid_mode").to_owned(),
                before: self.gtid_before,
                after: gtid_after,
            },
            outside_files: intake.outside_files(),
            page_compressed_files: intake.page_compressed_files(),
            keyring,
            tables_left_empty: self.elsewhere.tables,
            tables_left_empty_unlisted: self.elsewhere.unlisted,
            transfer: intake.counts,
        };
        Ok(BackupFacts {
            identity: self.identity,
            engine: serde_json::to_value(facts).map_err(Error::internal)?,
            warnings,
            damage,
            reading: Reading::full("MySQL sends everything, every time"),
            log: self.log,
        })
    }
}

fn damage_warning(count: u64, damage: &[PageDamage]) -> Option<String> {
    let first = damage.first()?;
    let noun = if count == 1 { "page" } else { "pages" };
    Some(format!(
        "{count} {noun} of the source had a wrong checksum when read, the first is page {} of {}; \
         the backup holds the damage as it is. Compare with older backups before they expire.",
        first.block, first.relation
    ))
}

/// The clone, from its first state to its last.
struct Copy<'r, 's> {
    donor: &'r mut Donor<'s>,
    stages: &'r mut Stages,
    intake: &'r mut Intake<'s>,
    /// How long the donor keeps a clone whose connection broke.
    patience: Duration,
}

impl Copy<'_, '_> {
    fn run(&mut self, watch: &Watch<'_>) -> Result<()> {
        let mut barren = 0;
        loop {
            let steps = self.stages.steps();
            match self.pump(watch) {
                Ok(()) => return Ok(()),
                // The donor has said that there is nothing more.
                Err(Fault::Lost(_)) if self.stages.is_done() => return Ok(()),
                Err(Fault::Lost(error)) => {
                    barren = if self.stages.steps() == steps { barren + 1 } else { 0 };
                    if barren > BARREN_RESUMES_MAX {
                        return Err(Fault::Lost(error));
                    }
                    tracing::info!("the connection of a clone broke and is made again: {}", error.chain());
                    self.resume(error, watch)?;
                    self.intake.counts.resumed += 1;
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    fn pump(&mut self, watch: &Watch<'_>) -> Result<()> {
        let (mut steps, mut advanced) = (self.stages.steps(), Instant::now());
        loop {
            let response = self.donor.next(watch)?;
            match self.stages.take(response, self.intake)? {
                Outcome::More => {}
                Outcome::Acknowledge(state) => self.acknowledge(&state, watch)?,
                Outcome::Complete => return Ok(()),
            }
            if self.stages.steps() != steps {
                (steps, advanced) = (self.stages.steps(), Instant::now());
            } else if advanced.elapsed() > watch.silence_max * STALLED_SILENCES_MAX {
                return Err(Fault::Domain(Error::new(
                    ErrorKind::SourceUnreachable,
                    "The source says that it lives, and its clone does not come on. Nothing was stored as complete.",
                )));
            }
        }
    }

    /// While its data connection lives, a clone needs no more than the same acknowledgement once again:
    /// whether the first one arrived or only its answer was lost.
    fn acknowledge(&mut self, state: &StateDescriptor, watch: &Watch<'_>) -> Result<()> {
        match self.donor.acknowledge(state, watch) {
            Err(Fault::Lost(error)) => {
                tracing::info!("an acknowledgement broke and is given again: {}", error.chain());
                self.intake.counts.resumed += 1;
                self.donor.acknowledge(state, watch)
            }
            answered => answered,
        }
    }

    /// Takes the clone up again for as long as the donor keeps it. `broken` is what is told otherwise.
    fn resume(&mut self, broken: Error, watch: &Watch<'_>) -> Result<()> {
        let deadline = Instant::now() + self.patience.saturating_sub(PATIENCE_MARGIN);
        loop {
            match self.donor.resume(self.stages, watch) {
                Ok(true) => return Ok(()),
                Err(Fault::Lost(_)) if Instant::now() < deadline => {}
                Err(Fault::Server(error)) if error.is_not_idle_yet() && Instant::now() < deadline => {}
                Ok(false) | Err(Fault::Lost(_)) => return Err(Fault::Lost(broken)),
                Err(fault) => return Err(fault),
            }
            std::thread::park_timeout(RETRY_PAUSE);
            watch.check()?;
        }
    }
}
