//! Where the catalog is: a file of this process, or a server that several machines share.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::local_path;
use super::values::Values;
use crate::exit::{Exit, Outcome, Stop};

/// What may follow the `?`; anything else is a mistake, or would change what a session does.
const PARAMETERS: [&str; 4] = ["sslmode", "sslrootcert", "sslcert", "sslkey"];

/// Where the catalog is.
#[derive(Debug, Clone)]
pub(crate) enum CatalogPlace {
    File(PathBuf),
    Server(CatalogServer),
}

/// A database of PostgreSQL.
#[derive(Debug, Clone)]
pub(crate) struct CatalogServer {
    /// With its password.
    pub(crate) url: SecretString,
    /// Without it, for people.
    shown: String,
}

impl CatalogPlace {
    pub(super) fn of(values: &Values, data_dir: &Path) -> Outcome<Self> {
        let password = values.text("database_password_file").map(PathBuf::from);
        let Some(url) = values.text("database_url") else {
            return Ok(Self::File(data_dir.join("catalog.sqlite")));
        };
        if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            return CatalogServer::parse(&url, password.as_deref()).map(Self::Server);
        }
        if password.is_some() {
            return Err(Stop::usage("database_password_file: a catalog in a file has no password"));
        }
        // What does not look like an address may hold a password all the same.
        local_path(&url, "sqlite://", "database_url").map(Self::File).map_err(|_| {
            Stop::usage("database_url: give sqlite:///absolute/path or postgres://USER@HOST:PORT/DATABASE")
        })
    }

    /// As an address without a password.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::File(path) => format!("sqlite://{}", path.display()),
            Self::Server(server) => server.shown.clone(),
        }
    }
}

impl CatalogServer {
    fn parse(text: &str, password_file: Option<&Path>) -> Outcome<Self> {
        let wrong = |what: &str| {
            Stop::usage(format!("database_url: {what}"))
                .with_hint("give postgres://USER@HOST:PORT/DATABASE?sslmode=verify-full")
        };
        // The address itself is in no message: a password may stand anywhere in a wrong one.
        let mut url = Url::parse(text).map_err(|error| wrong(&format!("it cannot be read: {error}")))?;
        if url.host_str().is_none_or(str::is_empty) || url.username().is_empty() {
            return Err(wrong("it must name a user and a host"));
        }
        if url.path().trim_matches('/').is_empty() {
            return Err(wrong("it must name a database"));
        }
        if let Some((unknown, _)) = url.query_pairs().find(|(key, _)| !PARAMETERS.contains(&key.as_ref())) {
            return Err(wrong(&format!("`{unknown}` is none of {}", PARAMETERS.join(", "))));
        }
        if let Some(path) = password_file {
            let password = read_password(path)?;
            url.set_password(Some(password.expose_secret())).map_err(|()| wrong("it takes no password"))?;
        }
        // Beyond this machine nobody may listen or answer in the server's place, unless that is said.
        if !url.query_pairs().any(|(key, _)| key == "sslmode") {
            let mode = if is_here(&url) { "prefer" } else { "verify-full" };
            url.query_pairs_mut().append_pair("sslmode", mode);
        }
        let mut shown = url.clone();
        let _ = shown.set_password(None);
        Ok(Self { url: SecretString::from(String::from(url)), shown: shown.into() })
    }
}

fn is_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    // An escaped slash begins the directory of a socket.
    host == "localhost"
        || host.to_ascii_lowercase().starts_with("%2f")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn read_password(path: &Path) -> Outcome<SecretString> {
    let unusable = |what: &dyn std::fmt::Display| {
        Stop::new(Exit::Usage, format!("database_password_file: {} {what}", path.display()))
    };
    let text =
        std::fs::read_to_string(path).map_err(|error| unusable(&format_args!("cannot be read: {error}")))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(unusable(&"is empty"));
    }
    Ok(SecretString::from(password))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Outcome<CatalogServer> {
        CatalogServer::parse(url, None)
    }

    #[test]
    fn the_password_is_shown_nowhere() {
        let server = parse("postgres://keeper:canary%20word@db.example:5433/catalog").unwrap();
        assert_eq!(server.shown, "postgres://keeper@db.example:5433/catalog?sslmode=verify-full");
        assert!(server.url.expose_secret().contains("canary%20word"));
        assert!(!format!("{server:?}").contains("canary"), "{server:?}");
        for wrong in [
            "postgres://keeper:canary@/catalog",
            "postgres://keeper:canary@h/",
            "postgres://:canary@h/d",
            "postgres://keeper:canary@h:99999/d",
            "postgres://keeper:canary@h/d?options=-c",
        ] {
            let stop = parse(wrong).unwrap_err();
            assert_eq!(stop.exit, Exit::Usage, "{wrong}");
            assert!(!format!("{stop:?}").contains("canary"), "{stop:?}");
        }
    }

    #[test]
    fn a_password_comes_from_a_file_as_well() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "c@nary: word\n").unwrap();
        let server = CatalogServer::parse("postgresql://keeper@localhost/catalog", Some(&file)).unwrap();
        let url = Url::parse(server.url.expose_secret()).unwrap();
        assert_eq!(url.password(), Some("c%40nary%3A%20word"));
        std::fs::write(&file, "\n").unwrap();
        assert!(CatalogServer::parse("postgresql://keeper@localhost/catalog", Some(&file)).is_err());
    }

    #[test]
    fn beyond_this_machine_the_server_proves_who_it_is() {
        let mode = |url: &str| {
            let server = parse(url).unwrap();
            server.shown.split("sslmode=").nth(1).unwrap().to_owned()
        };
        assert_eq!(mode("postgres://u@db/d"), "verify-full");
        assert_eq!(mode("postgres://u@10.0.0.1/d"), "verify-full");
        assert_eq!(mode("postgres://u@127.0.0.1/d"), "prefer");
        assert_eq!(mode("postgres://u@[::1]/d"), "prefer");
        assert_eq!(mode("postgres://u@localhost/d"), "prefer");
        assert_eq!(mode("postgres://u@%2Fvar%2Frun%2Fpostgresql/d"), "prefer");
        assert_eq!(mode("postgres://u@db/d?sslmode=disable"), "disable");
    }
}
