//! The server killed at random moments of everything it does, again and again, under a source that
//! is written to: nothing acknowledged is lost, nothing COMPLETED does not restore, no slot and no
//! job stays. One seed is one order of wishes and moments; it is printed, and can be given.

use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use strongroom_testkit::depth;
use strongroom_testkit::postgres::PostgresServer;
use strongroom_testkit::postgres_ledger::{Ledger, LedgerWriters};

use crate::room::{Done, Room, pause, until};
use crate::source::{Source, VERSION, restore};

/// What is asked for at each run, and at night.
const KILLS: usize = 10;
const KILLS_FULL: usize = 200;
/// The same order of wishes and moments again.
const SEED: &str = "STRONGROOM_TEST_SEED";
/// Within this after the last kill every job has ended: a lease, three tries and their pauses.
const SETTLED: Duration = Duration::from_mins(4);
/// One server under several names, because an instance has one backup at a time.
const INSTANCES: [&str; 8] = ["shop-1", "shop-2", "shop-3", "shop-4", "shop-5", "shop-6", "shop-7", "shop-8"];
/// Kept of what was made, so that checks and listings stay short.
const KEPT: usize = 20;

struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }

    fn millis(&mut self, end: usize) -> Duration {
        Duration::from_millis(self.below(end) as u64)
    }
}

/// A wish on its way when the server dies.
enum Wish {
    Create(String),
    Delete(String),
    Other,
}

struct Story {
    room: Room,
    source: Source,
    dice: Dice,
    /// Names of backups whose wish was answered, and of those asked to go.
    acknowledged: BTreeSet<String>,
    asked_to_go: BTreeSet<String>,
    /// Kills that found a job at work, and the longest time until the source was free again.
    hits: usize,
    released_after: Duration,
}

