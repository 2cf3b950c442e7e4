//! Refused callers in the audit chain, without handing them a way to fill it.
//!
//! The first refusal of a kind from a source is written at once; those that follow within a minute
//! are counted, and the count is written when the minute is over. However many come from however
//! many places, the chain grows by a bounded number of rows a minute.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use strongroom_catalog::AuditEvent;
use strongroom_core::id::{ProjectId, RequestId};
use strongroom_core::limits;

use crate::identity::Caller;
use crate::parts::Service;

/// Why a caller was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// No credential, or one that is wrong, expired or revoked.
    Credential,
    /// A signature that does not fit.
    Signature,
    /// A wrong password, or an account that is not there.
    Password,
    /// A log-in that had to wait.
    Wait,
    /// A valid credential for another project.
    Project,
    /// A role that does not allow it.
    Role,
}

impl Refusal {
    pub const ALL: [Self; 6] =
        [Self::Credential, Self::Signature, Self::Password, Self::Wait, Self::Project, Self::Role];

    pub const fn word(self) -> &'static str {
        match self {
            Self::Credential => "token",
            Self::Signature => "signature",
            Self::Password => "password",
            Self::Wait => "wait",
            Self::Project => "project",
            Self::Role => "role",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    refusal: Refusal,
    /// `None`: sources beyond those that are told apart.
    source: Option<IpAddr>,
    actor: Option<(String, Option<ProjectId>)>,
}

#[derive(Debug)]
struct Window {
    began: Timestamp,
    /// Refusals since the one that was written.
    more: u64,
}

/// What was refused in the running minute.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<HashMap<Key, Window>>);

impl Refusals {
    fn windows(&self) -> MutexGuard<'_, HashMap<Key, Window>> {
        self.0.lock().expect("no thread panics while it holds the refusals")
    }

    /// Counts one; answers its key when it has to be written now.
    fn count(&self, mut key: Key, now: Timestamp) -> Option<Key> {
        let mut windows = self.windows();
        if windows.len() >= limits::REFUSAL_SOURCES_MAX && !windows.contains_key(&key) {
            key = Key { source: None, actor: None, ..key };
        }
        if let Some(window) = windows.get_mut(&key) {
            window.more += 1;
            return None;
        }
        windows.insert(key.clone(), Window { began: now, more: 0 });
        Some(key)
    }

    /// Closes the windows that are over; answers those in which more came than was written.
    fn close(&self, now: Timestamp) -> Vec<(Key, u64)> {
        let is_over =
            |window: &Window| now.duration_since(window.began).as_secs() >= limits::REFUSAL_WINDOW_S;
        let closed = self.windows().extract_if(|_, window| is_over(window)).collect::<Vec<_>>();
        closed
            .into_iter()
            .filter(|(_, window)| window.more > 0)
            .map(|(key, window)| (key, window.more))
            .collect()
    }
}

impl Service {
    /// Tells the audit chain of a caller that was turned away. A chain that cannot be written to
    /// changes nothing about the answer.
    pub async fn refusal_note(
        &self,
        refusal: Refusal,
        source: IpAddr,
        caller: Option<&Caller>,
        request: Option<&RequestId>,
    ) {
        let now = self.now();
        self.refusals_close(now, now).await;
        let actor = caller.map(|caller| (caller.actor().to_owned(), caller.project_id().cloned()));
        let key = Key { refusal, source: Some(source), actor };
        if let Some(key) = self.inner.refusals.count(key, now) {
            self.refusal_write(&key, 1, request, now).await;
        }
    }

    /// Writes the windows that are over at `end`.
    async fn refusals_close(&self, end: Timestamp, now: Timestamp) {
        for (key, more) in self.inner.refusals.close(end) {
            self.refusal_write(&key, more, None, now).await;
        }
    }

    /// Writes what is counted and not written yet: for the end of a process.
    pub async fn refusals_end(&self) {
        let now = self.now();
        let over = now.saturating_add(SignedDuration::from_secs(limits::REFUSAL_WINDOW_S)).unwrap_or(now);
        self.refusals_close(over, now).await;
    }

    /// Writes what is counted when its minute is over, for as long as the process lives.
    pub async fn refusals_keep(self) {
        let mut ticks = tokio::time::interval(std::time::Duration::from_secs(5));
        loop {
            ticks.tick().await;
            let now = self.now();
            self.refusals_close(now, now).await;
        }
    }

    async fn refusal_write(&self, key: &Key, count: u64, request: Option<&RequestId>, now: Timestamp) {
        let (actor, project_id) = key.actor.clone().unwrap_or_else(|| ("nobody".to_owned(), None));
        let source = key.source.map_or_else(|| "many".to_owned(), |source| source.to_string());
        let event = AuditEvent {
            at: now,
            project_id,
            actor,
            action: "caller.refuse",
            object: key.refusal.word().to_owned(),
            request_id: request.map(|id| id.as_str().to_owned()),
            detail: json!({ "source": source, "count": count }),
        };
        if let Err(error) = self.catalog().audit_note(&event).await {
            tracing::error!("A refused caller is not in the audit chain: {}", error.chain());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(source: u8) -> Key {
        let source = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, source)));
        Key { refusal: Refusal::Credential, source, actor: None }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn a11_refusals_are_written_once_a_minute_and_none_is_lost() {
        let refusals = Refusals::default();
        let mut rows = 0;
        let mut told = 0;
        for second in 0..180 {
            for _ in 0..1_000 {
                if refusals.count(key(1), at(second)).is_some() {
                    rows += 1;
                    told += 1;
                }
            }
            for (_, more) in refusals.close(at(second + 1)) {
                rows += 1;
                told += more;
            }
        }
        assert_eq!((rows, told), (6, 180_000));
    }

    #[test]
    fn a11_refusals_from_everywhere_are_counted_together() {
        let refusals = Refusals::default();
        let written = (0..=255).filter_map(|source| refusals.count(key(source), at(0)));
        let written: Vec<Key> = written.collect();
        assert_eq!(written.len(), limits::REFUSAL_SOURCES_MAX + 1);
        assert_eq!(written.last().unwrap().source, None);
        let closed = refusals.close(at(limits::REFUSAL_WINDOW_S));
        assert_eq!(closed.len(), 1);
        assert_eq!(closed[0].1, 255 - limits::REFUSAL_SOURCES_MAX as u64);
    }
}
