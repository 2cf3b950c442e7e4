//! `bench logs`: the log of a database captured while it is written, beside the field's own tool.
//!
//! Each receiver has a round of its own, on a fresh server with the same rows: writers who do nothing else
//! load it for some seconds, and the receiver has all of the log, or the round fails. One round has
//! nobody who receives, so that the cost to the source is seen.

mod receiver;
mod source;
mod strongroom;

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use self::receiver::{Receiver, Tool};
use self::source::Source;
use self::strongroom::Strongroom;
use super::table::{median, mib};
use super::{LogsOptions, machine, meter, page, postgres};
use crate::database::Engine;
use crate::{interrupt, say};

/// Sessions that write. More than there are processors in most machines that this runs on.
const WRITERS: u32 = 4;
const READY_TIMEOUT: Duration = Duration::from_mins(5);
const CATCH_UP_TIMEOUT: Duration = Duration::from_mins(10);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Who receives the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Nobody,
    Tool,
    Strongroom,
}

const EVERYBODY: [Who; 3] = [Who::Nobody, Who::Tool, Who::Strongroom];

impl Who {
    fn open(self, program: &Path, source: &dyn Source) -> anyhow::Result<Option<Box<dyn Receiver>>> {
        Ok(match self {
            Self::Nobody => None,
            Self::Tool => Some(Box::new(Tool::start(source)?)),
            Self::Strongroom => Some(Box::new(Strongroom::start(program, source)?)),
        })
    }
}

/// What one round showed.
#[derive(Debug, Clone)]
struct Round {
    written_bytes: u64,
    transactions: u64,
    seconds: f64,
    received: Option<Received>,
}

impl Round {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a few hundred thousand, shown without digits behind the point"
    )]
    fn transactions_a_second(&self) -> f64 {
        self.transactions as f64 / self.seconds
    }
}

#[derive(Debug, Clone)]
struct Received {
    /// When the writers stopped.
    behind_bytes: u64,
    /// From then on, until all was received.
    caught_up_s: f64,
    cpu_s: f64,
    peak_bytes: u64,
    stored_bytes: u64,
}

pub(crate) fn run(options: &LogsOptions) -> anyhow::Result<()> {
    if let Some(name) = &options.write {
        page::check(name)?;
    }
    let engines = options.engine.map_or_else(|| vec![Engine::Postgresql, Engine::Mysql], |one| vec![one]);
    for engine in &engines {
        engine.ensure()?;
    }
    let program = options.program.clone().map_or_else(postgres::build, Ok)?;
    let mut text = format!(
        "`{}`\n\n{}. {WRITERS} writers for {} s. Medians of {} runs.\n",
        postgres::command_shown(),
        machine::describe(),
        options.seconds,
        options.runs
    );
    for engine in engines {
        text += &measure(engine, &program, options)?;
    }
    page::publish(&text, options.write.as_deref())
}

/// All rounds of one engine, as a table.
fn measure(engine: Engine, program: &Path, options: &LogsOptions) -> anyhow::Result<String> {
    let mut rows: Vec<(String, Vec<Round>)> = Vec::new();
    let mut version = String::new();
    for run in 1..=options.runs {
        say::step(format_args!("{}, run {run} of {}", engine.word(), options.runs));
        for (at, who) in EVERYBODY.into_iter().enumerate() {
            interrupt::check()?;
            let source = source::open(engine)?;
            version = source.version()?;
            let receiver = who.open(program, &*source)?;
            let name = receiver.as_ref().map_or("nobody", |receiver| receiver.name()).to_owned();
            let round = play(&*source, receiver, options.seconds).with_context(|| name.clone())?;
            say::note(format_args!("{name}: {round:?}"));
            if rows.len() <= at {
                rows.push((name, Vec::new()));
            }
            rows[at].1.push(round);
        }
    }
    Ok(format!("\n{version}\n\n{}", table(&rows)))
}

fn play(source: &dyn Source, receiver: Option<Box<dyn Receiver>>, seconds: u64) -> anyhow::Result<Round> {
    let Some(mut receiver) = receiver else {
        let (written_bytes, seconds) = load(source, seconds)?;
        let transactions = source.transactions()?;
        return Ok(Round { written_bytes, transactions, seconds, received: None });
    };
    let from = source.end()?;
    interrupt::wait_for("the receiver begins", READY_TIMEOUT, LOOK_INTERVAL, || {
        Ok((receiver.reached(source)? >= from).then_some(()))
    })?;
    let pid = receiver.pid();
    let stored_before = receiver.stored_bytes()?;
    meter::forget_peak(pid)?;
    let cpu_before = meter::tree_cpu_s(pid)?;
    let (written_bytes, seconds) = load(source, seconds)?;
    let (stopped, end) = (Instant::now(), source.end()?);
    let reached = receiver.reached(source)?;
    let behind_bytes = if reached < end { source.bytes(reached, end)? } else { 0 };
    interrupt::wait_for("the receiver has everything", CATCH_UP_TIMEOUT, LOOK_INTERVAL, || {
        Ok((receiver.reached(source)? >= end).then_some(()))
    })?;
    let received = Received {
        behind_bytes,
        caught_up_s: stopped.elapsed().as_secs_f64(),
        cpu_s: meter::tree_cpu_s(pid)? - cpu_before,
        peak_bytes: meter::peak_bytes(pid)?,
        stored_bytes: receiver.stored_bytes()?.saturating_sub(stored_before),
    };
    // A fast capture of something else would be no capture.
    receiver.judge(source, from, end)?;
    let transactions = source.transactions()?;
    Ok(Round { written_bytes, transactions, seconds, received: Some(received) })
}

