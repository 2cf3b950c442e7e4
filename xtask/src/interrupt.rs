//! Ctrl-C and SIGTERM while a chore holds servers and folders: everything is put away, then we end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use signal_hook::consts::{SIGINT, SIGTERM};

static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on the first signal is a wish that [`check`] reports; the second ends us at once.
pub(crate) fn listen() -> anyhow::Result<()> {
    let asked = ASKED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(asked))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(asked)))
            .context("listening to signals")?;
    }
    Ok(())
}

/// An error once somebody asked us to stop.
pub(crate) fn check() -> anyhow::Result<()> {
    if ASKED.get().is_some_and(|asked| asked.load(Ordering::Relaxed)) {
        bail!("stopped because you asked for it; servers are stopped and folders removed");
    }
    Ok(())
}

/// Waits a moment between two looks at something that cannot wake us.
#[expect(clippy::disallowed_methods, reason = "processes and other people's files cannot be awaited")]
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Looks every `interval` until there is an answer; the error names what did not happen.
pub(crate) fn wait_for<T>(
    what: &str,
    within: Duration,
    interval: Duration,
    mut look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + within;
    loop {
        check()?;
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("{what}: nothing within {} s", within.as_secs());
        }
        pause(interval);
    }
}
