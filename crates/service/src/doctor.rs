//! The server's own look at itself: what / found / wanted / next.

use strongroom_core::engine::{CheckLine, CheckState};
use strongroom_core::instance::InstanceState;
use strongroom_core::size::ByteSize;
use strongroom_core::{Error, Result, limits};

use crate::identity::{Action, Scope};
use crate::parts::Service;

/// Free room under which the repository's line turns yellow.
const FREE_BYTES_WANTED: u64 = 2 << 30;

/// A due job that nobody has taken for so long tells that no worker runs, or too few.
const WAITING_MS_MAX: i64 = 60_000;

fn line(
    what: &str,
    state: CheckState,
    found: impl Into<String>,
    wanted: &str,
    remedy: Option<&str>,
) -> CheckLine {
    CheckLine {
        what: what.to_owned(),
        state,
        found: found.into(),
        wanted: wanted.to_owned(),
        remedy: remedy.map(str::to_owned),
        why: None,
    }
}

fn judged(what: &str, result: Result<String>, wanted: &str) -> CheckLine {
    match result {
        Ok(found) => line(what, CheckState::Ok, found, wanted, None),
        Err(error) => line(what, CheckState::Missing, error.public().to_owned(), wanted, error.hint()),
    }
}

impl Service {
    pub async fn doctor(&self, scope: &Scope) -> Result<Vec<CheckLine>> {
        scope.require(Action::Read)?;
        let mut lines = vec![
            judged("catalog", self.catalog_found().await, "takes writes"),
            judged(
                "repository",
                self.blocking(|service| {
                    service.repository().check_identity()?;
                    Ok(format!("{} at {}", service.repository().id(), service.parts().location))
                })
                .await,
                "the one that was opened",
            ),
            self.room().await,
            self.kit().await?,
            self.waiting().await?,
            self.retention_line().await?,
        ];
        lines.extend(self.clock_line());
        for instance in self.instance_list(scope).await? {
            let what = format!("instance {}", instance.name);
            let (state, found, remedy) = match instance.state {
                InstanceState::Ready => (CheckState::Ok, "ready", None),
                InstanceState::Unreachable => (
                    CheckState::Missing,
                    "unreachable",
                    Some(format!("strongroom instance check {}", instance.name)),
                ),
                InstanceState::Registering | InstanceState::Retired => {
                    (CheckState::Warning, "not in use", None)
                }
            };
            lines.push(line(&what, state, found, "ready", remedy.as_deref()));
        }
        Ok(lines)
    }

    async fn catalog_found(&self) -> Result<String> {
        self.catalog().ping().await?;
        Ok(format!("{}, takes writes", self.catalog().server_version().await?))
    }

    /// The clock of this machine beside the catalog's, where that has one of its own.
    fn clock_line(&self) -> Option<CheckLine> {
        let offset_ms = self.clock_offset_ms()?;
        let found = format!("{offset_ms} ms from the catalog's");
        let wanted = format!("within {} ms", limits::CLOCK_OFFSET_MS_MAX);
        Some(match self.clock_trouble() {
            None => line("clock", CheckState::Ok, found, &wanted, None),
            Some(_) => {
                line("clock", CheckState::Missing, found, &wanted, Some("set the clock, keep it by NTP"))
            }
        })
    }

    /// Whether anybody takes the work: several processes may, and this one may be told not to.
    async fn waiting(&self) -> Result<CheckLine> {
        const WANTED: &str = "work is taken within a minute";
        let waited_ms = self.metrics_reading().await?.oldest_pending_ms.unwrap_or(0);
        Ok(if waited_ms > WAITING_MS_MAX {
            let found = format!("a job has waited for {} s", waited_ms / 1000);
            let remedy = "start `strongroom worker`, or look at the log of the workers that run";
            line("workers", CheckState::Warning, found, WANTED, Some(remedy))
        } else {
            line("workers", CheckState::Ok, "no job waits for long", WANTED, None)
        })
    }

    /// Whether rules remove what is over.
    async fn retention_line(&self) -> Result<CheckLine> {
        const WANTED: &str = "what is over is removed";
        Ok(match self.retention_hold().await? {
            None => line("retention", CheckState::Ok, "acts", WANTED, None),
            Some(hold) => {
                let found = format!("held: the clock moved by {} s", hold.moved_ms / 1000);
                let remedy = "see that the clock is right, then run `strongroom policy resume`";
                line("retention", CheckState::Warning, found, WANTED, Some(remedy))
            }
        })
    }

    async fn room(&self) -> CheckLine {
        let free = self.blocking(|service| service.repository().free_bytes()).await;
        let wanted = ByteSize::new(FREE_BYTES_WANTED).to_string() + " or more";
        match free {
            Ok(Some(free)) if free < FREE_BYTES_WANTED => line(
                "repository room",
                CheckState::Warning,
                ByteSize::new(free).to_string(),
                &wanted,
                Some("free room on the repository's disk"),
            ),
            other => judged(
                "repository room",
                other.map(|free| free.map_or("unknown".to_owned(), |free| ByteSize::new(free).to_string())),
                &wanted,
            ),
        }
    }

    async fn kit(&self) -> Result<CheckLine, Error> {
        let printed = self.recovery_kit_printed().await?;
        Ok(if printed {
            line("recovery kit", CheckState::Ok, "printed", "printed and kept elsewhere", None)
        } else {
            line(
                "recovery kit",
                CheckState::Warning,
                "never printed",
                "printed and kept elsewhere",
                Some("strongroom recovery-kit print > kit.txt"),
            )
        })
    }
}
