//! Text that people give: parsed once at the edge, valid ever after (contract section 1).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, Field, Result, limits};

/// `^[A-Za-z][A-Za-z0-9_-]{3,63}$`, anchored at the true end of the text.
fn check_name(field: Field, text: &str) -> Result<()> {
    if !text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic()) {
        return Err(Error::parameter(field, "name: must start with a letter"));
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        return Err(Error::parameter(
            field,
            "name: may contain only letters, digits, hyphens and underscores",
        ));
    }
    if !(limits::NAME_LENGTH_CHARS_MIN..=limits::NAME_LENGTH_CHARS_MAX).contains(&text.len()) {
        return Err(Error::parameter(field, "name: must have 4 to 64 characters"));
    }
    Ok(())
}

/// The name of a manual backup, unique in its project, case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BackupName(String);

impl BackupName {
    pub fn parse(text: &str) -> Result<Self> {
        check_name(Field::BackupName, text)?;
        Ok(Self(text.to_owned()))
    }

    pub fn from_stored(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BackupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of an instance, unique in its project while it is not retired.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceName(String);

impl InstanceName {
    pub fn parse(text: &str) -> Result<Self> {
        check_name(Field::InstanceName, text)?;
        Ok(Self(text.to_owned()))
    }

    pub fn from_stored(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a person says about a backup: up to 256 Unicode scalar values, none of ``! < > = ' & "``.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Description(String);

impl Description {
    pub fn parse(text: &str) -> Result<Self> {
        if text.chars().count() > limits::DESCRIPTION_LENGTH_CHARS_MAX {
            return Err(Error::parameter(
                Field::Description,
                "description: must have at most 256 characters",
            ));
        }
        if text.contains(['!', '<', '>', '=', '\'', '&', '"', '\0']) {
            return Err(Error::parameter(
                Field::Description,
                "description: must not contain any of ! < > = ' & \" or NUL",
            ));
        }
        Ok(Self(text.to_owned()))
    }

    pub fn from_stored(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a04_backup_names_at_every_edge() {
        for good in ["abcd", "Abcd", "a-_9", &"a".repeat(64)] {
            assert!(BackupName::parse(good).is_ok(), "{good}");
        }
        let long = "a".repeat(65);
        for bad in [
            "",
            "abc",
            long.as_str(),
            "1abc",
            "-abc",
            "_abc",
            "ab cd",
            "abcd\n",
            "abc\0",
            "äbcd",
            "abcd/",
            "../abcd",
            "ab%2e",
        ] {
            assert!(BackupName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a05_descriptions_count_characters_not_bytes() {
        assert!(Description::parse(&"ü".repeat(256)).is_ok());
        assert!(Description::parse(&"ü".repeat(257)).is_err());
        assert!(Description::parse("").is_ok());
        assert!(Description::parse("two\nlines").is_ok());
        for forbidden in ['!', '<', '>', '=', '\'', '&', '"', '\0'] {
            assert!(Description::parse(&format!("a{forbidden}b")).is_err(), "{forbidden:?}");
        }
    }
}
