//! Which part of a file a request wants (RFC 9110, section 14).

use std::ops::Range;

use http::HeaderMap;
use http::header::{HeaderName, IF_RANGE, RANGE};

/// What is wanted of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    Whole,
    Part(Range<u64>),
    /// It begins behind the end.
    Nothing,
}

/// A range that is not understood, several of them, and one for another version of the file are as
/// good as none.
pub(super) fn wanted(headers: &HeaderMap, etag: &str, size: u64) -> Wanted {
    if headers.contains_key(IF_RANGE) && single(headers, &IF_RANGE) != Some(etag) {
        return Wanted::Whole;
    }
    let asked = single(headers, &RANGE).and_then(|text| text.strip_prefix("bytes="));
    asked.and_then(|spec| part(spec.trim(), size)).unwrap_or(Wanted::Whole)
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// A number of digits only; one that is too large is larger than every file.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

fn part(spec: &str, size: u64) -> Option<Wanted> {
    let (first, last) = spec.split_once('-')?;
    if first.is_empty() {
        let count = number(last)?.min(size);
        return Some(if count == 0 { Wanted::Nothing } else { Wanted::Part(size - count..size) });
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if last < first {
        return None;
    }
    Some(if first >= size { Wanted::Nothing } else { Wanted::Part(first..last.saturating_add(1).min(size)) })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(lines: &[(HeaderName, &'static str)]) -> Wanted {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_static(value));
        }
        wanted(&headers, "\"e\"", 100)
    }

    #[test]
    fn a27_ranges_are_parts_of_the_file_or_none() {
        for (text, expected) in [
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=0-99", Wanted::Part(0..100)),
            ("bytes=5-", Wanted::Part(5..100)),
            ("bytes=99-1000", Wanted::Part(99..100)),
            ("bytes=-7", Wanted::Part(93..100)),
            ("bytes=-1000", Wanted::Part(0..100)),
            ("bytes=0-18446744073709551615", Wanted::Part(0..100)),
            ("bytes=0-99999999999999999999999", Wanted::Part(0..100)),
            ("bytes=100-", Wanted::Nothing),
            ("bytes=99999999999999999999999-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=2-1", Wanted::Whole),
            ("bytes=", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=1-2,4-5", Wanted::Whole),
            ("bytes 1-2", Wanted::Whole),
            ("lines=1-2", Wanted::Whole),
            ("bytes=0x1-2", Wanted::Whole),
        ] {
            assert_eq!(of(&[(RANGE, text)]), expected, "{text}");
        }
        assert_eq!(of(&[]), Wanted::Whole);
        assert_eq!(of(&[(RANGE, "bytes=1-2"), (RANGE, "bytes=1-2")]), Wanted::Whole);
        assert_eq!(of(&[(RANGE, "bytes=1-2"), (IF_RANGE, "\"e\"")]), Wanted::Part(1..3));
        assert_eq!(of(&[(RANGE, "bytes=1-2"), (IF_RANGE, "\"other\"")]), Wanted::Whole);
        assert_eq!(of(&[(RANGE, "bytes=1-2"), (IF_RANGE, "W/\"e\"")]), Wanted::Whole);
    }
}
