//! The configuration file.

use std::collections::BTreeMap;
use std::path::Path;

use crate::exit::{Outcome, Stop};

/// Key → value, and the line it stands on.
pub(super) type File = BTreeMap<String, (String, usize)>;

pub(super) fn read(path: &Path) -> Outcome<File> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Stop::usage(format!("config: {} cannot be read: {error}", path.display())))?;
    parse(&path.display().to_string(), &text)
}

pub(super) fn parse(name: &str, text: &str) -> Outcome<File> {
    let table: toml::Table = text.parse().map_err(|error| Stop::usage(format!("config: {name}: {error}")))?;
    let mut file = File::new();
    for (key, value) in table {
        let line = line_of(text, &key);
        let at = |what: &str| Stop::usage(format!("config: {name} line {line}: {what}"));
        if !super::KEYS.contains(&key.as_str()) {
            return Err(at(&format!("there is no setting `{key}`"))
                .with_hint(format!("did you mean `{}`?", nearest(&key))));
        }
        let value = match value {
            toml::Value::String(text) => text,
            toml::Value::Boolean(flag) => flag.to_string(),
            toml::Value::Integer(number) => number.to_string(),
            _ => return Err(at(&format!("`{key}` must be a text, a number, true or false"))),
        };
        file.insert(key, (value, line));
    }
    Ok(file)
}

fn line_of(text: &str, key: &str) -> usize {
    let begins = |line: &str| {
        let line = line.trim_start().trim_start_matches(['"', '\'', '[']);
        line.strip_prefix(key)
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    };
    text.lines().position(begins).map_or(1, |index| index + 1)
}

fn nearest(key: &str) -> &'static str {
    let wanted = key.replace('-', "_");
    super::KEYS.into_iter().min_by_key(|known| distance(known, &wanted)).unwrap_or_default()
}

/// Levenshtein's distance of two short words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_an_error_with_its_line_and_the_nearest_known_one() {
        let stop = parse("f.toml", "# comment\nlisten = '[::1]:1'\nrepositry = 'x'\n").unwrap_err();
        assert_eq!(stop.message, "config: f.toml line 3: there is no setting `repositry`");
        assert_eq!(stop.hint.as_deref(), Some("did you mean `repository`?"));
        assert_eq!(nearest("data-dir"), "data_dir");
        assert_eq!(
            parse("f.toml", "[listen]\nx = 1").unwrap_err().message,
            "config: f.toml line 1: `listen` must be a text, a number, true or false"
        );
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_place() {
        assert!(parse("f.toml", "listen = ").unwrap_err().message.contains("line 1"));
    }
}
