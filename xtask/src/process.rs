//! Running other programs: shown, checked, their failure explained.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// Runs to the end with our own stdout and stderr; an unhappy exit is an error.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let line = line(command);
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("starting {line}"))?;
    if !status.success() {
        bail!("`{line}` ended with {status}");
    }
    Ok(())
}

/// Runs to the end and answers stdout; stderr is part of the error when it fails.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let line = line(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {line}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{line}` ended with {}: {}", output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as a person would type it.
pub(crate) fn line(command: &Command) -> String {
    let mut text = name_of(command.get_program().as_ref());
    for argument in command.get_args() {
        let argument = argument.to_string_lossy();
        let plain = argument.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c));
        if plain && !argument.is_empty() {
            let _ = write!(text, " {argument}");
        } else {
            let _ = write!(text, " '{}'", argument.replace('\'', r"'\''"));
        }
    }
    text
}

fn name_of(program: &Path) -> String {
    program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned()
}

/// Whether a program of this name can be started from the search path.
pub(crate) fn exists(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_can_be_pasted_into_a_shell() {
        let mut command = Command::new("/usr/bin/psql");
        command.args(["-c", "SELECT 'a'", ""]);
        assert_eq!(line(&command), r"psql -c 'SELECT '\''a'\''' ''");
    }

    #[test]
    fn an_unhappy_exit_is_an_error_that_quotes_stderr() {
        let error = output(Command::new("sh").args(["-c", "echo lost >&2; exit 3"])).unwrap_err();
        assert!(error.to_string().contains("lost"), "{error}");
    }
}
