//! The catalogue of faults and the tests that show them say the same.
//!
//! docs/reference/faults.md has a row for each fault that may happen: tested (by which tests),
//! partly tested, not yet, or does not apply. A test names its fault by the beginning of its
//! name: `p04_sealed_manifest_without_row`, `h01_h02_hostile_names_are_refused`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use syn::visit::{self, Visit};

use super::source::{Finding, Source, is_test};

const RULE: &str = "faults";
pub(crate) const PAGE: &str = "docs/reference/faults.md";

/// Groups of the catalogue and how many faults each has.
const GROUPS: &[(char, usize)] = &[
    ('P', 14),
    ('D', 10),
    ('S', 23),
    ('B', 22),
    ('H', 14),
    ('A', 30),
    ('T', 5),
    ('M', 6),
    ('K', 7),
    ('R', 7),
    ('V', 10),
    ('F', 28),
];

/// Kinds of stored object that may rot.
const ROTTING: &[&str] = &[
    "format",
    "project-key",
    "lineage-key",
    "data-pack",
    "meta-pack",
    "slot-table",
    "verdict",
    "intent",
    "tombstone",
    "hold",
    "log-object",
    "catalog-row",
    "recovery-key",
    "restore-journal",
];

/// Every id that the page must have, in its order.
fn catalogue() -> Vec<String> {
    let numbered =
        GROUPS.iter().flat_map(|(group, count)| (1..=*count).map(move |n| format!("{group}{n:02}")));
    numbered.chain(ROTTING.iter().map(|kind| format!("rot:{kind}"))).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Tested,
    Partly,
    NotYet,
    DoesNotApply,
}

impl Standing {
    fn parse(word: &str) -> Option<Self> {
        match word {
            "tested" => Some(Self::Tested),
            "partly" => Some(Self::Partly),
            "not yet" => Some(Self::NotYet),
            "does not apply" => Some(Self::DoesNotApply),
            _ => None,
        }
    }
}

/// A row `| id | fault | what must follow | standing | tests and words |`.
struct Row<'a> {
    line: usize,
    id: &'a str,
    fault: &'a str,
    expected: &'a str,
    standing: &'a str,
    shown_by: &'a str,
}

impl Row<'_> {
    /// Test names: whatever stands between backticks.
    fn tests(&self) -> BTreeSet<&str> {
        self.shown_by.split('`').skip(1).step_by(2).collect()
    }

    fn words(&self) -> String {
        let words: String = self.shown_by.split('`').step_by(2).collect();
        words.trim_matches(|c: char| c == ',' || c.is_whitespace()).to_owned()
    }
}

fn rows(page: &str) -> impl Iterator<Item = Row<'_>> {
    page.lines().enumerate().filter_map(|(index, line)| {
        let cells: Vec<&str> = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
        let [id, fault, expected, standing, shown_by] = cells[..] else { return None };
        let is_row = id != "Id" && !id.starts_with("--");
        is_row.then_some(Row { line: index + 1, id, fault, expected, standing, shown_by })
    })
}

pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let Some(page) = sources.iter().find(|source| source.path == PAGE) else {
        return vec![Finding {
            path: PAGE.to_owned(),
            line: 1,
            rule: RULE,
            message: "the page is missing".to_owned(),
        }];
    };
    let tests = Tests::collect(sources);
    let mut findings = Vec::new();
    let mut missing: BTreeSet<String> = catalogue().into_iter().collect();
    for row in rows(&page.text) {
        let mut say = |message: String| findings.push(page.finding(RULE, row.line, message));
        if !missing.remove(row.id) {
            say(format!("`{}` is not in the catalogue, or stands here twice", row.id));
            continue;
        }
        check_row(&row, &tests, &mut say);
    }
    for id in missing {
        findings.push(page.finding(RULE, 1, format!("{id} has no row")));
    }
    let known: BTreeSet<String> = catalogue().into_iter().collect();
    for (id, names) in tests.by_id.iter().filter(|(id, _)| !known.contains(*id)) {
        for name in names {
            findings.push(page.finding(
                RULE,
                1,
                format!("`{name}` shows {id}, which is not in the catalogue"),
            ));
        }
    }
    findings
}

fn check_row(row: &Row<'_>, tests: &Tests, say: &mut impl FnMut(String)) {
    let listed = row.tests();
    let shown = tests.by_id.get(row.id);
    match Standing::parse(row.standing) {
        None => say(format!("{}: `{}` is no standing", row.id, row.standing)),
        Some(Standing::Tested | Standing::Partly) if listed.is_empty() => {
            say(format!("{} is said to be tested and names no test", row.id));
        }
        Some(Standing::Partly | Standing::DoesNotApply) if row.words().is_empty() => {
            say(format!("{}: say in words what is missing or why it does not apply", row.id));
        }
        Some(Standing::NotYet | Standing::DoesNotApply) if shown.is_some() => {
            say(format!("{} is said to be untested, but tests carry its id", row.id));
        }
        Some(Standing::Tested | Standing::Partly | Standing::NotYet | Standing::DoesNotApply) => {}
    }
    for name in listed.iter().filter(|name| !tests.names.contains(**name)) {
        say(format!("{}: there is no test `{name}`", row.id));
    }
    for name in shown.into_iter().flatten().filter(|name| !listed.contains(name.as_str())) {
        say(format!("{}: the test `{name}` is not listed", row.id));
    }
}

