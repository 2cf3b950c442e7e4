//! Texts that have one home (invariant C2): SQL in the catalog, object keys in the repository.
//!
//! An engine speaks the SQL of its source; that is its trade and not covered here.

use super::source::{Finding, Source, literals};

const SQL_RULE: &str = "sql-home";
const KEY_RULE: &str = "object-key-home";

/// Beginnings of statements, each with a word that must follow to make it SQL and not English.
const STATEMENTS: &[(&str, &str)] = &[
    ("SELECT ", " FROM "),
    ("INSERT INTO ", "VALUES"),
    ("INSERT INTO ", "SELECT"),
    ("UPDATE ", " SET "),
    ("DELETE FROM ", ""),
    ("CREATE TABLE ", ""),
    ("ALTER TABLE ", ""),
    ("PRAGMA ", ""),
];

/// Parts of object keys (docs/formats/repository.md) that nobody else may spell.
const KEY_PARTS: &[&str] = &["/pk/", "/at/", "/tb/", "/in/", "/hold/"];
const KEY_BEGINNINGS: &[&str] = &["keys/", "l/"];

pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.is_product()) {
        let Some(file) = source.syntax() else { continue };
        let home = source.crate_folder();
        for literal in literals(file) {
            if home != "catalog" && !home.starts_with("engine-") && is_sql(&literal.text) {
                let message = "SQL text belongs to the catalog";
                findings.push(source.finding(SQL_RULE, literal.line, message));
            }
            if home != "repository" && is_object_key(&literal.text) {
                let message = "object keys belong to the repository";
                findings.push(source.finding(KEY_RULE, literal.line, message));
            }
        }
    }
    findings
}

fn is_sql(text: &str) -> bool {
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ") + " ";
    STATEMENTS.iter().any(|(start, follow)| {
        flat.find(start).is_some_and(|position| flat[position + start.len() - 1..].contains(follow))
    })
}

fn is_object_key(text: &str) -> bool {
    !text.starts_with("http")
        && !text.contains(' ')
        && (KEY_PARTS.iter().any(|part| text.contains(part))
            || KEY_BEGINNINGS.iter().any(|beginning| text.starts_with(beginning)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, code: &str) -> Vec<&'static str> {
        check(&[Source::new(path, code)]).into_iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn sql_outside_the_catalog_is_found() {
        let code = r#"fn f() { run("SELECT id\n   FROM backup"); run(concat!("DELETE FROM ", "job")); }"#;
        assert_eq!(found("crates/service/src/lib.rs", code), [SQL_RULE, SQL_RULE]);
        assert!(found("crates/catalog/src/lib.rs", code).is_empty());
        assert!(found("crates/service/tests/a.rs", code).is_empty());
    }

    #[test]
    fn english_is_not_sql() {
        let code = r#"fn f() { say("Select a backup from the list, then update it"); say("UPDATE now"); }"#;
        assert!(found("crates/strongroom/src/lib.rs", code).is_empty());
    }

    #[test]
    fn a_path_that_only_looks_alike_is_no_object_key() {
        assert!(found("crates/engine-x/src/lib.rs", r#"fn f() { g(format!("wal/{name}")); }"#).is_empty());
    }

    #[test]
    fn an_object_key_outside_the_repository_is_found() {
        let code = r#"fn f() { put(format!("{prefix}/at/{attempt}")); get(format!("l/{lineage}")); }"#;
        assert_eq!(found("crates/service/src/lib.rs", code), [KEY_RULE, KEY_RULE]);
        assert!(found("crates/repository/src/layout.rs", code).is_empty());
    }
}
