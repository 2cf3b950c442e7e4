//! Values of columns as literals of statements that give them back exactly.
//!
//! What a server says is never copied into a statement as it is: numbers and times are digits, names of
//! character sets are words, everything else is hex.

use crate::connection::Row;
use crate::fault::{Fault, Result};
use crate::remedy::quote_name;

/// What is longest of all times.
const MOMENT_BYTES_MAX: usize = 32;

/// How a value is read and written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Digits with a sign and a point.
    Exact,
    /// Read as a DOUBLE, whose digits tell all of it.
    Approximate,
    /// A date, a time, or both.
    Moment,
    Bytes,
    /// Text in this character set.
    Text(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Kind,
    is_single: bool,
    pub(super) is_counted: bool,
}

/// In this order in [`Column::of_row`]. Generated columns are left out by the statement.
pub(super) const DESCRIBED: &str = "COLUMN_NAME, DATA_TYPE, CHARACTER_SET_NAME, EXTRA";

impl Column {
    /// `Err` with the type, when it is none that is known here.
    pub(super) fn of_row(row: &Row) -> Result<Result<Self, String>> {
        let (name, data_type) = (row.text(0)?.to_owned(), row.text(1)?.to_ascii_lowercase());
        let charset = match row.bytes(2)? {
            Some(_) => Some(charset(row.text(2)?)?),
            None => None,
        };
        let Some(kind) = kind(&data_type, charset) else { return Ok(Err(data_type)) };
        let is_counted = row.text(3)?.to_ascii_lowercase().contains("auto_increment");
        Ok(Ok(Self { name, kind, is_single: data_type == "float", is_counted }))
    }

    /// As it is asked for.
    pub(super) fn selected(&self) -> String {
        let name = quote_name(&self.name);
        // A FLOAT is shown with six digits, and has up to nine.
        if self.is_single { format!("CAST({name} AS DOUBLE)") } else { name }
    }
}

fn charset(word: &str) -> Result<String> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if word.is_empty() || word.len() > 32 || !word.bytes().all(is_plain) {
        return Err(Fault::hostile("a character set that is none"));
    }
    Ok(word.to_owned())
}

fn kind(data_type: &str, charset: Option<String>) -> Option<Kind> {
    Some(match data_type {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "decimal" | "year" => Kind::Exact,
        "float" | "double" => Kind::Approximate,
        "date" | "time" | "datetime" | "timestamp" => Kind::Moment,
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "enum" | "set" => {
            Kind::Text(charset?)
        }
        // Its bytes are in no other character set.
        "json" => Kind::Text("utf8mb4".to_owned()),
        "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" | "bit" | "vector"
        | "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
        | "multipolygon" | "geomcollection" | "geometrycollection" => Kind::Bytes,
        _ => return None,
    })
}

/// Appends a value as a literal.
pub(super) fn write_literal(kind: &Kind, value: Option<&[u8]>, out: &mut Vec<u8>) -> Result<()> {
    let Some(value) = value else {
        out.extend_from_slice(b"NULL");
        return Ok(());
    };
    match kind {
        Kind::Exact if is_number(value, false) => out.extend_from_slice(value),
        Kind::Approximate if is_number(value, true) => {
            out.extend_from_slice(value);
            // Otherwise -0 is the whole number 0.
            if !value.contains(&b'e') {
                out.extend_from_slice(b"e0");
            }
        }
        Kind::Moment if is_moment(value) => {
            out.push(b'\'');
            out.extend_from_slice(value);
            out.push(b'\'');
        }
        Kind::Exact | Kind::Approximate | Kind::Moment => {
            return Err(Fault::hostile("a number or a time that is none"));
        }
        Kind::Bytes | Kind::Text(_) if value.is_empty() => out.extend_from_slice(b"''"),
        Kind::Bytes => write_hex(value, out),
        Kind::Text(charset) => {
            out.push(b'_');
            out.extend_from_slice(charset.as_bytes());
            out.push(b' ');
            write_hex(value, out);
        }
    }
    Ok(())
}

