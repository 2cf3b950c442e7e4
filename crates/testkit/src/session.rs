//! A client that stays.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use anyhow::Context;

/// A client that was told something and keeps its session, with what it holds, until it is dropped.
pub struct Session(Child);

impl Session {
    /// Tells the client these statements and waits until it holds what is asked for.
    pub fn hold(
        mut client: Command,
        statements: &str,
        mut is_held: impl FnMut() -> bool,
    ) -> anyhow::Result<Self> {
        let child = client.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        let mut session = Self(child);
        let input = session.0.stdin.as_mut().context("the client reads")?;
        input.write_all(statements.as_bytes())?;
        while !is_held() {
            anyhow::ensure!(session.0.try_wait()?.is_none(), "the client ended: {statements}");
        }
        Ok(session)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
