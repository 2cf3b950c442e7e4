//! The server's log: sentences with fields, on stderr.

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;
use crate::exit::{Outcome, Stop};

/// A library tells what it does at `info`, which is our level for steps and requests; whoever names
/// it hears it all the same.
fn with_quiet_libraries(filter: &str) -> String {
    if filter.contains("sqlx") { filter.to_owned() } else { format!("{filter},sqlx=warn,sqlx_core=warn") }
}

/// Begins logging. `filter` is a level or a list of targets with levels.
pub(crate) fn start(filter: &str, format: LogFormat) -> Outcome<()> {
    let filter = EnvFilter::try_new(with_quiet_libraries(filter))
        .map_err(|error| Stop::usage(format!("log: {error}")).with_hint("give error, warn, info or debug"))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => log.with_target(false).with_ansi(false).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    // Tests boot several servers in one process: the first one's log serves all.
    drop(started);
    Ok(())
}
