//! Guessing passwords gets slow, and nobody else gets locked out by it.
//!
//! Wrong passwords are counted three times: for the account as tried from one source, for the
//! source, and for the account. Above a free number each count makes its next try wait, twice as
//! long each time. Who has logged in from a source before is a known pair: only its own count binds
//! it, so that neither a neighbour behind the same address nor a crowd of guessers elsewhere keeps
//! an owner out. Counts live in this process and are bounded.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard};

use jiff::{SignedDuration, Timestamp};
use strongroom_core::limits;

/// Digest of what names an account; whether it exists plays no part.
pub(crate) type Account = [u8; 32];

/// Whom a count is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Subject {
    Pair(IpAddr, Account),
    Source(IpAddr),
    Account(Account),
}

impl Subject {
    /// Failures without a wait, and the longest wait.
    fn rule(self) -> (u32, i64) {
        match self {
            Self::Pair(..) => (limits::PAIR_FAILURES_FREE, limits::GUESS_WAIT_S_MAX),
            Self::Source(_) => (limits::SOURCE_FAILURES_FREE, limits::GUESS_WAIT_S_MAX),
            Self::Account(_) => (limits::ACCOUNT_FAILURES_FREE, limits::ACCOUNT_WAIT_S_MAX),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Count {
    failures: u32,
    last: Timestamp,
    /// A try of a pair that had to wait is under way: it has one at a time.
    is_trying: bool,
}

impl Count {
    /// Seconds that are still to wait.
    fn wait_s(&self, subject: Subject, now: Timestamp) -> i64 {
        let (free, longest) = subject.rule();
        let Some(over) = self.failures.checked_sub(free) else { return 0 };
        let wait = 1_i64.checked_shl(over.min(62)).unwrap_or(i64::MAX).min(longest);
        let until = self.last.saturating_add(SignedDuration::from_secs(wait)).unwrap_or(Timestamp::MAX);
        let left = until.duration_since(now);
        if left.is_positive() { left.as_secs() + i64::from(left.subsec_nanos() > 0) } else { 0 }
    }
}

#[derive(Debug, Default)]
struct Table {
    counts: HashMap<Subject, Count>,
    known: HashMap<(IpAddr, Account), Timestamp>,
}

/// The counts of this process.
#[derive(Debug, Default)]
pub(crate) struct Guesses(Mutex<Table>);

/// A try that is under way. Dropped without a word it counts as a wrong password: who goes away
/// before the answer has guessed as well.
pub(crate) struct Try<'a> {
    guesses: &'a Guesses,
    pair: (IpAddr, Account),
    now: Timestamp,
    is_settled: bool,
}

/// Neighbours in one network of IPv6 are one source: each of them has 2^64 addresses.
fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() & !u128::from(u64::MAX))),
        four @ IpAddr::V4(_) => four,
    }
}

impl Guesses {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().expect("no thread panics while it holds the counts of wrong passwords")
    }

    /// Lets a try begin, or says how many seconds it has to wait.
    pub(crate) fn begin(&self, address: IpAddr, account: Account, now: Timestamp) -> Result<Try<'_>, i64> {
        let source = source_of(address);
        let mut table = self.table();
        let mut subjects = vec![Subject::Pair(source, account)];
        if !table.known.contains_key(&(source, account)) {
            subjects.extend([Subject::Source(source), Subject::Account(account)]);
        }
        let wait =
            |subject: &Subject| table.counts.get(subject).map_or(0, |count| count.wait_s(*subject, now));
        let wait_s = subjects.iter().map(wait).max().unwrap_or(0);
        if wait_s > 0 {
            return Err(wait_s);
        }
        if let Some(count) = table.counts.get_mut(&subjects[0])
            && count.failures >= limits::PAIR_FAILURES_FREE
        {
            if count.is_trying {
                return Err(1);
            }
            count.is_trying = true;
        }
        Ok(Try { guesses: self, pair: (source, account), now, is_settled: false })
    }
}

impl Try<'_> {
    /// The password was right.
    pub(crate) fn succeeded(mut self) {
        self.is_settled = true;
        let mut table = self.guesses.table();
        table.counts.remove(&Subject::Pair(self.pair.0, self.pair.1));
        make_room(&mut table.known, |at| *at, self.now);
        table.known.insert(self.pair, self.now);
    }

    /// Nothing was tried after all: there was no room, or the catalog was away.
    pub(crate) fn given_up(mut self) {
        self.is_settled = true;
        let mut table = self.guesses.table();
        if let Some(count) = table.counts.get_mut(&Subject::Pair(self.pair.0, self.pair.1)) {
            count.is_trying = false;
        }
    }
}

impl Drop for Try<'_> {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        let (source, account) = self.pair;
        let mut table = self.guesses.table();
        for subject in [Subject::Pair(source, account), Subject::Source(source), Subject::Account(account)] {
            if !table.counts.contains_key(&subject) {
                make_room(&mut table.counts, |count| count.last, self.now);
            }
            let count = table.counts.entry(subject).or_insert(Count {
                failures: 0,
                last: self.now,
                is_trying: false,
            });
            let forgotten = self.now.duration_since(count.last).as_secs() > limits::GUESS_MEMORY_S;
            count.failures = if forgotten { 1 } else { count.failures.saturating_add(1) };
            count.last = self.now;
            count.is_trying = false;
        }
    }
}

