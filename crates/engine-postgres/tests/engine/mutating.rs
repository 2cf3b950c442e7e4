//! A real conversation with one message spoilt: between the engine and a real server stands somebody
//! who relays everything and changes one thing. Each kind of message of both connections is met, at its
//! first and its last time and halfway between, where a stream of files is in the middle of them.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use strongroom_core::engine::{BackupFacts, StopReason};
use strongroom_core::{ErrorKind, Result};
use strongroom_testkit::postgres::{Options, PostgresServer, require};
use strongroom_testkit::{depth, line};

use crate::block_lists::is_of_its_own;
use crate::desk::{Taken, create_role, slots_are_gone, source, source_at};

/// What is done to the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoil {
    /// The connection ends in its middle.
    Cut,
    /// Another kind of message.
    Kind,
    /// A length that lies.
    Shorter,
    Longer,
    Zero,
    Huge,
    /// Its content is noise.
    Noise,
    /// It comes twice.
    Twice,
    /// It comes for ever.
    Endless,
    /// It never comes, and nothing after it.
    Stall,
}

/// After these the engine sees at once that something is wrong …
const LOUD: [Spoil; 7] =
    [Spoil::Cut, Spoil::Kind, Spoil::Shorter, Spoil::Zero, Spoil::Huge, Spoil::Noise, Spoil::Twice];
/// … and after these it may have to wait until the server has been silent, or idly busy, for too long.
const SLOW: [Spoil; 3] = [Spoil::Longer, Spoil::Endless, Spoil::Stall];

/// Silence is borne for two minutes.
const CASE_TIMEOUT: Duration = Duration::from_secs(150);
/// A server at its checkpoint is borne for half an hour, as long as it answers on the other connection.
/// Nobody waits for that here: it is enough that the wait can be ended.
const CHECKPOINT_PATIENCE: Duration = Duration::from_secs(130);
/// Of the whole test process, which is the engine's as well, and of each conversation at once.
const MEMORY_BYTES_MAX: u64 = 64 << 20;
const CONVERSATION_BYTES_MAX: u64 = 3 << 20;

/// Kind of a message: the connection it comes on, its tag, and what a piece of a copy says it holds.
type Kind = (usize, u8, u8);

/// Length and digest of each file.
type Content = BTreeMap<String, (usize, u64)>;

/// The n-th message of a kind, and what happens to it.
#[derive(Debug, Clone, Copy)]
struct Case {
    kind: Kind,
    nth: u64,
    spoil: Spoil,
}

#[derive(Default)]
struct Seen {
    counts: BTreeMap<Kind, u64>,
    is_hit: bool,
}

struct Relay {
    port: u16,
    seen: Arc<Mutex<Seen>>,
}

impl Relay {
    fn start(server: u16, case: Option<Case>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let shared = Arc::clone(&seen);
        thread::spawn(move || {
            for (connection, client) in listener.incoming().enumerate() {
                let Ok(client) = client else { return };
                let upstream = TcpStream::connect(("127.0.0.1", server)).unwrap();
                let (mut from, mut to) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
                thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    line::end(&from, &to);
                });
                let seen = Arc::clone(&shared);
                thread::spawn(move || {
                    let _ = relay(connection, &upstream, &client, case, &seen);
                    line::end(&client, &upstream);
                });
            }
        });
        Self { port, seen }
    }
}

/// Passes the server's messages on, one by one.
fn relay(
    connection: usize,
    mut server: &TcpStream,
    mut client: &TcpStream,
    case: Option<Case>,
    seen: &Mutex<Seen>,
) -> io::Result<()> {
    loop {
        let mut header = [0; 5];
        server.read_exact(&mut header)?;
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        let mut message = header.to_vec();
        message.resize(1 + length, 0);
        server.read_exact(&mut message[5..])?;
        let content = if header[0] == b'd' || header[0] == b'R' { message.get(8).copied() } else { None };
        let inner = if header[0] == b'd' { message[5] } else { content.unwrap_or(0) };
        let kind = (connection, header[0], inner);
        let is_meant = {
            let mut seen = seen.lock().unwrap();
            let count = seen.counts.entry(kind).or_default();
            *count += 1;
            let is_meant = case.is_some_and(|case| case.kind == kind && case.nth == *count);
            seen.is_hit |= is_meant;
            is_meant
        };
        match case {
            Some(case) if is_meant => spoil(case.spoil, message, client)?,
            _ => client.write_all(&message)?,
        }
    }
}

