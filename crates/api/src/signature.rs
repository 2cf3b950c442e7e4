//! What a signed request (`SDK-HMAC-SHA256`) covers: the two variants in the field differ in the key
//! and in one line, and share the canonical request.
//!
//! Everything is taken from the request as it came: the target before any decoding, the body before
//! any parsing. Query and headers are refused where two readers could see different things in them.

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use strongroom_service::{SignedClaim, sha256_hex};

pub(crate) const ALGORITHM: &str = "SDK-HMAC-SHA256";
const DATE: HeaderName = HeaderName::from_static("x-sdk-date");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("x-sdk-content-sha256");
/// Temporary keys, which we do not issue.
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-security-token");

/// The parts of an `Authorization` header of this scheme.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    access_key: String,
    /// Day, region and service, where the key is derived from them.
    scope: Option<[String; 3]>,
    headers: String,
    signature: [u8; 32],
}

impl Signed {
    /// Reads `SDK-HMAC-SHA256 Access=…, SignedHeaders=…, Signature=…`, or `Credential=…` with the
    /// scope for `Access`; nothing when it is anything else.
    pub(crate) fn parse(value: &HeaderValue) -> Option<Self> {
        let fields = value.to_str().ok()?.strip_prefix(ALGORITHM)?.strip_prefix(' ')?;
        let mut fields = fields.split(',').map(|field| field.trim().split_once('='));
        let (first, headers, signature) = (fields.next()??, fields.next()??, fields.next()??);
        if fields.next().is_some() || headers.0 != "SignedHeaders" || signature.0 != "Signature" {
            return None;
        }
        let (access_key, scope) = match first {
            ("Access", key) => (key, None),
            ("Credential", credential) => credential_parts(credential)?,
            _ => return None,
        };
        Some(Self {
            access_key: access_key.to_owned(),
            scope,
            headers: headers.1.to_owned(),
            signature: digest_of_hex(signature.1)?,
        })
    }

    /// What the service decides about; nothing when the request cannot have been signed so.
    pub(crate) fn claim(
        self,
        method: &Method,
        target: &Uri,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Option<SignedClaim> {
        let date = single(headers, &DATE)?;
        if headers.contains_key(&SECURITY_TOKEN) {
            return None;
        }
        let digest = sha256_hex(body);
        if headers.contains_key(&CONTENT_DIGEST) && single(headers, &CONTENT_DIGEST)? != digest {
            return None;
        }
        let names: Vec<&str> = self.headers.split(';').collect();
        if !["host", DATE.as_str()].iter().all(|needed| names.contains(needed)) {
            return None;
        }
        let path = canonical_path(target.path())?;
        let query = canonical_query(target.query().unwrap_or_default(), self.scope.is_some())?;
        let scope = self.scope.as_ref().map_or(String::new(), |[day, region, service]| {
            format!("{day}/{region}/{service}/sdk_request\n")
        });
        let mut texts = Vec::new();
        // One kind of client trims values, the other also makes one blank of a run of white space.
        for collapses in [false, true] {
            let lines = canonical_headers(&names, headers, collapses)?;
            let canonical = [method.as_str(), &path, &query, &lines, &self.headers, &digest].join("\n");
            let text = format!("{ALGORITHM}\n{date}\n{scope}{}", sha256_hex(canonical.as_bytes()));
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let Self { access_key, scope, signature, .. } = self;
        Some(SignedClaim { access_key, date: date.to_owned(), scope, texts, signature })
    }
}

fn credential_parts(credential: &str) -> Option<(&str, Option<[String; 3]>)> {
    let parts: Vec<&str> = credential.split('/').collect();
    let [key, day, region, service, "sdk_request"] = parts.as_slice() else { return None };
    Some((key, Some([day, region, service].map(|part| (*part).to_owned()))))
}

/// 64 lower-case hex digits.
fn digest_of_hex(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).filter(|_| !byte.is_ascii_uppercase());
    let bytes = text.as_bytes();
    if bytes.len() != 64 {
        return None;
    }
    let mut out = [0; 32];
    for (at, pair) in bytes.chunks_exact(2).enumerate() {
        out[at] = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(out)
}

/// A header that stands there exactly once, as text.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => std::str::from_utf8(value.as_bytes()).ok(),
        _ => None,
    }
}

fn canonical_headers(names: &[&str], headers: &HeaderMap, collapses: bool) -> Option<String> {
    let mut out = String::new();
    for name in names {
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return None;
        }
        let value = single(headers, &HeaderName::try_from(*name).ok()?)?.trim();
        let value =
            if collapses { value.split_whitespace().collect::<Vec<_>>().join(" ") } else { value.to_owned() };
        out.extend([*name, ":", &value, "\n"]);
    }
    Some(out)
}

/// Decoded, each segment encoded anew, with a slash at the end.
fn canonical_path(path: &str) -> Option<String> {
    let plain = decoded(path, false)?;
    let mut out = plain.split(|byte| *byte == b'/').map(encoded).collect::<Vec<_>>().join("/");
    if !out.ends_with('/') {
        out.push('/');
    }
    Some(out)
}

