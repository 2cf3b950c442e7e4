//! Who else asks, and how much, is hardly felt: how long answers take beside a tenant that asks as much as
//! a hundred others, and beside thousands of connections that say nothing or are slow.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use strongroom_testkit::depth;

use crate::room::{Room, pause};

/// Callers who are measured, each with a connection of its own, and how often each asks.
const CALLERS: usize = 10;
const ASKS_EVERY: Duration = Duration::from_millis(50);
/// What the other tenant has in the place of one connection that rests between requests: so many that never do.
const GREEDY: usize = 100;
/// On a machine that has other things to do as well the time of one request says little; at full depth
/// the machine is ours.
const NOISE: Duration = Duration::from_millis(200);
const NOISE_OF_A_QUIET_MACHINE: Duration = Duration::from_millis(2);

struct Caller {
    stream: BufReader<TcpStream>,
    request: String,
}

impl Caller {
    fn new(room: &Room, token: &str, path: &str) -> Self {
        let authority = room.endpoint.strip_prefix("http://").unwrap();
        let stream = TcpStream::connect(authority).unwrap();
        stream.set_nodelay(true).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nX-Auth-Token: {token}\r\n\r\n");
        Self { stream: BufReader::new(stream), request }
    }

    /// One request on the connection; answers how long it took.
    fn ask(&mut self) -> Duration {
        let began = Instant::now();
        self.stream.get_mut().write_all(self.request.as_bytes()).unwrap();
        let status = self.line();
        assert!(status.starts_with("HTTP/1.1 200 "), "{status}");
        while !self.line().is_empty() {}
        // The answers asked for here come in pieces, the last of which is empty.
        loop {
            let line = self.line();
            let length = usize::from_str_radix(&line, 16).unwrap_or_else(|_| panic!("{line}"));
            let mut piece = vec![0; length + 2];
            self.stream.read_exact(&mut piece).unwrap();
            if length == 0 {
                return began.elapsed();
            }
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

/// How long ninety-nine of a hundred requests took at most, of callers who ask now and then.
fn slowest_but_a_hundredth(room: &Room, token: &str, path: &str, length: Duration) -> Duration {
    let end = Instant::now() + length;
    let mut taken: Vec<Duration> = std::thread::scope(|scope| {
        let asking = (0..CALLERS).map(|_| {
            scope.spawn(|| {
                let (mut caller, mut taken) = (Caller::new(room, token, path), Vec::new());
                while Instant::now() < end {
                    taken.push(caller.ask());
                    pause(ASKS_EVERY);
                }
                taken
            })
        });
        let asking: Vec<_> = asking.collect();
        asking.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    });
    taken.sort_unstable();
    assert!(taken.len() >= 200, "{} requests tell nothing of a hundredth", taken.len());
    taken[taken.len() - 1 - taken.len() / 100]
}

/// The least of several rounds each: what the machine does besides is not the server's.
fn in_turns(mut round: impl FnMut(bool) -> Duration) -> (Duration, Duration) {
    let mut least = (Duration::MAX, Duration::MAX);
    for _ in 0..depth::choose(2, 5) {
        least.0 = least.0.min(round(false));
        least.1 = least.1.min(round(true));
    }
    least
}

fn assert_is_hardly_felt(what: &str, (quiet, beside): (Duration, Duration), times_tenths: u32) {
    let noise = depth::choose(NOISE, NOISE_OF_A_QUIET_MACHINE);
    depth::report(format_args!("{what}: 99 % answered in {beside:?}, {quiet:?} without"));
    assert!(beside <= quiet * times_tenths / 10 + noise, "{what}: {beside:?}, {quiet:?} without");
}

/// A project of its own, and a token for it.
fn another_tenant(room: &Room) -> (String, String) {
    let secret = room.scratch.path().join("ada-password");
    std::fs::write(&secret, "correct horse battery\n").unwrap();
    let project = room.json(&["project", "create", "sales"]);
    room.json(&["user", "create", "ada", "--password-file", &secret.display().to_string()]);
    room.run(&["user", "grant", "ada", "admin", "--project", "sales"]).expect(0);
    let log_in = serde_json::json!({ "auth": { "identity": {
        "methods": ["password"],
        "password": { "user": { "name": "ada", "password": "correct horse battery" } },
    } } });
    let answer = room.http("POST", "/v3/auth/tokens", &log_in.to_string());
    let token = answer.head.lines().find_map(|line| line.strip_prefix("x-subject-token: ")).unwrap();
    (project["id"].as_str().unwrap().to_owned(), token.to_owned())
}

#[test]
fn a25_a_tenant_that_asks_a_hundredfold_is_hardly_felt_by_others() {
    let room = Room::serving();
    let (ours, our_token) = (room.credential("project_id"), room.credential("token"));
    let (theirs, their_token) = another_tenant(&room);
    let (ours, theirs) = (format!("/rds/v1/{ours}/backups"), format!("/rds/v1/{theirs}/backups"));
    let answered = AtomicU64::new(0);
    let length = depth::choose(Duration::from_secs(2), Duration::from_secs(10));
    let taken = in_turns(|is_beside| {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..if is_beside { GREEDY } else { 0 } {
                scope.spawn(|| {
                    let mut greedy = Caller::new(&room, &their_token, &theirs);
                    while !is_over.load(Ordering::Relaxed) {
                        greedy.ask();
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let taken = slowest_but_a_hundredth(&room, &our_token, &ours, length);
            is_over.store(true, Ordering::Relaxed);
            taken
        })
    });
    let answered = answered.into_inner();
    assert!(answered > 100, "the other one is served, too: {answered}");
    assert_is_hardly_felt(&format!("beside a tenant with {GREEDY} connections"), taken, 15);
}

/// Most say nothing, some send a header one byte after the other.
#[test]
fn a09_others_hardly_feel_slow_and_idle_connections() {
    let room = Room::serving();
    let (ours, token) = (room.credential("project_id"), room.credential("token"));
    let path = format!("/rds/v1/{ours}/backups");
    let (idle, slow) = depth::choose((500, 50), (3_000, 500));
    let length = depth::choose(Duration::from_secs(2), Duration::from_secs(10));
    let authority = room.endpoint.strip_prefix("http://").unwrap();
    let taken = in_turns(|is_beside| {
        let connect = |_| TcpStream::connect(authority).unwrap();
        let _idle: Vec<TcpStream> = (0..if is_beside { idle } else { 0 }).map(connect).collect();
        let mut slow: Vec<TcpStream> = (0..if is_beside { slow } else { 0 }).map(connect).collect();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let begin = b"POST /healthz HTTP/1.1\r\nX-Slow: ";
                for slow in &mut slow {
                    slow.write_all(begin).unwrap();
                }
                while !is_over.load(Ordering::Relaxed) {
                    // Those whose time is over were closed.
                    slow.retain_mut(|slow| slow.write_all(b"x").is_ok());
                    pause(Duration::from_millis(100));
                }
            });
            let taken = slowest_but_a_hundredth(&room, &token, &path, length);
            is_over.store(true, Ordering::Relaxed);
            taken
        })
    });
    assert_is_hardly_felt(&format!("beside {idle} idle and {slow} slow connections"), taken, 20);
}