fn backups(room: &Room) -> Vec<Value> {
    room.json(&["backup", "list"])["backups"].as_array().unwrap().clone()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

impl Story {
    fn begin(seed: u64) -> Self {
        let (room, source) = (Room::serving(), Source::filled(16));
        for name in INSTANCES {
            source.register_as(&room, name);
        }
        Self {
            room,
            source,
            dice: Dice(seed),
            acknowledged: BTreeSet::new(),
            asked_to_go: BTreeSet::new(),
            hits: 0,
            released_after: Duration::ZERO,
        }
    }

    /// Sends a wish and does not wait for its answer.
    fn wish(&mut self, round: usize) -> (Wish, Option<Child>) {
        let completed: Vec<String> = backups(&self.room)
            .iter()
            .filter(|view| view["status"] == "COMPLETED" && !self.asked_to_go.contains(text(view, "name")))
            .map(|view| text(view, "name").to_owned())
            .collect();
        let any = |dice: &mut Dice| completed[dice.below(completed.len())].clone();
        let (wish, arguments) = match self.dice.below(12) {
            _ if completed.len() > KEPT => {
                let name = completed[completed.len() - 1 - self.dice.below(4)].clone();
                (Wish::Delete(name.clone()), vec!["backup".to_owned(), "delete".to_owned(), name])
            }
            4 if completed.len() > 2 => {
                let name = any(&mut self.dice);
                (Wish::Delete(name.clone()), vec!["backup".to_owned(), "delete".to_owned(), name])
            }
            5 if !completed.is_empty() => {
                let level = ["presence", "digest", "decode"][self.dice.below(3)];
                let name = any(&mut self.dice);
                (Wish::Other, ["backup", "verify", &name, "--level", level].map(str::to_owned).to_vec())
            }
            6 => (Wish::Other, ["repository", "check", "--level", "digest"].map(str::to_owned).to_vec()),
            // Nothing is asked for: the kill meets what is under way, or the server's own start.
            7 => return (Wish::Other, None),
            _ => {
                let (name, instance) =
                    (format!("round-{round}"), INSTANCES[self.dice.below(INSTANCES.len())]);
                let create = ["backup", "create", instance, "--name", &name].map(str::to_owned);
                (Wish::Create(name), create.to_vec())
            }
        };
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut command = self.room.command(&arguments);
        (wish, Some(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()))
    }

    /// Waits until the source is read, for a while: the wish may have been refused.
    fn at_work(&self) {
        let begun = Instant::now();
        while self.source.sessions() == 0 && begun.elapsed() < Duration::from_millis(1500) {}
    }

    /// One wish, one kill, one start.
    fn round(&mut self, round: usize) {
        let (wish, command) = self.wish(round);
        if matches!(wish, Wish::Create(_)) && self.dice.below(4) > 0 {
            self.at_work();
            let moment = self.dice.millis(120);
            pause(moment);
        } else {
            let moment = self.dice.millis(600);
            pause(moment);
        }
        let running = self.source.sessions();
        self.room.kill();
        let killed = Instant::now();
        self.source.is_released();
        self.hits += usize::from(running > 0);
        self.released_after = self.released_after.max(killed.elapsed());
        if let Some(mut command) = command {
            // A command that follows a job waits for the server to come back; this one need not.
            if !matches!(wish, Wish::Create(_)) {
                let _ = command.kill();
            }
            let done = Done::of(&command.wait_with_output().unwrap());
            match wish {
                Wish::Create(name) if done.code == 0 => drop(self.acknowledged.insert(name)),
                // Unanswered or not, it may have been taken on.
                Wish::Delete(name) => drop(self.asked_to_go.insert(name)),
                Wish::Create(_) | Wish::Other => {}
            }
        }
        if self.dice.below(10) == 0 {
            let moment = self.dice.millis(400);
            self.room.serve_and_kill_after(moment);
        }
        self.room.serve();
    }

    /// No job is left, and what is listed is what was promised.
    fn settled(&self) {
        until("every job ends", SETTLED, || {
            let jobs = self.room.json(&["job", "list"])["jobs"].as_array().unwrap().clone();
            // A sweep waits for a minute, and every delete and kill asks for one.
            let is_live = |job: &&Value| {
                ["ready", "leased"].contains(&text(job, "state")) && text(job, "kind") != "sweep"
            };
            jobs.iter().find(is_live).is_none().then_some(())
        });
        let listed = backups(&self.room);
        let names: BTreeSet<&str> = listed.iter().map(|view| text(view, "name")).collect();
        for name in self.acknowledged.difference(&self.asked_to_go) {
            assert!(names.contains(name.as_str()), "{name} was acknowledged and is gone: {names:?}");
        }
        for view in &listed {
            match text(view, "status") {
                "COMPLETED" => {}
                // Its workers were killed as often as it may be tried.
                "FAILED" => assert_eq!(view["failure"]["code"], "internal", "{view}"),
                other => panic!("{other}: {view}"),
            }
        }
        let check = self.room.run(&["repository", "check", "--level", "decode", "--progress", "none"]);
        assert_eq!(check.code, 0, "{}\n{}", check.stdout, check.stderr);
    }

    /// Restores a backup, starts it, and compares it with the book of the writers.
    fn judged(&self, name: &str, id: &str, ledger: &Ledger) {
        let plan = self.room.http("GET", &format!("/strongroom/v1/backups/{id}/plan"), "").body;
        let stop = plan["facts"]["engine"]["stop_lsn"].as_str().unwrap();
        let (high, low) = stop.split_once('/').unwrap();
        let end = u64::from_str_radix(high, 16).unwrap() << 32 | u64::from_str_radix(low, 16).unwrap();
        let target = self.room.scratch.path().join(format!("judged-{name}"));
        restore(&self.room, name, &target).expect(0);
        let restored = PostgresServer::adopt(VERSION, &target).unwrap();
        ledger.judge(&restored, end).unwrap();
        drop(restored);
        std::fs::remove_dir_all(&target).unwrap();
    }
}

#[test]
fn p03_p04_p05_f05_random_kills_lose_nothing() {
    let kills = depth::choose(KILLS, KILLS_FULL);
    let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x5EED_0003);
    depth::report(format_args!("{kills} kills, {SEED}={seed}"));
    let mut story = Story::begin(seed);
    let pace = Duration::from_millis(20);
    let writers = LedgerWriters::start_paced(&story.source.server, "postgres", 2, pace).unwrap();
    for round in 0..kills {
        story.round(round);
        if round % 50 == 49 {
            story.settled();
        }
    }
    story.settled();
    let ledger = writers.stop().unwrap();
    story.room.json(&[
        "backup",
        "create",
        INSTANCES[0],
        "--name",
        "the-next-one",
        "--wait",
        "--progress",
        "none",
    ]);
    story.source.is_released();
    let completed: Vec<Value> =
        backups(&story.room).into_iter().filter(|view| view["status"] == "COMPLETED").collect();
    // The check has decoded every chunk of all of them; some are started, the newest among them.
    let sample = depth::choose(2, 12);
    let step = completed.len().div_ceil(sample).max(1);
    let judged: Vec<&Value> = completed.iter().step_by(step).collect();
    for view in &judged {
        story.judged(text(view, "name"), text(view, "id"), &ledger);
    }
    depth::report(format_args!(
        "{kills} kills, {} of them with a source session open; {} backups acknowledged, {} COMPLETED now, \
         {} started and judged against {} commits; source free after {:?} at most",
        story.hits,
        story.acknowledged.len(),
        completed.len(),
        judged.len(),
        ledger.len(),
        story.released_after
    ));
    assert!(story.hits > 0, "no kill met a backup at work");
}
