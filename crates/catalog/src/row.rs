//! Reading rows and writing values: the catalog's three forms (text, integer, JSON) and back.

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::any::AnyRow;
use strongroom_core::time::from_micros;
use strongroom_core::{Error, Result};

use crate::fault::{Fault, damaged};

/// Typed access to the columns of one row, by name.
pub(crate) trait Columns {
    fn text(&self, column: &str) -> Result<String, Fault>;
    fn maybe_text(&self, column: &str) -> Result<Option<String>, Fault>;
    fn integer(&self, column: &str) -> Result<i64, Fault>;
    fn maybe_integer(&self, column: &str) -> Result<Option<i64>, Fault>;

    /// A count or a size: never negative.
    fn unsigned(&self, column: &str) -> Result<u64, Fault> {
        let value = self.integer(column)?;
        u64::try_from(value).map_err(|_| damaged(column, &value.to_string()))
    }

    fn maybe_unsigned(&self, column: &str) -> Result<Option<u64>, Fault> {
        self.maybe_integer(column)?
            .map(|value| u64::try_from(value).map_err(|_| damaged(column, &value.to_string())))
            .transpose()
    }

    fn flag(&self, column: &str) -> Result<bool, Fault> {
        Ok(self.integer(column)? != 0)
    }

    fn time(&self, column: &str) -> Result<Timestamp, Fault> {
        self.integer(column).map(from_micros)
    }

    fn maybe_time(&self, column: &str) -> Result<Option<Timestamp>, Fault> {
        Ok(self.maybe_integer(column)?.map(from_micros))
    }

    /// A word of a closed list.
    fn word<T>(&self, column: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, Fault> {
        word_of(column, &self.text(column)?, parse)
    }

    fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, Fault> {
        json_of(column, &self.text(column)?)
    }

    fn maybe_json<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>, Fault> {
        self.maybe_text(column)?.map(|text| json_of(column, &text)).transpose()
    }
}

impl Columns for AnyRow {
    fn text(&self, column: &str) -> Result<String, Fault> {
        Ok(self.try_get(column)?)
    }

    fn maybe_text(&self, column: &str) -> Result<Option<String>, Fault> {
        Ok(self.try_get(column)?)
    }

    fn integer(&self, column: &str) -> Result<i64, Fault> {
        Ok(self.try_get(column)?)
    }

    fn maybe_integer(&self, column: &str) -> Result<Option<i64>, Fault> {
        Ok(self.try_get(column)?)
    }
}

/// A word of a closed list, as it is stored.
pub(crate) fn word_of<T>(column: &str, word: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, Fault> {
    parse(word).ok_or_else(|| damaged(column, word))
}

/// A document, from the text it is stored as.
pub(crate) fn json_of<T: DeserializeOwned>(column: &str, text: &str) -> Result<T, Fault> {
    serde_json::from_str(text).map_err(|_| damaged(column, text))
}

/// A document as it is stored.
pub(crate) fn to_json(document: &impl Serialize) -> Result<String> {
    serde_json::to_string(document).map_err(Error::internal)
}

/// A count or a size as it is stored; the database counts to 2⁶³ − 1.
pub(crate) fn to_integer(count: u64) -> Result<i64> {
    i64::try_from(count).map_err(Error::internal)
}