fn spoil(how: Spoil, mut message: Vec<u8>, mut client: &TcpStream) -> io::Result<()> {
    let length = u32::try_from(message.len() - 1).unwrap();
    let mut set_length = |length: u32| message[1..5].copy_from_slice(&length.to_be_bytes());
    match how {
        Spoil::Cut => {
            let half = message.len() / 2;
            client.write_all(&message[..half])?;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Spoil::Kind => message[0] = b'?',
        Spoil::Shorter => set_length(length - 1),
        Spoil::Longer => set_length(length + 1),
        Spoil::Zero => set_length(0),
        Spoil::Huge => set_length(0x7fff_ffff),
        Spoil::Noise => {
            for (at, byte) in message[5..].iter_mut().enumerate() {
                *byte ^= 0xa5 ^ at.to_le_bytes()[0];
            }
        }
        Spoil::Twice => client.write_all(&message)?,
        Spoil::Endless => loop {
            client.write_all(&message)?;
        },
        Spoil::Stall => {
            // Until the other side has had enough.
            let _ = client.read(&mut [0; 1]);
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    client.write_all(&message)
}

/// A kilobyte figure of this process, such as its greatest memory so far.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn through(server: &PostgresServer, case: Option<Case>) -> (Result<BackupFacts>, Taken, Duration, Relay) {
    let relay = Relay::start(server.port(), case);
    let taken = Taken::new();
    let begun = Instant::now();
    let (ended, waits) = mpsc::channel::<()>();
    let result = thread::scope(|scope| {
        let (cancel, progress) = (&taken.cancel, &taken.progress);
        scope.spawn(move || {
            let is_over = waits.recv_timeout(CHECKPOINT_PATIENCE) != Err(RecvTimeoutError::Timeout);
            if !is_over && progress.read().phase == "checkpoint" {
                cancel.stop(StopReason::Cancelled);
            }
        });
        let result = taken.take(&source_at(relay.port));
        drop(ended);
        result
    });
    (result, taken, begun.elapsed(), relay)
}

/// Length and digest of what two copies of a server at rest must have in common.
fn content(taken: &Taken) -> Content {
    let (mut found, mut folders) = (BTreeMap::new(), vec![taken.sink.root().to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(taken.sink.root()).unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if !is_of_its_own(&name) {
                let (content, mut hasher) = (std::fs::read(&path).unwrap(), DefaultHasher::new());
                content.hash(&mut hasher);
                found.insert(name, (content.len(), hasher.finish()));
            }
        }
    }
    found
}

/// Every message is met at its first and its last time and once between them: the ends of a copy say
/// what comes and what came, only its middle is the content of files. The order turns, so that any
/// sample holds every way of spoiling.
fn cases(seen: &Seen, spoils: &[Spoil]) -> Vec<Case> {
    let mut cases = Vec::new();
    for (kind, count) in &seen.counts {
        for nth in BTreeSet::from([1, count.div_ceil(2), *count]) {
            let turned = spoils.iter().cycle().skip(cases.len() / spoils.len()).take(spoils.len());
            cases.extend(turned.map(|spoil| Case { kind: *kind, nth, spoil: *spoil }));
        }
    }
    cases
}

fn judge(server: &PostgresServer, case: Case, honest: &Content) -> bool {
    let (result, taken, took, relay) = through(server, Some(case));
    assert!(took < CASE_TIMEOUT, "{case:?} took {took:?}");
    match result {
        // It did not matter, such as a notice that comes twice: then nothing may be amiss.
        Ok(_) => {
            assert_eq!(taken.sink.unfinished(), 0, "{case:?}");
            let content = content(&taken);
            let differ = |name: &&String| content.get(*name) != honest.get(*name);
            let other: BTreeSet<_> = content.keys().chain(honest.keys()).filter(differ).collect();
            assert!(other.is_empty(), "{case:?}: another content was taken for good: {other:?}");
        }
        Err(error) => {
            let kinds = [ErrorKind::SourceHostile, ErrorKind::SourceUnreachable, ErrorKind::SourceRefused];
            let is_ended_wait = error.kind() == ErrorKind::Cancelled && took >= CHECKPOINT_PATIENCE;
            assert!(is_ended_wait || kinds.contains(&error.kind()), "{case:?}: {error:?}");
            assert!(error.public().len() > 20, "{case:?}: {error:?}");
        }
    }
    relay.seen.lock().unwrap().is_hit
}

fn prepared() -> (PostgresServer, Content, Seen) {
    let conf = ["autovacuum = off", "max_wal_senders = 160", "max_replication_slots = 160"];
    let conf = conf.map(str::to_owned).to_vec();
    let server = PostgresServer::start(15, &Options { conf, ..Options::default() }).unwrap();
    create_role(&server);
    server
        .psql("postgres", "create table t as select i, md5(i::text) from generate_series(1, 20000) i")
        .unwrap();
    server.psql("postgres", "vacuum").unwrap();
    let (result, taken, _, relay) = through(&server, None);
    result.unwrap();
    let direct = Taken::new();
    direct.take(&source(&server)).unwrap();
    let honest = content(&direct);
    assert!(honest.len() > 900 && content(&taken) == honest, "the relay changes nothing by itself");
    let seen = std::mem::take(&mut *relay.seen.lock().unwrap());
    assert!(seen.counts.len() > 15, "{:?}", seen.counts);
    (server, honest, seen)
}

/// Judges all cases, several at once; answers how many met their message.
fn judge_all(server: &PostgresServer, cases: &[Case], at_once: usize, honest: &Content) -> usize {
    let (next, hits) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    hits.fetch_add(usize::from(judge(server, *case, honest)), Ordering::Relaxed);
                }
            });
        }
    });
    hits.into_inner()
}

fn spoilt_in_each_way(spoils: &[Spoil], at_once: usize) {
    let (server, honest, seen) = prepared();
    let all = cases(&seen, spoils);
    let chosen = depth::thin(all.clone(), 60);
    let hits = judge_all(&server, &chosen, at_once, &honest);
    slots_are_gone(&server);
    let peak = peak_bytes();
    depth::report(format_args!(
        "{} of {} cases, {hits} met their message, at most {} MiB",
        chosen.len(),
        all.len(),
        peak >> 20
    ));
    assert!(hits * 10 > chosen.len() * 8, "{hits} of {}", chosen.len());
    assert!(peak < MEMORY_BYTES_MAX + at_once as u64 * CONVERSATION_BYTES_MAX, "{peak}");
    // The server is as usable as before.
    Taken::new().take(&source(&server)).unwrap();
}

#[test]
fn h06_each_message_of_a_real_conversation_spoilt_in_each_way() {
    if require(15) {
        spoilt_in_each_way(&LOUD, 6);
    }
}

/// What is slow by its nature is bounded all the same; minutes, so at night only.
#[test]
fn h06_b21_a_real_conversation_that_falls_silent_or_never_ends() {
    if depth::is_full() && require(15) {
        spoilt_in_each_way(&SLOW, 60);
    }
}
