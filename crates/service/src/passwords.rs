//! Passwords: argon2id, at a cost that is bounded. Hashing takes a processor and 19 MiB for some
//! 30 ms, and anybody may ask for it: so only a few run at once, and a short queue waits.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use secrecy::{ExposeSecret, SecretString};
use strongroom_core::time::Randomness;
use strongroom_core::{Error, ErrorKind, Field, Result, limits};
use tokio::sync::Semaphore;

fn argon2() -> Argon2<'static> {
    let params = Params::new(limits::PASSWORD_HASH_MEMORY_KIB, limits::PASSWORD_HASH_PASSES, 1, None)
        .expect("the limits are within what argon2 takes");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// The PHC text of a password's hash, with a salt of its own. Takes long: not on an async thread.
pub(crate) fn hash(password: &SecretString, random: &dyn Randomness) -> Result<SecretString> {
    let mut salt = [0; 16];
    random.fill(&mut salt);
    let hash = argon2().hash_password_with_salt(password.expose_secret().as_bytes(), &salt);
    Ok(SecretString::from(hash.map_err(|error| Error::internal(error.to_string()))?.to_string()))
}

/// Whether the password is the one of the hash. The hash says by which parameters it was made.
fn fits(password: &SecretString, hash: &SecretString) -> bool {
    argon2().verify_password(password.expose_secret().as_bytes(), hash.expose_secret()).is_ok()
}

/// What may be somebody's new password.
pub(crate) fn check(password: &SecretString) -> Result<()> {
    let length = password.expose_secret().chars().count();
    if (limits::PASSWORD_LENGTH_CHARS_MIN..=limits::PASSWORD_LENGTH_CHARS_MAX).contains(&length) {
        return Ok(());
    }
    Err(Error::parameter(Field::Password, "password: must have 8 to 256 characters"))
}

/// The room in which passwords are hashed.
pub(crate) struct Passwords {
    room: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Of a password that nobody has: an account that does not exist takes as long as one that does.
    nobody: OnceLock<SecretString>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            room: Arc::new(Semaphore::new(limits::PASSWORD_HASHES_MAX)),
            waiting: AtomicUsize::new(0),
            nobody: OnceLock::new(),
        }
    }
}

impl Passwords {
    /// Whether the password is that of `known`; without one it is as wrong, and takes as long.
    pub(crate) async fn verify(
        &self,
        password: SecretString,
        known: Option<SecretString>,
        random: &Arc<dyn Randomness>,
    ) -> Result<bool> {
        let is_somebody = known.is_some();
        let against = match known {
            Some(hash) => hash,
            None => self.of_nobody(random).await?,
        };
        Ok(self.work(move || fits(&password, &against)).await? && is_somebody)
    }

    pub(crate) async fn hash(
        &self,
        password: SecretString,
        random: &Arc<dyn Randomness>,
    ) -> Result<SecretString> {
        let random = random.clone();
        self.work(move || hash(&password, &*random)).await?
    }

    async fn of_nobody(&self, random: &Arc<dyn Randomness>) -> Result<SecretString> {
        if let Some(known) = self.nobody.get() {
            return Ok(known.clone());
        }
        let made = self.hash(SecretString::from("nobody's"), random).await?;
        Ok(self.nobody.get_or_init(|| made).clone())
    }

    /// Runs one hash when there is room for it. A caller that goes away does not make more room.
    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let place = Place::take(&self.waiting)?;
        let permit = self.room.clone().acquire_owned().await.map_err(Error::internal)?;
        drop(place);
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        done.await.map_err(Error::internal)
    }
}

/// A place in the queue, given back when its caller goes away.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Result<Self> {
        if waiting.fetch_add(1, Ordering::Relaxed) >= limits::PASSWORD_HASHES_WAITING_MAX {
            waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::new(ErrorKind::TooManyRequests, "Too many log-ins are under way; try again."));
        }
        Ok(Self(waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u8);
    impl Randomness for Fixed {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0);
        }
    }

    #[test]
    fn a23_a_hash_has_the_cost_that_was_decided_and_a_salt_of_its_own() {
        let password = SecretString::from("correct horse");
        let (one, other) = (hash(&password, &Fixed(1)).unwrap(), hash(&password, &Fixed(2)).unwrap());
        let (memory, passes) = (limits::PASSWORD_HASH_MEMORY_KIB, limits::PASSWORD_HASH_PASSES);
        assert!(one.expose_secret().starts_with(&format!("$argon2id$v=19$m={memory},t={passes},p=1$")));
        assert_ne!(one.expose_secret(), other.expose_secret());
        assert!(fits(&password, &one) && fits(&password, &other));
        assert!(!fits(&SecretString::from("correct horsf"), &one));
        assert!(!fits(&password, &SecretString::from("no hash")));
    }

    #[test]
    fn new_passwords_at_every_edge() {
        let fits = |length: usize| check(&SecretString::from("ä".repeat(length))).is_ok();
        assert!(fits(limits::PASSWORD_LENGTH_CHARS_MIN) && fits(limits::PASSWORD_LENGTH_CHARS_MAX));
        assert!(!fits(limits::PASSWORD_LENGTH_CHARS_MIN - 1) && !fits(limits::PASSWORD_LENGTH_CHARS_MAX + 1));
    }

    #[tokio::test]
    async fn a23_hashes_beyond_the_room_are_refused_and_the_room_comes_back() {
        let passwords = Arc::new(Passwords::default());
        let held =
            passwords.room.clone().acquire_many_owned(limits::PASSWORD_HASHES_MAX as u32).await.unwrap();
        let waiting: Vec<_> = (0..limits::PASSWORD_HASHES_WAITING_MAX)
            .map(|_| {
                let passwords = passwords.clone();
                tokio::spawn(async move { passwords.work(|| ()).await })
            })
            .collect();
        while passwords.waiting.load(Ordering::Relaxed) < limits::PASSWORD_HASHES_WAITING_MAX {
            tokio::task::yield_now().await;
        }
        let refused = passwords.work(|| ()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::TooManyRequests);
        waiting[0].abort();
        drop(held);
        for (at, one) in waiting.into_iter().enumerate() {
            assert!(at == 0 || one.await.unwrap().is_ok());
        }
        passwords.work(|| ()).await.unwrap();
    }
}
