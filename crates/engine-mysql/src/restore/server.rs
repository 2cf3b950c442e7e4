//! Finds a server on this machine that can start on the files of a backup.

use std::path::{Path, PathBuf};
use std::process::Command;

use strongroom_core::{Error, ErrorKind, Result};

use crate::facts::MySqlFacts;
use crate::server::Version;

/// Names the folders of servers' programs when they are in no usual place, separated as in `PATH`.
const BINDIR_VARIABLE: &str = "STRONGROOM_MYSQL_BINDIR";

/// Where packages and people put it, beside `PATH`, which ordinary accounts have without `sbin`.
const USUAL_FOLDERS: [&str; 5] =
    ["/usr/sbin", "/usr/libexec", "/usr/local/mysql/bin", "/usr/local/sbin", "/opt/mysql/bin"];

/// The first server that can start on these files. `what_stands` says what the lack of one leaves as
/// it is.
pub(crate) fn find_mysqld(facts: &MySqlFacts, what_stands: &str) -> Result<PathBuf> {
    let source = Version::parse(&facts.server_version).ok_or_else(|| {
        Error::new(ErrorKind::Damage, "The facts stored with the backup name no version of MySQL.")
            .with_source(facts.server_version.clone())
    })?;
    let named = std::env::var_os(BINDIR_VARIABLE).unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&named)
        .chain(std::env::split_paths(&path))
        .chain(USUAL_FOLDERS.iter().map(PathBuf::from));
    let mut others: Vec<Version> = Vec::new();
    for program in folders.map(|folder| folder.join("mysqld")).filter(|program| program.is_file()) {
        match release_of(&program) {
            Some(release) if release.can_start(source) => return Ok(program),
            Some(release) if !others.contains(&release) => others.push(release),
            Some(_) | None => {}
        }
    }
    Err(none_fits(source, &others, what_stands))
}

fn release_of(program: &Path) -> Option<Version> {
    let output = Command::new(program).args(["--no-defaults", "--version"]).output().ok()?;
    Version::of_program(&String::from_utf8_lossy(&output.stdout))
}

fn none_fits(source: Version, others: &[Version], what_stands: &str) -> Error {
    let found = match others {
        [] => "no MySQL server was found on this machine".to_owned(),
        others => {
            let others: Vec<String> = others.iter().map(|other| other.text()).collect();
            format!("this machine has MySQL {}, which cannot start on its files", others.join(" and "))
        }
    };
    Error::new(
        ErrorKind::NotSupported,
        format!("The backup is of MySQL {}, and {found}. {what_stands}", source.text()),
    )
    .with_hint(format!(
        "Install {}, or name the folder of its programs in {BINDIR_VARIABLE}.",
        source.wanted()
    ))
}

/// The folder that holds everything of an installation.
pub(super) fn base(mysqld: &Path) -> PathBuf {
    mysqld.parent().and_then(Path::parent).unwrap_or(Path::new("/")).to_owned()
}

/// The first of these folders that an installation has.
pub(super) fn first_folder(base: &Path, folders: &[&str]) -> Option<PathBuf> {
    folders.iter().map(|folder| base.join(folder)).find(|folder| folder.is_dir())
}

/// What tells a server where the rest of its installation is, when that lies in no usual place: one
/// that was moved looks where it was built for.
pub(crate) fn installation(mysqld: &Path) -> Vec<String> {
    let base = base(mysqld);
    if base.parent().is_none_or(|above| above == Path::new("/") || above == Path::new("/usr")) {
        return Vec::new();
    }
    let mut arguments = vec![format!("--basedir={}", base.display())];
    for (option, folder) in [
        ("plugin-dir", "lib/mysql/plugin"),
        ("lc-messages-dir", "share/mysql"),
        ("character-sets-dir", "share/mysql/charsets"),
    ] {
        let folder = base.join(folder);
        if folder.is_dir() {
            arguments.push(format!("--{option}={}", folder.display()));
        }
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v04_the_lack_of_a_server_says_what_was_found_and_what_is_needed() {
        let source = Version::parse("8.4.3").unwrap();
        let error = none_fits(source, &[Version::parse("9.7.4").unwrap()], "The backup was not touched.");
        assert_eq!(error.kind(), ErrorKind::NotSupported);
        let said = error.public();
        assert!(said.contains("MySQL 8.4.3") && said.contains("this machine has MySQL 9.7.4"), "{said}");
        let hint = error.hint().unwrap();
        assert!(hint.contains("series 8.4") && hint.contains(BINDIR_VARIABLE), "{hint}");
        let error = none_fits(source, &[], "");
        assert!(error.public().contains("no MySQL server was found"));
    }

    #[test]
    fn servers_in_their_usual_place_know_it() {
        for usual in ["/usr/sbin/mysqld", "/usr/local/sbin/mysqld", "/opt/bin/mysqld"] {
            assert_eq!(installation(Path::new(usual)), [""; 0], "{usual}");
        }
        assert_eq!(installation(Path::new("/srv/my/usr/sbin/mysqld")), ["--basedir=/srv/my/usr"]);
    }
}
