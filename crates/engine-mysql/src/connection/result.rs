//! Results of statements: their rows as text.

use crate::fault::{Fault, Result};

/// Columns of one result; the server's own limit.
const COLUMNS_MAX: u64 = 4096;
/// A flag of the status that says that another result follows.
const MORE_RESULTS: u16 = 8;

/// One row: text, or NULL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row(Vec<Option<Vec<u8>>>);

/// What the first packet of an answer to a statement says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// The statement is done and has no rows.
    Done,
    /// So many descriptions of columns follow, then rows.
    Columns(usize),
}

impl Beginning {
    /// `body` is no error report.
    pub(crate) fn parse(body: &[u8]) -> Result<Self> {
        match body.first() {
            Some(0) => end_of_result(body).map(|()| Self::Done),
            // The server wants a file of this machine. It was told that this is not offered.
            Some(0xfb) => Err(Fault::hostile("a request for a file of this machine")),
            _ => match length(body) {
                Some((count, [])) if (1..=COLUMNS_MAX).contains(&count) => {
                    Ok(Self::Columns(usize::try_from(count).unwrap_or(usize::MAX)))
                }
                _ => Err(Fault::hostile("a malformed beginning of a result")),
            },
        }
    }
}

/// Checks the packet that ends a result or a statement: affected rows, last id, status.
pub(crate) fn end_of_result(body: &[u8]) -> Result<()> {
    let malformed = || Fault::hostile("a malformed end of a result");
    let (_, rest) = length(body.get(1..).ok_or_else(malformed)?).ok_or_else(malformed)?;
    let (_, rest) = length(rest).ok_or_else(malformed)?;
    match rest {
        [low, high, ..] if u16::from_le_bytes([*low, *high]) & MORE_RESULTS == 0 => Ok(()),
        [_, _, ..] => Err(Fault::hostile("a second result that nobody asked for")),
        _ => Err(malformed()),
    }
}

impl Row {
    /// Decodes a row: for each column a length and its text, or the mark of NULL.
    pub(crate) fn decode(body: &[u8], columns: usize) -> Result<Self> {
        let fields = fields(body, columns)?;
        Ok(Self(fields.into_iter().map(|field| field.map(<[u8]>::to_vec)).collect()))
    }

    /// A field as raw bytes; `None` for NULL.
    pub(crate) fn bytes(&self, field: usize) -> Result<Option<&[u8]>> {
        match self.0.get(field) {
            Some(value) => Ok(value.as_deref()),
            None => Err(Fault::hostile("a row with too few fields")),
        }
    }

    /// A field that must be there and be text.
    pub(crate) fn text(&self, field: usize) -> Result<&str> {
        self.bytes(field)?
            .and_then(|value| std::str::from_utf8(value).ok())
            .ok_or_else(|| Fault::hostile("a field without text where one is needed"))
    }

    /// A number, when the field is not NULL.
    pub(crate) fn number(&self, field: usize) -> Result<Option<u64>> {
        let Some(bytes) = self.bytes(field)? else { return Ok(None) };
        let number = std::str::from_utf8(bytes).ok().and_then(|text| text.trim().parse().ok());
        number.map(Some).ok_or_else(|| Fault::hostile("a field that is not a number"))
    }
}

/// The fields of a row where they lie.
pub(crate) fn fields(body: &[u8], columns: usize) -> Result<Vec<Option<&[u8]>>> {
    let malformed = || Fault::hostile("a malformed row");
    let (mut rest, mut fields) = (body, Vec::new());
    for _ in 0..columns {
        if let [0xfb, after @ ..] = rest {
            fields.push(None);
            rest = after;
            continue;
        }
        let (count, after) = length(rest).ok_or_else(malformed)?;
        let count = usize::try_from(count).map_err(|_| malformed())?;
        let (text, after) = after.split_at_checked(count).ok_or_else(malformed)?;
        fields.push(Some(text));
        rest = after;
    }
    if rest.is_empty() { Ok(fields) } else { Err(malformed()) }
}

/// A number of one, three, four or nine bytes, and what follows it.
fn length(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let width = match first {
        0..=0xfa => return Some((u64::from(*first), rest)),
        0xfc => 2,
        0xfd => 3,
        0xfe => 8,
        _ => return None,
    };
    let (digits, rest) = rest.split_at_checked(width)?;
    Some((digits.iter().rev().fold(0, |number, digit| (number << 8) | u64::from(*digit)), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h06_malformed_rows_of_mysql_are_refused() {
        let row = [1, b'7', 0xfb, 0xfc, 2, 0, b'a', b'b'];
        let decoded = Row::decode(&row, 3).unwrap();
        assert_eq!((decoded.number(0).unwrap(), decoded.number(1).unwrap()), (Some(7), None));
        assert_eq!(decoded.text(2).unwrap(), "ab");
        assert!(decoded.text(1).is_err() && decoded.bytes(3).is_err() && decoded.number(2).is_err());
        for length in 0..row.len() {
            assert!(Row::decode(&row[..length], 3).is_err(), "{length}");
        }
        assert!(Row::decode(&row, 2).is_err());
        assert!(Row::decode(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], 1).is_err());
        assert!(Row::decode(&[0xff, 1], 1).is_err());
    }

    #[test]
    fn h05_no_file_of_ours_is_ever_sent() {
        assert!(Beginning::parse(b"\xfb/etc/passwd").is_err());
        assert_eq!(Beginning::parse(&[3]).unwrap(), Beginning::Columns(3));
        assert_eq!(Beginning::parse(&[0, 0, 0, 2, 0, 0, 0]).unwrap(), Beginning::Done);
        assert!(Beginning::parse(&[0, 0, 0, 8, 0]).is_err(), "more results");
        assert!(Beginning::parse(&[0xfc, 1, 0x20]).is_err() && Beginning::parse(&[3, 0]).is_err());
    }
}
