//! Times that come in (contract section 1): `yyyy-mm-ddThh:mm:ss`, and a zone in one of the forms
//! that clients send.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

const FORM: &[u8] = b"0000-00-00T00:00:00";

/// `Z`, `+hhmm`, `+hh:mm`, or none, which is UTC. In an address a bare `+` has become a space.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    let (head, zone) = text.split_at_checked(FORM.len())?;
    let fits = |(found, form): (u8, &u8)| if *form == b'0' { found.is_ascii_digit() } else { found == *form };
    if !head.bytes().zip(FORM).all(fits) {
        return None;
    }
    let local: DateTime = head.parse().ok()?;
    offset(zone)?.to_timestamp(local).ok()
}

fn offset(zone: &str) -> Option<Offset> {
    let mut rest = zone.chars();
    let sign = match rest.next() {
        None => return Some(Offset::UTC),
        Some('Z') => return rest.as_str().is_empty().then_some(Offset::UTC),
        Some('+' | ' ') => 1,
        Some('-') => -1,
        Some(_) => return None,
    };
    let digits = rest.as_str();
    let (hours, minutes) = match digits.len() {
        4 => digits.split_at_checked(2)?,
        5 => digits.split_once(':')?,
        _ => return None,
    };
    let number = |text: &str| {
        let is_plain = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        if is_plain { text.parse::<i32>().ok() } else { None }
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    if minutes > 59 {
        return None;
    }
    Offset::from_seconds(sign * (hours * 3_600 + minutes * 60)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_that_clients_send() {
        let utc: Timestamp = "2026-03-04T05:06:07Z".parse().unwrap();
        for text in [
            "2026-03-04T05:06:07+0000",
            "2026-03-04T05:06:07Z",
            "2026-03-04T05:06:07",
            "2026-03-04T05:06:07 0000",
            "2026-03-04T13:06:07+0800",
            "2026-03-04T13:06:07 0800",
            "2026-03-04T13:06:07+08:00",
            "2026-03-04T02:36:07-02:30",
            "2026-03-03T23:06:07-0600",
        ] {
            assert_eq!(parse(text), Some(utc), "{text}");
        }
    }

    #[test]
    fn nothing_else_is_a_time() {
        for text in [
            "",
            "2026-03-04",
            "2026-03-04 05:06:07",
            "2026-03-04T05:06",
            "2026-03-04T05:06:07.5Z",
            "2026-03-04T05:06:07z",
            "2026-03-04T05:06:07ZZ",
            "2026-03-04T05:06:07+",
            "2026-03-04T05:06:07+1",
            "2026-03-04T05:06:07+00:0",
            "2026-03-04T05:06:07+0060",
            "2026-03-04T05:06:07+9900",
            "2026-03-04T05:06:07++100",
            "2026-03-04T05:06:07+0000 ",
            "2026-13-04T05:06:07Z",
            "2026-02-30T05:06:07Z",
            "2026-03-04T25:06:07Z",
            "+026-03-04T05:06:07Z",
            "2026-03-04T05:06:0é",
            "1772600767000",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