fn write_hex(value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"0x");
    let begin = out.len();
    out.resize(begin + value.len() * 2, 0);
    // The room is as large as it must be.
    let _ = hex::encode_to_slice(value, &mut out[begin..]);
}

/// A sign, digits, a point and digits, an exponent.
fn is_number(value: &[u8], may_have_exponent: bool) -> bool {
    let digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let value = value.strip_prefix(b"-").unwrap_or(value);
    let mut parts = value.splitn(2, |byte| *byte == b'e');
    let (mantissa, exponent) = (parts.next().unwrap_or_default(), parts.next());
    let is_exponent = exponent.is_none_or(|text| {
        may_have_exponent && digits(text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text))
    });
    let mut parts = mantissa.splitn(2, |byte| *byte == b'.');
    is_exponent && parts.next().is_some_and(digits) && parts.next().is_none_or(digits)
}

fn is_moment(value: &[u8]) -> bool {
    (1..=MOMENT_BYTES_MAX).contains(&value.len())
        && value.iter().all(|byte| byte.is_ascii_digit() || b"-:. ".contains(byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn literal(kind: &Kind, value: Option<&[u8]>) -> Option<String> {
        let mut out = Vec::new();
        write_literal(kind, value, &mut out).ok()?;
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn values_are_digits_or_hex() {
        let latin = Kind::Text("latin1".to_owned());
        for (kind, value, wanted) in [
            (&Kind::Exact, &b"-0012.50"[..], "-0012.50"),
            (&Kind::Approximate, b"-0", "-0e0"),
            (&Kind::Approximate, b"1.5e-7", "1.5e-7"),
            (&Kind::Approximate, b"0.10000000149011612", "0.10000000149011612e0"),
            (&Kind::Moment, b"-838:59:59.000000", "'-838:59:59.000000'"),
            (&Kind::Moment, b"0000-00-00 00:00:00", "'0000-00-00 00:00:00'"),
            (&Kind::Bytes, b"\0\xff'", "0x00ff27"),
            (&Kind::Bytes, b"", "''"),
            (&latin, b"\xfc\n", "_latin1 0xfc0a"),
            (&latin, b"", "''"),
        ] {
            assert_eq!(literal(kind, Some(value)).as_deref(), Some(wanted));
        }
        assert_eq!(literal(&Kind::Exact, None).as_deref(), Some("NULL"));
    }

    #[test]
    fn h08_no_value_of_a_server_becomes_more_than_a_literal() {
        for (kind, value) in [
            (Kind::Exact, &b"1); DROP TABLE x; -- "[..]),
            (Kind::Exact, b""),
            (Kind::Exact, b"-"),
            (Kind::Exact, b"1."),
            (Kind::Exact, b"1e5"),
            (Kind::Exact, b"0x41"),
            (Kind::Exact, b"1 "),
            (Kind::Approximate, b"nan"),
            (Kind::Approximate, b"1e"),
            (Kind::Approximate, b"1e+"),
            (Kind::Moment, b""),
            (Kind::Moment, b"2024-01-01'"),
            (Kind::Moment, b"2024-01-01\n"),
            (Kind::Moment, &[b'0'; 33]),
        ] {
            assert_eq!(literal(&kind, Some(value)), None, "{}", value.escape_ascii());
        }
        for word in ["", "latin1 ", "utf8mb4\n", "x'y", "LATIN1"] {
            assert!(charset(word).is_err(), "{word}");
        }
        assert_eq!(kind("decimal unsigned", None), None);
        assert_eq!(kind("varchar", None), None);
    }

    proptest! {
        #[test]
        fn h07_no_literal_has_a_sign_that_a_client_obeys(value in prop::collection::vec(any::<u8>(), 0..60), at in 0_usize..5) {
            let kinds =
                [Kind::Exact, Kind::Approximate, Kind::Moment, Kind::Bytes, Kind::Text("ucs2".to_owned())];
            if let Some(written) = literal(&kinds[at], Some(&value)) {
                prop_assert!(written.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_ '-+:.".contains(&byte)));
                prop_assert_eq!(written.matches('\'').count() % 2, 0);
            }
        }
    }
}
