//! Layers of settings: who said it last decides.

use std::fmt;
use std::path::PathBuf;

use super::KEYS;
use super::file::File;
use crate::exit::{Outcome, Stop};

pub(super) const DATA_DIR: &str = "./strongroom-data";

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    CommandLine,
    Environment(String),
    FileLine(usize),
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine => f.write_str("command line"),
            Self::Environment(name) => f.write_str(name),
            Self::FileLine(line) => write!(f, "file, line {line}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// What was said about each key.
pub(super) struct Values(Vec<(&'static str, Option<String>, Origin)>);

impl Values {
    pub(super) fn new(
        given: impl Fn(&str) -> Option<String>,
        environment: impl Fn(&str) -> Option<String>,
        mut file: File,
    ) -> Self {
        let layered = |key: &'static str| {
            if let Some(value) = given(key) {
                return (key, Some(value), Origin::CommandLine);
            }
            let name = format!("STRONGROOM_{}", key.to_ascii_uppercase());
            if let Some(value) = environment(&name).filter(|value| !value.is_empty()) {
                return (key, Some(value), Origin::Environment(name));
            }
            match file.remove(key) {
                Some((value, line)) => (key, Some(value), Origin::FileLine(line)),
                None => (key, None, Origin::Default),
            }
        };
        Self(KEYS.map(layered).into())
    }

    fn find(&self, key: &str) -> Option<&(&'static str, Option<String>, Origin)> {
        self.0.iter().find(|(known, _, _)| *known == key)
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.find(key)?.1.clone()
    }

    pub(super) fn text_or(&self, key: &str, default: &str) -> String {
        self.text(key).unwrap_or_else(|| default.to_owned())
    }

    pub(super) fn flag(&self, key: &str) -> Outcome<bool> {
        match self.text(key).as_deref() {
            None | Some("false" | "0" | "no") => Ok(false),
            Some("true" | "1" | "yes") => Ok(true),
            Some(other) => Err(self.wrong(key, other, "true or false")),
        }
    }

    pub(super) fn wrong(&self, key: &str, value: &str, wanted: &str) -> Stop {
        let origin = self.find(key).map_or(Origin::Default, |(_, _, origin)| origin.clone());
        Stop::usage(format!("{key}: `{value}` ({origin}) is not {wanted}"))
    }

    /// Key, effective value and origin of each.
    pub(super) fn listing(
        &self,
        effective: impl Fn(&str) -> Option<String>,
    ) -> Vec<(&'static str, String, Origin)> {
        let shown = |key: &str| effective(key).unwrap_or_else(|| "-".to_owned());
        self.0.iter().map(|(key, _, origin)| (*key, shown(key), origin.clone())).collect()
    }
}

/// The data directory of a client command: option, environment, default.
pub(crate) fn data_dir(given: Option<&PathBuf>) -> PathBuf {
    let environment = || std::env::var_os("STRONGROOM_DATA_DIR").map(PathBuf::from);
    given.cloned().or_else(environment).unwrap_or_else(|| DATA_DIR.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_wins_then_the_environment_then_the_file() {
        let file =
            || super::super::file::parse("f", "listen = 'file'\nregion = 'file'\nlog = 'file'").unwrap();
        let values = Values::new(
            |key| (key == "listen").then(|| "line".to_owned()),
            |name| matches!(name, "STRONGROOM_LISTEN" | "STRONGROOM_REGION").then(|| "env".to_owned()),
            file(),
        );
        let of = |key: &str| values.text(key).unwrap();
        assert_eq!([of("listen"), of("region"), of("log")], ["line", "env", "file"]);
        assert_eq!(values.text("tls_key"), None);
        assert_eq!(values.wrong("region", "env", "x").message, "region: `env` (STRONGROOM_REGION) is not x");
    }
}
