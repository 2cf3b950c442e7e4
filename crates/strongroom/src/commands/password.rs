//! Passwords that commands are given.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;

use crate::exit::{Exit, Outcome, Stop};

/// By file, environment or prompt; never on a command line, where everybody can read it.
#[derive(Debug, Args)]
pub(crate) struct PasswordOptions {
    /// A file whose first line is the password
    #[arg(long, value_name = "FILE", conflicts_with = "password_env")]
    password_file: Option<PathBuf>,
    /// An environment variable that holds the password
    #[arg(long, value_name = "VAR")]
    password_env: Option<String>,
}

impl PasswordOptions {
    /// The password of `whom`.
    pub(crate) fn read(&self, whom: &str) -> Outcome<String> {
        if let Some(path) = &self.password_file {
            let text = std::fs::read_to_string(path).map_err(|error| {
                Stop::usage(format!("password-file: {} cannot be read: {error}", path.display()))
            })?;
            return Ok(text.lines().next().unwrap_or_default().to_owned());
        }
        if let Some(name) = &self.password_env {
            return std::env::var(name)
                .map_err(|_| Stop::usage(format!("password-env: the variable {name} is not set")));
        }
        if !std::io::stdin().is_terminal() {
            return Err(Stop::usage("no password was given, and there is no terminal to ask on")
                .with_hint("give --password-file FILE or --password-env VAR"));
        }
        rpassword::prompt_password(format!("Password of {whom}: "))
            .map_err(|error| Stop::new(Exit::Failed, format!("the password cannot be read: {error}")))
    }
}
