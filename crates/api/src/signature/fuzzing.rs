//! Signed requests, as the fuzzer calls them.

use axum::extract::Query;

use super::{HeaderMap, HeaderName, HeaderValue, Method, Signed, Uri, canonical_path, canonical_query};

/// A method and a target, an `Authorization`, headers, an empty line, a body. What is signed of path
/// and query has one form, is what the handlers see, and another body is never covered as well.
pub(crate) fn signature(bytes: &[u8]) -> bool {
    let end = bytes.windows(2).position(|two| two == b"\n\n").unwrap_or(bytes.len());
    let (head, body) = bytes.split_at(end);
    let Ok(head) = std::str::from_utf8(head) else { return false };
    let mut lines = head.lines();
    let Some((method, target)) = lines.next().and_then(|line| line.split_once(' ')) else { return false };
    let (Ok(method), Ok(target)) = (method.parse::<Method>(), target.parse::<Uri>()) else { return false };
    canonical(&target);
    let Ok(authorization) = HeaderValue::from_str(lines.next().unwrap_or_default()) else { return false };
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    }
    let claim = |body: &[u8]| Signed::parse(&authorization)?.claim(&method, &target, &headers, body);
    let Some(claimed) = claim(body) else { return false };
    assert!((1..=2).contains(&claimed.texts.len()));
    if let Some(other) = claim(&[body, b" "].concat()) {
        assert!(other.texts.iter().all(|text| !claimed.texts.contains(text)), "another body");
    }
    true
}

fn canonical(target: &Uri) {
    if let Some(path) = canonical_path(target.path()) {
        assert_eq!(canonical_path(&path), Some(path));
    }
    let query = target.query().unwrap_or_default();
    for ignores_case in [false, true] {
        let Some(one) = canonical_query(query, ignores_case) else { continue };
        assert_eq!(canonical_query(&one, ignores_case).as_deref(), Some(&*one));
        assert_eq!(seen(&one), seen(query), "{query:?}");
    }
}

/// Names and values as handlers read them, sorted.
fn seen(query: &str) -> Option<Vec<(String, String)>> {
    let uri = format!("/?{query}").parse().ok()?;
    let Query(mut pairs) = Query::<Vec<(String, String)>>::try_from_uri(&uri).ok()?;
    pairs.sort();
    Some(pairs)
}