/// Makes room for one more: what is old enough to be forgotten goes, else the oldest.
fn make_room<K: Hash + Eq + Copy, V>(
    map: &mut HashMap<K, V>,
    last: impl Fn(&V) -> Timestamp,
    now: Timestamp,
) {
    if map.len() < limits::GUESS_COUNTS_MAX {
        return;
    }
    map.retain(|_, value| now.duration_since(last(value)).as_secs() <= limits::GUESS_MEMORY_S);
    if map.len() >= limits::GUESS_COUNTS_MAX
        && let Some(oldest) = map.iter().min_by_key(|(_, value)| last(value)).map(|(key, _)| *key)
    {
        map.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OWNER: Account = [1; 32];

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn elsewhere(number: u8) -> IpAddr {
        IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, number))
    }

    /// A wrong password; what it had to wait when it was refused.
    fn wrong(guesses: &Guesses, source: IpAddr, account: Account, now: Timestamp) -> Option<i64> {
        guesses.begin(source, account, now).err()
    }

    #[test]
    fn a23_each_wrong_password_waits_twice_as_long_as_the_one_before() {
        let guesses = Guesses::default();
        let mut now = 0;
        let mut waits = Vec::new();
        for _ in 0..18 {
            if let Some(wait) = wrong(&guesses, HERE, OWNER, at(now)) {
                waits.push(wait);
                assert_eq!(wrong(&guesses, HERE, OWNER, at(now + wait - 1)), Some(1), "not a second earlier");
                now += wait;
                assert_eq!(wrong(&guesses, HERE, OWNER, at(now)), None);
            }
        }
        let longest = limits::GUESS_WAIT_S_MAX;
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, longest, longest, longest]);
    }

    #[test]
    fn a23_an_owner_elsewhere_is_not_locked_out() {
        let guesses = Guesses::default();
        guesses.begin(HERE, OWNER, at(0)).unwrap().succeeded();
        for attacker in 0..limits::ACCOUNT_FAILURES_FREE {
            assert_eq!(wrong(&guesses, elsewhere(attacker as u8), OWNER, at(1)), None, "{attacker}");
        }
        for attacker in 101..120 {
            wrong(&guesses, elsewhere(attacker), OWNER, at(31 * i64::from(attacker - 100)));
        }
        let now = at(31 * 19);
        let stranger = wrong(&guesses, elsewhere(200), OWNER, now).expect("a stranger has to wait");
        assert_eq!(stranger, limits::ACCOUNT_WAIT_S_MAX, "even an owner on a journey gets in soon");
        guesses.begin(HERE, OWNER, now).unwrap().succeeded();
        assert!(wrong(&guesses, elsewhere(200), OWNER, now).is_some());
    }

    #[test]
    fn a23_spraying_accounts_from_one_source_waits_and_its_known_neighbour_does_not() {
        let guesses = Guesses::default();
        guesses.begin(HERE, OWNER, at(0)).unwrap().succeeded();
        for account in 0..limits::SOURCE_FAILURES_FREE {
            let account = Account::from(*blake3::hash(&account.to_le_bytes()).as_bytes());
            assert_eq!(wrong(&guesses, HERE, account, at(1)), None);
        }
        assert_eq!(wrong(&guesses, HERE, [9; 32], at(1)), Some(1));
        assert!(guesses.begin(elsewhere(1), [9; 32], at(1)).is_ok(), "another source is free");
        guesses.begin(HERE, OWNER, at(1)).unwrap().succeeded();
        assert_eq!(
            wrong(&guesses, HERE, [9; 32], at(1)),
            Some(1),
            "a good log-in buys no guesses for others"
        );
    }

    #[test]
    fn a23_who_had_to_wait_has_one_try_at_a_time() {
        let guesses = Guesses::default();
        for _ in 0..limits::PAIR_FAILURES_FREE {
            wrong(&guesses, HERE, OWNER, at(0));
        }
        let first = guesses.begin(HERE, OWNER, at(10)).unwrap();
        assert_eq!(wrong(&guesses, HERE, OWNER, at(10)), Some(1));
        first.given_up();
        guesses.begin(HERE, OWNER, at(10)).unwrap().succeeded();
        assert_eq!(wrong(&guesses, HERE, OWNER, at(10)), None, "a right password begins anew");
    }

    #[test]
    fn a23_counts_are_bounded_and_forgotten() {
        let guesses = Guesses::default();
        for number in 0..limits::GUESS_COUNTS_MAX {
            let account = Account::from(*blake3::hash(&number.to_le_bytes()).as_bytes());
            wrong(&guesses, elsewhere((number % 250) as u8), account, at(0));
            assert!(guesses.table().counts.len() <= limits::GUESS_COUNTS_MAX);
        }
        for _ in 0..limits::PAIR_FAILURES_FREE {
            wrong(&guesses, HERE, OWNER, at(1));
        }
        assert!(wrong(&guesses, HERE, OWNER, at(1)).is_some());
        let later = at(2 + limits::GUESS_MEMORY_S);
        for _ in 0..limits::PAIR_FAILURES_FREE {
            assert_eq!(wrong(&guesses, HERE, OWNER, later), None);
        }
    }

    #[test]
    fn a23_a_network_of_ipv6_is_one_source() {
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::ffff:1".parse().unwrap();
        let other: IpAddr = "2001:db8:0:1::1".parse().unwrap();
        assert_eq!(source_of(one), source_of(neighbour));
        assert_ne!(source_of(one), source_of(other));
        assert_eq!(source_of("::ffff:192.0.2.1".parse().unwrap()), HERE);
    }
}