/// Decoded, encoded anew, sorted. One variant sorts without regard to case and signs only the first
/// value of a key that comes twice: then the second is nobody's word, and the request is refused.
fn canonical_query(query: &str, ignores_case: bool) -> Option<String> {
    let mut pairs = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.push((encoded(&decoded(key, true)?), encoded(&decoded(value, true)?)));
    }
    pairs.sort();
    if ignores_case {
        pairs.sort_by_key(|(key, _)| key.to_lowercase());
        if pairs.windows(2).any(|two| two[0].0 == two[1].0) {
            return None;
        }
    }
    let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
    Some(pairs.join("&"))
}

/// The bytes that escapes stand for; in a query, as the handlers read it, a plus is a blank.
fn decoded(text: &str, is_query: bool) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        out.push(match byte {
            b'%' => u8::try_from(digit(rest.next()?)? * 16 + digit(rest.next()?)?).ok()?,
            b'+' if is_query => b' ',
            other => other,
        });
    }
    Some(out)
}

fn encoded(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from(b"0123456789ABCDEF"[usize::from(half)]);
    let mut out = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(*byte));
            }
            other => out.extend(['%', digit(other >> 4), digit(other & 15)]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROJECT: &str = "0123456789abcdef0123456789abcdef";
    const SECRET: &str = "SKexample/0000000000000000000000000000";
    const BODY: &[u8] = br#"{"instance_id":"a48e43ff268f4c0e879652d65e63d0fbin01","name":"backup-1"}"#;
    const NAMES: &str = "content-type;host;x-project-id;x-sdk-date";

    /// A request with what it was signed with.
    #[derive(Clone)]
    struct Vector {
        method: Method,
        target: String,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
        authorization: String,
        secret: &'static str,
    }

    impl Vector {
        /// Whether the signature is one of what the request covers.
        fn holds(&self) -> bool {
            let mut headers = HeaderMap::new();
            for (name, value) in &self.headers {
                headers.append(*name, HeaderValue::from_str(value).unwrap());
            }
            let Some(signed) =
                HeaderValue::from_str(&self.authorization).ok().and_then(|v| Signed::parse(&v))
            else {
                return false;
            };
            let target = self.target.parse().unwrap();
            let Some(claim) = signed.claim(&self.method, &target, &headers, &self.body) else { return false };
            let sign =
                |text: &String| strongroom_service::signature_of(self.secret, claim.scope.as_ref(), text);
            claim.texts.iter().any(|text| digest_of_hex(&sign(text)) == Some(claim.signature))
        }
    }

    fn vector(method: Method, target: &str, body: &[u8], key: &str, signature: &str) -> Vector {
        let headers = [
            ("content-type", "application/json"),
            ("host", "rds.example.test"),
            ("x-project-id", PROJECT),
            ("x-sdk-date", "20260102T030405Z"),
        ];
        Vector {
            method,
            target: format!("/v3/{PROJECT}/backups{target}"),
            headers: headers.map(|(name, value)| (name, value.to_owned())).to_vec(),
            body: body.to_vec(),
            authorization: format!("SDK-HMAC-SHA256 {key}, SignedHeaders={NAMES}, Signature={signature}"),
            secret: SECRET,
        }
    }

    fn vectors() -> Vec<Vector> {
        let query = "?instance_id=a48e43ff268f4c0e879652d65e63d0fbin01&begin_time=2026-01-01T00%3A00%3A00%2B0100\
                     &end_time=2026-01-02T00%3A00%3A00%2B0100&limit=10";
        let (plain, derived) =
            ("Access=AKIDEXAMPLE0000000", "Credential=AKIDEXAMPLE0000000/20260102///sdk_request");
        let names = "accept;content-type;host;user-agent;x-sdk-date";
        let signature = "d82d14566ce58f66fb63028b1207a0053b83cf6f01ce550c60c75d0d51da3235";
        let credential = "Credential=AKTEST/20261123///sdk_request";
        let go = Vector {
            method: Method::POST,
            target: format!("/v3/{PROJECT}/backups"),
            headers: [
                ("accept", "application/json"),
                ("content-type", "application/json"),
                ("host", "127.0.0.1:18931"),
                ("user-agent", "golangsdk/2.0.0"),
                ("x-sdk-date", "20261123T093158Z"),
                ("x-project-id", PROJECT),
            ]
            .map(|(name, value)| (name, value.to_owned()))
            .to_vec(),
            body:
                b"{\"instance_id\":\"a48e43ff268f4c0e879652d65e63d0fbin01\",\"name\":\"go-aksk-1795426318\",\
                    \"description\":\"from go\"}\n"
                    .to_vec(),
            authorization: format!(
                "SDK-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={signature}"
            ),
            secret: "SKTEST",
        };
        vec![
            vector(
                Method::POST,
                "",
                BODY,
                plain,
                "9f904bf01e8e16e360ffc2557429da7b29df39d51b86f84bfc2a016f0a235eaf",
            ),
            vector(
                Method::POST,
                "",
                BODY,
                derived,
                "6a4b4a3cb99fa5abb0c20f52eb202c9a75d275f467a1437422a0cfd2ebab9344",
            ),
            vector(
                Method::GET,
                query,
                b"",
                plain,
                "bee98a6b1cddeabdf71df9ea2cfb2784f808af5f92ba0b9f7c12d210d0e3a376",
            ),
            vector(
                Method::GET,
                query,
                b"",
                derived,
                "a455abb2296ba0a533331de68bfec3c3750ebe3618784b95643b7b0dea3653e9",
            ),
            go,
        ]
    }

    #[test]
    fn the_vectors_of_real_signers_hold() {
        for (number, vector) in vectors().iter().enumerate() {
            assert!(vector.holds(), "vector {number}");
        }
    }

    /// A request with one thing changed after it was signed.
    type Change = fn(&mut Vector);

    #[test]
    fn a11_whatever_is_changed_after_the_signature_breaks_it() {
        let changes: &[(&str, Change)] = &[
            ("method", |v| v.method = Method::PUT),
            ("path", |v| v.target = v.target.replacen("backups", "backupz", 1)),
            ("query", |v| v.target += if v.target.contains('?') { "&a=1" } else { "?a=1" }),
            ("body", |v| v.body.push(b' ')),
            ("host", |v| v.headers[1].1.push('x')),
            ("date", |v| {
                v.headers.iter_mut().for_each(|(n, v)| {
                    if *n == "x-sdk-date" {
                        *v = v.replacen("T0", "T1", 1);
                    }
                });
            }),
            ("key", |v| v.secret = "another"),
            ("another header", |v| v.headers.push(("host", "twice".to_owned()))),
            ("no host", |v| v.authorization = v.authorization.replace("host;", "")),
            ("no date", |v| v.authorization = v.authorization.replace(";x-sdk-date", "")),
            ("scope", |v| {
                v.authorization = v.authorization.replace("///", "/eu-de//");
            }),
            ("upper case", |v| v.authorization = v.authorization.replace("host", "Host")),
            ("another scheme", |v| v.authorization = v.authorization.replace("SHA256", "SM3")),
            ("unsigned payload", |v| v.headers.push(("x-sdk-content-sha256", "UNSIGNED-PAYLOAD".to_owned()))),
            ("another body under the digest of the signed one", |v| {
                v.headers.push(("x-sdk-content-sha256", sha256_hex(&v.body)));
                v.body.push(b' ');
            }),
            ("the digest of another body", |v| v.headers.push(("x-sdk-content-sha256", "0".repeat(64)))),
            ("a temporary key", |v| v.headers.push(("x-security-token", "x".to_owned()))),
        ];
        for (number, vector) in vectors().into_iter().enumerate() {
            for (what, change) in changes {
                let mut changed = vector.clone();
                change(&mut changed);
                let has_none = *what == "scope" && vector.authorization.contains("Access=");
                assert!(has_none || !changed.holds(), "vector {number}, {what}");
            }
        }
    }

    #[test]
    fn queries_have_one_canonical_form() {
        for (query, canonical) in [
            ("", Some("")),
            ("b=2&a=1", Some("a=1&b=2")),
            ("a", Some("a=")),
            ("a=b+c%20d%2B", Some("a=b%20c%20d%2B")),
            ("a=%c3%a4~*", Some("a=%C3%A4~%2A")),
            ("a=2&a=1", Some("a=1&a=2")),
            ("a=%", None),
            ("a=%zz", None),
        ] {
            assert_eq!(canonical_query(query, false).as_deref(), canonical, "{query}");
        }
        assert_eq!(canonical_query("b=1&A=2", true).as_deref(), Some("A=2&b=1"));
        assert_eq!(canonical_query("a=1&a=2", true), None, "the second value would not be signed");
        assert_eq!(canonical_path("/a%20b/ä").as_deref(), Some("/a%20b/%C3%A4/"));
        assert_eq!(canonical_path("/a/").as_deref(), Some("/a/"));
    }

    #[test]
    fn authorizations_have_two_forms() {
        let parse = |text: &str| Signed::parse(&HeaderValue::from_str(text).unwrap());
        let signature = "0".repeat(64);
        let whole = format!("SDK-HMAC-SHA256 Access=A, SignedHeaders=host;x-sdk-date, Signature={signature}");
        assert!(parse(&whole).is_some());
        for bad in [
            "",
            "SDK-HMAC-SHA256",
            "Bearer x",
            &whole.replace("SDK-HMAC-SHA256", "SDK-HMAC-SHA256x"),
            &whole.replace("Access", "Credential"),
            &whole.replace("SignedHeaders=", "Headers="),
            &whole.replace(&signature, &"A".repeat(64)),
            &whole.replace(&signature, &"0".repeat(63)),
            &(whole.clone() + ", More=1"),
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
