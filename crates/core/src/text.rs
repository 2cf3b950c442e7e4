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

/// The password that a new instance is asked to have (contract section 3.16): of three kinds of
/// characters at least. It is judged and not kept.
pub fn check_instance_password(text: &str) -> Result<()> {
    let refused = |what| Err(Error::parameter(Field::Password, what));
    let has = |kind: fn(&u8) -> bool| usize::from(text.as_bytes().iter().any(kind));
    let kinds = has(u8::is_ascii_lowercase)
        + has(u8::is_ascii_uppercase)
        + has(u8::is_ascii_digit)
        + has(u8::is_ascii_punctuation);
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return refused("password: may contain only letters, digits and signs of ASCII");
    }
    let lengths = limits::INSTANCE_PASSWORD_CHARS_MIN..=limits::INSTANCE_PASSWORD_CHARS_MAX;
    if !lengths.contains(&text.len()) {
        return refused("password: must have 8 to 32 characters");
    }
    if kinds < 3 {
        return refused("password: must have three of lower case, upper case, digits and signs");
    }
    Ok(())
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
    fn passwords_of_instances_at_every_edge() {
        let long = "aA1".repeat(11);
        for good in ["aaaaaA1a", "aaaaaa1!", "AAAAAA1!", &long[..limits::INSTANCE_PASSWORD_CHARS_MAX]] {
            assert!(check_instance_password(good).is_ok(), "{good}");
        }
        for bad in ["", "aA1aaaa", "aaaaaaaa", "aaaaaaa1", "aA1 aaaaa", "aA1äaaaaa", &long] {
            assert!(check_instance_password(bad).is_err(), "{bad:?}");
        }
        assert_eq!(long.len(), limits::INSTANCE_PASSWORD_CHARS_MAX + 1);
        assert_eq!("aA1aaaa".len(), limits::INSTANCE_PASSWORD_CHARS_MIN - 1);
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
