//! What stands behind the question mark, by name. Names that nobody asks for are passed over; one
//! that is asked for may not come twice: which was meant?

use std::ops::RangeInclusive;

use axum::extract::Query;
use http::Uri;
use strongroom_core::{Error, Field, Result};

/// The parameters of a query, decoded.
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    pub(crate) fn of(uri: &Uri) -> Self {
        Self(Query::try_from_uri(uri).map(|Query(pairs)| pairs).unwrap_or_default())
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>> {
        let mut values = self.0.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (first, None) => Ok(first),
            (_, Some(_)) => Err(Error::parameter(Field::Other, format!("{name}: comes twice"))),
        }
    }

    /// A whole number within its range.
    pub(crate) fn number(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let is_plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse() {
            Ok(number) if is_plain && range.contains(&number) => Ok(Some(number)),
            _ => {
                let (least, most) = range.into_inner();
                Err(Error::parameter(
                    Field::Other,
                    format!("{name}: must be a whole number from {least} to {most}"),
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        Params::of(&format!("/list?{query}").parse().unwrap())
    }

    #[test]
    fn parameters_are_decoded_and_come_once() {
        let found = params("a=1&b=x%2By%20z+w&a=2&c=&d");
        assert_eq!(found.text("b").unwrap(), Some("x+y z w"));
        assert_eq!((found.text("c").unwrap(), found.text("d").unwrap()), (Some(""), Some("")));
        assert_eq!(found.text("e").unwrap(), None);
        assert!(found.text("a").is_err());
        assert_eq!(params("").text("a").unwrap(), None);
    }

    #[test]
    fn numbers_are_plain_digits_within_their_range() {
        assert_eq!(params("n=7").number("n", 1..=10).unwrap(), Some(7));
        assert_eq!(params("m=7").number("n", 1..=10).unwrap(), None);
        for bad in ["", "0", "11", "-1", "%2B1", "1.0", "1e0", "x", "99999999999999999999", "1%20"] {
            assert!(params(&format!("n={bad}")).number("n", 1..=10).is_err(), "{bad}");
        }
    }
}
