//! A clone's two connections: data comes on one, ends of phases are acknowledged on another, which is
//! open only for as long as that takes.

use std::time::{Duration, Instant};

use strongroom_core::engine::{CancelToken, Source};
use strongroom_core::{Error, ErrorKind, Retry, limits};

use super::descriptor::{StateDescriptor, empty_locator, locator_with_progress};
use super::introduction::Introduction;
use super::message::{self, Response};
use super::stages::Stages;
use crate::connection::{Connection, Watch};
use crate::fault::{Fault, Result, code};

/// Seconds without a command of ours after which the server ends a session.
const WAIT_TIMEOUT_S: u64 = 600;
/// What a server may need beyond its own time limit to end a clone whose client is gone.
const NOTICE_MARGIN: Duration = Duration::from_secs(30);
/// Between two looks at a server that gives its clone to somebody else.
const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// Time for calling a clone off.
const CALL_OFF_TIMEOUT: Duration = Duration::from_secs(10);

/// A server from which a clone is being taken.
pub(crate) struct Donor<'s> {
    source: &'s Source,
    main: Connection,
    locator: Vec<u8>,
    server_uuid: String,
}

impl<'s> Donor<'s> {
    /// Begins a clone on a session and lets it run. A server that has not noticed yet that the client of
    /// another clone is gone is asked again, on a new session, for as long as it may take to notice.
    pub(crate) fn begin(
        source: &'s Source,
        mut main: Connection,
        server_uuid: &str,
        watch: &Watch<'_>,
    ) -> Result<(Self, Introduction)> {
        let deadline =
            Instant::now() + Duration::from_millis(limits::SOURCE_SLOT_RELEASE_TIMEOUT_MS) + NOTICE_MARGIN;
        let introduction = loop {
            match introduce(&mut main, watch) {
                Err(Fault::Server(error)) if error.is_not_idle_yet() && Instant::now() < deadline => {}
                introduced => break introduced?,
            }
            std::thread::park_timeout(BUSY_PAUSE);
            watch.check()?;
            main = Connection::open(source, watch)?;
        };
        main.command(&message::execute(), watch)?;
        let locator = introduction.locator.clone();
        Ok((Self { source, main, locator, server_uuid: server_uuid.to_owned() }, introduction))
    }

    /// The next answer.
    pub(crate) fn next(&mut self, watch: &Watch<'_>) -> Result<Response<'_>> {
        Response::parse(self.main.receive(watch)?)
    }

    /// Says that everything of a phase was stored: the donor goes on.
    pub(crate) fn acknowledge(&self, state: &StateDescriptor, watch: &Watch<'_>) -> Result<()> {
        self.say(0, state, watch)
    }

    fn say(&self, error: u32, state: &StateDescriptor, watch: &Watch<'_>) -> Result<()> {
        let mut aux = self.reach(watch)?;
        aux.enter_clone(watch)?;
        aux.command(&message::acknowledge(error, &self.locator, &state.acknowledgement()), watch)?;
        read_complete(&mut aux, watch)?;
        leave(&mut aux, watch)
    }

    /// Another session, which must lead to the same server.
    pub(crate) fn reach(&self, watch: &Watch<'_>) -> Result<Connection> {
        let mut connection = Connection::open(self.source, watch)?;
        prepare(&mut connection, watch)?;
        if connection.query_value("SELECT @@server_uuid", watch)? == self.server_uuid {
            return Ok(connection);
        }
        Err(Fault::Domain(
            Error::new(
                ErrorKind::SourceRefused,
                "Two connections to the source reached two different servers. Nothing was stored as complete.",
            )
            .with_hint("Name the database server itself, not a balancer that spreads connections.")
            .with_retry(Retry::Later),
        ))
    }

    /// Takes a clone up again whose connection broke; the donor sends what had not come. `false` when
    /// there is nothing to go on from.
    pub(crate) fn resume(&mut self, stages: &mut Stages, watch: &Watch<'_>) -> Result<bool> {
        let Some((phase, progress)) = stages.resume() else { return Ok(false) };
        // It may be the other connection that broke: while this one lives, the donor does not see that.
        self.main.close();
        let locator = locator_with_progress(&self.locator, phase, &progress.incomplete(), progress.begun());
        let mut main = self.reach(watch)?;
        main.enter_clone(watch)?;
        main.command(&message::reinit(&locator), watch)?;
        // The locator in this answer is another one; the first stays the clone's name.
        read_introduction(&mut main, watch)?;
        main.command(&message::execute(), watch)?;
        self.main = main;
        Ok(true)
    }

    /// The clone is complete: its session runs statements again.
    pub(crate) fn leave(&mut self, watch: &Watch<'_>) -> Result<&mut Connection> {
        leave(&mut self.main, watch)?;
        Ok(&mut self.main)
    }

    /// Gives the clone up, so that the donor does not wait for us to take it up again.
    pub(crate) fn call_off(self, last: Option<StateDescriptor>) {
        let token = CancelToken::new();
        let watch = Watch::new(&token).with_deadline(CALL_OFF_TIMEOUT);
        // Before its first state a clone ends with its connection.
        if let Some(state) = last
            && let Err(fault) = self.say(code::INTERRUPTED, &state, &watch)
        {
            let error = Error::from(fault);
            tracing::info!("the clone could not be called off at the source: {}", error.chain());
        }
    }
}

fn introduce(main: &mut Connection, watch: &Watch<'_>) -> Result<Introduction> {
    prepare(main, watch)?;
    main.enter_clone(watch)?;
    main.command(&message::init(&empty_locator()), watch)?;
    read_introduction(main, watch)
}

/// How long the server waits for us: a frozen worker must not hold it.
fn prepare(connection: &mut Connection, watch: &Watch<'_>) -> Result<()> {
    let release_s = limits::SOURCE_SLOT_RELEASE_TIMEOUT_MS / 1000;
    connection.query(
        &format!(
            "SET SESSION net_write_timeout = {release_s}, net_read_timeout = {release_s}, wait_timeout = {WAIT_TIMEOUT_S}"
        ),
        watch,
    )?;
    Ok(())
}

fn read_introduction(connection: &mut Connection, watch: &Watch<'_>) -> Result<Introduction> {
    let mut introduction = Introduction::default();
    while !introduction.take(Response::parse(connection.receive(watch)?)?)? {}
    Ok(introduction)
}

fn read_complete(connection: &mut Connection, watch: &Watch<'_>) -> Result<()> {
    match Response::parse(connection.receive(watch)?)? {
        Response::Complete => Ok(()),
        Response::Error(error) => Err(Fault::Server(Box::new(error))),
        _ => Err(Fault::hostile("something else than the end of a request")),
    }
}

/// Ends the conversation about a clone on one session.
pub(crate) fn leave(connection: &mut Connection, watch: &Watch<'_>) -> Result<()> {
    connection.command(&message::exit(), watch)?;
    read_complete(connection, watch)?;
    connection.left_clone();
    Ok(())
}
