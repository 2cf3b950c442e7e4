//! Signed requests: whether a signature was made with the secret of an access key, and now.
//!
//! What the signature covers is the adapter's to say (it is a matter of HTTP); the secret, the
//! clock and the decision are here.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ring::{digest, hmac};
use secrecy::{ExposeSecret, SecretString};
use strongroom_core::{Error, ErrorKind, Result, limits};

use crate::identity::Caller;
use crate::parts::Service;

/// What a signed request claims.
#[derive(Debug)]
pub struct SignedClaim {
    pub access_key: String,
    /// `20260102T030405Z`
    pub date: String,
    /// Day, region and service, where the signing key is derived from them.
    pub scope: Option<[String; 3]>,
    /// The texts that may have been signed: clients differ in how they write white space.
    pub texts: Vec<String>,
    pub signature: [u8; 32],
}

const TERMINATOR: &str = "sdk_request";

fn mac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

fn signing_key(secret: &str, scope: Option<&[String; 3]>) -> hmac::Key {
    let Some(scope) = scope else { return hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()) };
    let mut key = mac(format!("SDK{secret}").as_bytes(), &scope[0]);
    for part in [&scope[1], &scope[2], TERMINATOR] {
        key = mac(key.as_ref(), part);
    }
    hmac::Key::new(hmac::HMAC_SHA256, key.as_ref())
}

/// The signature of a text, lower hex: for tests and for whoever wants to sign.
pub fn signature_of(secret: &str, scope: Option<&[String; 3]>, text: &str) -> String {
    hex::encode(hmac::sign(&signing_key(secret, scope), text.as_bytes()))
}

/// SHA-256, lower hex: the digest of bodies and canonical requests in this scheme.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

/// `20260102T030405Z` and nothing else.
fn moment(date: &str) -> Option<Timestamp> {
    let plain = date.strip_suffix('Z').filter(|rest| rest.len() == 15)?;
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let (day, time) =
        plain.split_once('T').filter(|(day, time)| day.len() == 8 && digits(day) && digits(time))?;
    let civil = DateTime::strptime("%Y%m%d%H%M%S", format!("{day}{time}")).ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

impl Service {
    /// The caller that signed a request. Every way of being wrong is the same answer, and an access
    /// key that is not there takes as long as one that is.
    pub async fn authenticate_signature(&self, claim: &SignedClaim) -> Result<Caller> {
        let refused = || Error::new(ErrorKind::NotAuthenticated, "The signature is wrong or too old.");
        let signed = moment(&claim.date).ok_or_else(refused)?;
        let skew = self.now().duration_since(signed).abs().as_secs();
        let is_of_today =
            claim.scope.as_ref().is_none_or(|[day, ..]| day.len() == 8 && claim.date.starts_with(day));
        let owner = self.catalog().access_key_find(&claim.access_key).await?;
        let (bearer, secret) = match owner {
            Some(owner) => (Some(owner.bearer), owner.secret),
            None => (None, SecretString::from("nobody's")),
        };
        let key = signing_key(secret.expose_secret(), claim.scope.as_ref());
        let fits = |text: &String| hmac::verify(&key, text.as_bytes(), &claim.signature).is_ok();
        let is_right = claim.texts.iter().any(fits);
        match bearer {
            Some(bearer) if is_right && is_of_today && skew <= limits::SIGNATURE_SKEW_S_MAX => {
                Ok(Caller::new(bearer))
            }
            _ => Err(refused()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_signatures_have_one_form() {
        assert_eq!(moment("20260102T030405Z").unwrap().to_string(), "2026-01-02T03:04:05Z");
        for bad in [
            "",
            "20260102T030405",
            "20260102T030405z",
            "2026010T2030405Z",
            "20261302T030405Z",
            "20260102T250405Z",
            "20260102T0304+5Z",
            " 0260102T030405Z",
            "20260102T0304050Z",
            "2026-01-02T03:04:05Z",
        ] {
            assert_eq!(moment(bad), None, "{bad:?}");
        }
    }

    /// Nanoseconds of checks of signatures that are wrong from the first byte or only in the last.
    #[test]
    fn a13_how_much_of_a_signature_is_right_does_not_show_in_the_time() {
        let key = signing_key("SK1", None);
        let right: [u8; 32] = hmac::sign(&key, b"text").as_ref().try_into().unwrap();
        let (mut first, mut last) = (right, right);
        first[0] ^= 1;
        last[31] ^= 1;
        let mut sums = [(0.0, 0.0); 2];
        let count = 100_000;
        for turn in 0..2 * count {
            let which = usize::from(turn % 4 == 1 || turn % 4 == 2);
            let signature = [&first, &last][which];
            let begun = std::time::Instant::now();
            let fits = std::hint::black_box(hmac::verify(&key, b"text", std::hint::black_box(signature)));
            // What takes much longer than a check was something else of this machine.
            let taken = (begun.elapsed().as_secs_f64() * 1e9).min(20_000.0);
            assert!(fits.is_err());
            sums[which] = (sums[which].0 + taken, sums[which].1 + taken * taken);
        }
        let count = f64::from(count);
        let of =
            |(sum, squares): (f64, f64)| (sum / count, (squares / count - (sum / count).powi(2)) / count);
        let ((a, va), (b, vb)) = (of(sums[0]), of(sums[1]));
        let welch = (a - b) / (va + vb).sqrt();
        assert!(welch.abs() < 4.5, "t = {welch}: {a} ns, {b} ns");
    }
}