/// The page with the test names of this tree: new ones added, lost ones taken out. A fault that
/// had no test and has one now becomes tested; the words and other standings stay as they are.
pub(crate) fn refresh(sources: &[Source]) -> String {
    let Some(page) = sources.iter().find(|source| source.path == PAGE) else { return String::new() };
    let tests = Tests::collect(sources);
    let mut lines: Vec<String> = page.text.lines().map(str::to_owned).collect();
    for row in rows(&page.text) {
        let mut names: BTreeSet<&str> = row.tests();
        names.retain(|name| tests.names.contains(*name));
        names.extend(tests.by_id.get(row.id).into_iter().flatten().map(String::as_str));
        let standing = match Standing::parse(row.standing) {
            Some(Standing::NotYet) if !names.is_empty() => "tested",
            Some(Standing::Tested | Standing::Partly) if names.is_empty() => "not yet",
            _ => row.standing,
        };
        let mut shown_by = row.words();
        for name in names {
            let separator = if shown_by.is_empty() { "" } else { " " };
            let _ = write!(shown_by, "{separator}`{name}`");
        }
        lines[row.line - 1] =
            format!("| {} | {} | {} | {standing} | {shown_by} |", row.id, row.fault, row.expected);
    }
    lines.join("\n") + "\n"
}

/// All test functions of the tree, and those whose name begins with fault ids.
struct Tests {
    names: BTreeSet<String>,
    by_id: BTreeMap<String, BTreeSet<String>>,
}

impl Tests {
    fn collect(sources: &[Source]) -> Self {
        let mut tests = Self { names: BTreeSet::new(), by_id: BTreeMap::new() };
        for source in sources.iter().filter(|source| !source.path.starts_with("xtask/")) {
            if let Some(file) = source.syntax() {
                tests.visit_file(file);
            }
        }
        tests
    }
}

impl<'ast> Visit<'ast> for Tests {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if is_test(&function.attrs) {
            let name = function.sig.ident.to_string();
            for id in ids(&name) {
                self.by_id.entry(id).or_default().insert(name.clone());
            }
            self.names.insert(name);
        }
        visit::visit_item_fn(self, function);
    }
}

/// The fault ids that a test's name begins with.
fn ids(name: &str) -> Vec<String> {
    name.split('_')
        .map_while(|part| {
            let (group, number) = part.split_at_checked(1)?;
            let group = group.chars().next()?.to_ascii_uppercase();
            let is_id = GROUPS.iter().any(|(known, _)| *known == group)
                && number.len() == 2
                && number.bytes().all(|byte| byte.is_ascii_digit());
            is_id.then(|| format!("{group}{number}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(change: impl Fn(&str) -> Option<String>) -> Source {
        let mut text =
            "| Id | Fault | What must follow | Standing | Shown by |\n|---|---|---|---|---|\n".to_owned();
        for id in catalogue() {
            let row = change(&id).unwrap_or_else(|| format!("| {id} | something | C | not yet | |"));
            text += &row;
            text.push('\n');
        }
        Source::new(PAGE, text)
    }

    fn tests(code: &str) -> Source {
        Source::new("crates/x/tests/faults.rs", code)
    }

    fn messages(sources: &[Source]) -> Vec<String> {
        check(sources).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn the_catalogue_has_148_faults_28_repository_tests_and_14_rotting_kinds() {
        assert_eq!(catalogue().len(), 148 + 28 + 14);
    }

    #[test]
    fn a_complete_page_has_no_finding() {
        let rows = |id: &str| {
            (id == "P04")
                .then(|| "| P04 | killed after the seal | R | tested | `p04_published_once` |".to_owned())
        };
        assert!(messages(&[page(rows), tests("#[test] fn p04_published_once() {}")]).is_empty());
    }

    #[test]
    fn a_fault_without_a_row_is_found() {
        assert_eq!(messages(&[page(|id| (id == "K03").then(String::new))]), ["K03 has no row"]);
    }

    #[test]
    fn a_test_that_the_page_does_not_know_is_found() {
        let found = messages(&[page(|_| None), tests("#[tokio::test] async fn h01_h03_hostile() {}")]);
        assert_eq!(found.len(), 4, "each id is untested by the page, and the name is not listed: {found:?}");
    }

    #[test]
    fn a_page_that_names_a_lost_test_is_found() {
        let rows = |id: &str| (id == "D05").then(|| "| D05 | fsync | F | tested | `d05_gone` |".to_owned());
        assert_eq!(messages(&[page(rows)]), ["D05: there is no test `d05_gone`"]);
    }

    #[test]
    fn an_exemption_without_a_reason_is_found() {
        let rows = |id: &str| (id == "S16").then(|| "| S16 | redirect | X | does not apply | |".to_owned());
        assert_eq!(messages(&[page(rows)]).len(), 1);
    }

    #[test]
    fn an_id_outside_the_catalogue_is_found() {
        assert_eq!(messages(&[page(|_| None), tests("#[test] fn p99_unheard_of() {}")]).len(), 1);
    }

    #[test]
    fn refreshing_makes_the_page_agree_with_the_tree() {
        let rows = |id: &str| match id {
            "D05" => Some("| D05 | fsync | F | partly | only local `d05_gone` `d05_kept` |".to_owned()),
            _ => None,
        };
        let code = tests("#[test] fn d05_kept() {} #[test] fn p04_once() {}");
        let refreshed = refresh(&[page(rows), Source::new("crates/x/tests/f.rs", code.text.clone())]);
        assert!(refreshed.contains("| D05 | fsync | F | partly | only local `d05_kept` |"), "{refreshed}");
        assert!(refreshed.contains("| P04 | something | C | tested | `p04_once` |"), "{refreshed}");
        assert!(messages(&[Source::new(PAGE, refreshed), code]).is_empty());
    }
}