/// Lets all writers write; how much log that was, and how long it took.
fn load(source: &dyn Source, seconds: u64) -> anyhow::Result<(u64, f64)> {
    // What others left unwritten must not be written in this time.
    rustix::fs::sync();
    let (from, begun) = (source.end()?, Instant::now());
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let writers: Vec<_> =
            (0..WRITERS).map(|writer| scope.spawn(move || source.write(writer, seconds))).collect();
        writers.into_iter().try_for_each(|writer| writer.join().expect("writers report errors"))
    })?;
    let elapsed = begun.elapsed().as_secs_f64();
    let written = source.bytes(from, source.end()?)?;
    ensure!(written > 0, "the writers wrote no log");
    Ok((written, elapsed))
}

fn table(rows: &[(String, Vec<Round>)]) -> String {
    let mut text = String::from(
        "| Who receives | Transactions a second | Log written MiB | MiB a second | Behind at the end MiB | Has everything after s | CPU s | CPU s for each GiB | Peak memory MiB | Stored MiB |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for (name, rounds) in rows {
        let of = |value: &dyn Fn(&Round) -> f64| median(rounds.iter().map(value).collect());
        let received = |value: fn(&Round, &Received) -> f64, digits: usize| {
            let values: Vec<f64> =
                rounds.iter().filter_map(|round| Some(value(round, round.received.as_ref()?))).collect();
            if values.is_empty() { "–".to_owned() } else { format!("{:.digits$}", median(values)) }
        };
        let _ = writeln!(
            text,
            "| {name} | {:.0} | {:.0} | {:.1} | {} | {} | {} | {} | {} | {} |",
            of(&Round::transactions_a_second),
            of(&|round| mib(round.written_bytes)),
            of(&|round| mib(round.written_bytes) / round.seconds),
            received(|_, received| mib(received.behind_bytes), 1),
            received(|_, received| received.caught_up_s, 2),
            received(|_, received| received.cpu_s, 2),
            received(|round, received| received.cpu_s * 1024.0 / mib(round.written_bytes), 2),
            received(|_, received| mib(received.peak_bytes), 0),
            received(|_, received| mib(received.stored_bytes), 1),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_receivers_holds_medians_and_nobody_receives_nothing() {
        let round = |written_mib: u64, received| Round {
            written_bytes: written_mib << 20,
            transactions: 900,
            seconds: 2.0,
            received,
        };
        let received = |behind_mib: u64, caught_up_s| {
            let (behind_bytes, peak_bytes, stored_bytes) = (behind_mib << 20, 7 << 20, 3 << 20);
            Some(Received { behind_bytes, caught_up_s, cpu_s: 0.5, peak_bytes, stored_bytes })
        };
        let rows = [
            ("nobody".to_owned(), vec![round(10, None), round(30, None), round(20, None)]),
            ("x".to_owned(), vec![round(512, received(4, 1.0)), round(512, received(1, 9.0))]),
        ];
        let table = table(&rows);
        let lines: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(lines[0], "| nobody | 450 | 20 | 10.0 | – | – | – | – | – | – |");
        assert_eq!(lines[1], "| x | 450 | 512 | 256.0 | 2.5 | 5.00 | 0.50 | 1.00 | 7 | 3.0 |");
    }

    /// Everybody receives what a real server writes in a second, in a round of their own.
    #[test]
    fn real_server_the_tools_own_files_are_found_to_be_all_of_the_log() {
        for engine in [Engine::Postgresql, Engine::Mysql] {
            if engine == Engine::Mysql && !strongroom_testkit::mysql::require() {
                continue;
            }
            let source = source::open(engine).unwrap();
            let tool = Who::Tool.open(Path::new(""), &*source).unwrap();
            let round = play(&*source, tool, 1).unwrap();
            let received = round.received.unwrap();
            assert!(
                received.stored_bytes >= round.written_bytes,
                "{engine:?}: {received:?} {}",
                round.written_bytes
            );
        }
    }
}
