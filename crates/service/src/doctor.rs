//! The server's own look at itself: what / found / wanted / next.

use strongroom_core::engine::{CheckLine, CheckState};
use strongroom_core::instance::InstanceState;
use strongroom_core::size::ByteSize;
use strongroom_core::{Error, Result};

use crate::identity::{Action, Scope};
use crate::parts::Service;

/// Free room under which the repository's line turns yellow.
const FREE_BYTES_WANTED: u64 = 2 << 30;

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
            judged(
                "catalog",
                self.catalog().ping().await.map(|()| "takes writes".to_owned()),
                "takes writes",
            ),
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
        ];
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
