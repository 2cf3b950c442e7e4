//! Words that must not be in the tree: leftovers, paths of one machine, names that say nothing.

use syn::visit::{self, Visit};

use super::source::{Finding, Source};

const RULE: &str = "words";

/// Files whose text is not ours to choose.
const NOT_OURS: &[&str] = &["LICENSE", "Cargo.lock"];
/// This file spells the words it looks for.
const SELF: &str = "xtask/src/tidy/words.rs";

const LEFTOVERS: &[&str] = &["TODO", "FIXME", "XXX", "HACK"];
const LEFTOVER_CODE: &[&str] = &["#[ignore", "todo!(", "unimplemented!("];
/// A path that exists on one machine only has no place in a product.
const MACHINE_PATHS: &[&str] = &["/home/", "/Users/", "/root/", "/work/", "/mnt/c/"];

/// Endings of type names that hide what the thing is.
const EMPTY_ENDINGS: &[&str] = &["Manager", "Helper", "Util", "Utils", "Wrapper"];
/// Words of the field that mean something else here (docs/reference/terms.md).
const OTHER_WORDS: &[(&str, &str)] =
    &[("Task", "Job"), ("Snapshot", "Backup"), ("Storage", "Repository or Store")];
const EMPTY_MODULES: &[&str] = &["common", "helper", "helpers", "misc", "util", "utils"];

pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.path != SELF) {
        if NOT_OURS.contains(&source.path.as_str()) {
            continue;
        }
        check_lines(source, &mut findings);
        if source.is_rust() {
            check_header(source, &mut findings);
        }
        if let Some(file) = source.syntax() {
            let mut names = NameCollector { found: Vec::new() };
            names.visit_file(file);
            findings.extend(names.found.into_iter().map(|(line, text)| source.finding(RULE, line, text)));
        }
    }
    findings
}

fn check_lines(source: &Source, findings: &mut Vec<Finding>) {
    for (index, line) in source.text.lines().enumerate() {
        let mut say = |message: String| findings.push(source.finding(RULE, index + 1, message));
        for word in LEFTOVERS.iter().filter(|word| has_word(line, word)) {
            say(format!("`{word}` is a note to oneself; do it or write an issue"));
        }
        for code in LEFTOVER_CODE.iter().filter(|code| source.is_rust() && line.contains(*code)) {
            say(format!("`{code}` leaves something undone"));
        }
        for path in MACHINE_PATHS.iter().filter(|path| has_path(line, path)) {
            say(format!("`{path}…` is a path of one machine"));
        }
    }
}

/// Every module says what it owns before anything else.
fn check_header(source: &Source, findings: &mut Vec<Finding>) {
    if !source.text.starts_with("//!") {
        findings.push(source.finding(RULE, 1, "the module has no `//!` header that says what it owns"));
    }
}

fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    line.match_indices(word).any(|(start, _)| {
        !line[..start].ends_with(is_part) && !line[start + word.len()..].starts_with(is_part)
    })
}

/// The path begins here: `file:///work/x` and `"/work/x"` do, `docs/work/x` does not.
fn has_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(start, _)| {
        !line[..start].ends_with(|c: char| c.is_ascii_alphanumeric() || "._-}*".contains(c))
    })
}

struct NameCollector {
    found: Vec<(usize, String)>,
}

impl NameCollector {
    fn type_name(&mut self, ident: &syn::Ident) {
        let (name, line) = (ident.to_string(), ident.span().start().line);
        for ending in EMPTY_ENDINGS.iter().filter(|ending| name.ends_with(*ending)) {
            self.found.push((line, format!("`{name}`: say what it is; `{ending}` says nothing")));
        }
        for (word, ours) in OTHER_WORDS.iter().filter(|(word, _)| name.contains(word)) {
            self.found.push((line, format!("`{name}`: our word for {word} is {ours}")));
        }
    }
}

impl<'ast> Visit<'ast> for NameCollector {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.type_name(&item.ident);
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.type_name(&item.ident);
        visit::visit_item_enum(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.type_name(&item.ident);
        visit::visit_item_trait(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if EMPTY_MODULES.iter().any(|name| item.ident == name) {
            let line = item.ident.span().start().line;
            self.found.push((line, format!("module `{}`: name it after what it owns", item.ident)));
        }
        visit::visit_item_mod(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        check(&[Source::new(path, text)]).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn notes_to_oneself_are_found_as_words_only() {
        assert_eq!(messages("docs/a.md", "a TODO here\nTODO: there").len(), 2);
        assert!(messages("docs/a.md", "mktemp XXXXXX and MASTODON and my-TODO-list").is_empty());
    }

    #[test]
    fn an_ignored_test_is_found() {
        assert_eq!(messages("crates/x/src/a.rs", "//! Owns a.\n#[ignore]\nfn f() {}").len(), 1);
    }

    #[test]
    fn a_path_of_one_machine_is_found_and_a_relative_one_is_not() {
        assert_eq!(messages("README.md", "cd /home/ann/strongroom\nfile:///work/x").len(), 2);
        assert!(messages("README.md", "see docs/work/x and ${HOME}/work/y").is_empty());
    }

    #[test]
    fn empty_names_and_foreign_words_are_found() {
        let code = "//! Owns.\nstruct BackupManager;\nenum TaskState {}\nmod utils {}\nstruct Backup;";
        assert_eq!(messages("crates/x/src/a.rs", code).len(), 3);
    }

    #[test]
    fn a_module_without_a_header_is_found() {
        assert_eq!(messages("crates/x/src/a.rs", "struct Backup;").len(), 1);
    }
}
