//! Whom credentials were found to speak for, remembered until the next write.
//!
//! Pollers show the same token again and again, and finding its owner costs as much as what they ask
//! for. On a file there is one process, so that what was read since its last write is still so. A
//! catalog that is shared remembers nothing: another process may have revoked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use strongroom_core::limits;

use crate::session::Bearer;

pub(crate) struct Bearers {
    remembers: bool,
    /// Transactions that ended, whether they wrote or not.
    writes: AtomicU64,
    /// By the digest of the credential.
    known: Mutex<HashMap<String, Known>>,
}

struct Known {
    bearer: Bearer,
    seen: Seen,
}

/// When something was read: after how many writes, and at what time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    writes: u64,
    at: Timestamp,
}

impl Bearers {
    pub(crate) fn new(remembers: bool) -> Self {
        Self { remembers, writes: AtomicU64::new(0), known: Mutex::default() }
    }

    /// To be told after each transaction that may have written and before it is answered.
    pub(crate) fn note_write(&self) {
        self.writes.fetch_add(1, Ordering::SeqCst);
    }

    /// To be asked before the catalog is read.
    pub(crate) fn now(&self, at: Timestamp) -> Seen {
        Seen { writes: self.writes.load(Ordering::SeqCst), at }
    }

    pub(crate) fn find(&self, digest: &str, now: Seen) -> Option<Bearer> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.get(digest)?;
        // A caller who went away while their write was at work has nobody who notes it; this bounds
        // how long it stays unseen. Nobody was told that it was done.
        let age = now.at.duration_since(found.seen.at);
        let is_fresh = found.seen.writes == now.writes
            && !age.is_negative()
            && age <= SignedDuration::from_millis(limits::BEARER_MEMORY_MS);
        let is_valid = found.bearer.expires.is_none_or(|expires| expires > now.at);
        (is_fresh && is_valid).then(|| found.bearer.clone())
    }

    /// Remembers what was found by a reading that began at `seen`.
    pub(crate) fn keep(&self, digest: &str, bearer: &Bearer, seen: Seen) {
        if !self.remembers {
            return;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= limits::BEARERS_MAX {
            known.clear();
        }
        known.insert(digest.to_owned(), Known { bearer: bearer.clone(), seen });
    }
}

#[cfg(test)]
mod tests {
    use strongroom_core::id::UserId;

    use super::*;
    use crate::identity::Role;
    use crate::session::Credential;

    fn bearer(expires: Option<Timestamp>) -> Bearer {
        Bearer {
            credential: Credential::Token("t".to_owned()),
            user_id: UserId::from_stored("u"),
            user_name: "u".to_owned(),
            domain_id: "d".to_owned(),
            domain_name: "d".to_owned(),
            domain_admin: false,
            project: None,
            domain_scoped: false,
            role_max: Role::Viewer,
            methods: "token".to_owned(),
            issued: Timestamp::UNIX_EPOCH,
            expires,
        }
    }

    fn after(ms: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_millis(ms)
    }

    #[test]
    fn a_write_a_second_or_the_end_of_the_credential_makes_it_forgotten() {
        let bearers = Bearers::new(true);
        bearers.keep("a", &bearer(None), bearers.now(after(0)));
        bearers.keep("b", &bearer(Some(after(500))), bearers.now(after(0)));
        let knows = |digest: &str, ms| bearers.find(digest, bearers.now(after(ms))).is_some();
        assert!(knows("a", limits::BEARER_MEMORY_MS) && knows("b", 499));
        assert!(!knows("a", limits::BEARER_MEMORY_MS + 1) && !knows("b", 500) && !knows("c", 0));
        assert!(!knows("a", -1), "the clock was set back");
        bearers.note_write();
        assert!(!knows("a", 1));
    }

    #[test]
    fn what_was_read_before_a_write_is_not_remembered_after_it() {
        let bearers = Bearers::new(true);
        let seen = bearers.now(after(0));
        bearers.note_write();
        bearers.keep("a", &bearer(None), seen);
        assert!(bearers.find("a", bearers.now(after(1))).is_none());
    }

    #[test]
    fn memory_is_bounded_and_a_shared_catalog_has_none() {
        let (own, shared) = (Bearers::new(true), Bearers::new(false));
        for number in 0..=limits::BEARERS_MAX {
            own.keep(&number.to_string(), &bearer(None), own.now(after(0)));
            assert!(own.known.lock().unwrap().len() <= limits::BEARERS_MAX);
        }
        shared.keep("a", &bearer(None), shared.now(after(0)));
        assert!(shared.find("a", shared.now(after(0))).is_none());
        assert!(own.find(&limits::BEARERS_MAX.to_string(), own.now(after(0))).is_some());
    }
}
