//! Functions fit a screen, files fit a head: 70 and 600 lines, exceptions listed with a reason.

use syn::visit::{self, Visit};

use super::source::{Finding, Source};

const RULE: &str = "length";
const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 600;
/// ARCHITECTURE.md is read in one sitting or not at all.
const ARCHITECTURE_LINES_MAX: usize = 300;

/// A function or file (`name` empty) that may be longer, and why.
pub(crate) struct Exception {
    path: &'static str,
    name: &'static str,
    #[expect(dead_code, reason = "the reason is for whoever reads the table")]
    reason: &'static str,
}

/// Keep it short: an entry that is no longer needed is a finding.
pub(crate) const EXCEPTIONS: &[Exception] = &[];

pub(crate) fn check(sources: &[Source], exceptions: &[Exception]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut used = vec![false; exceptions.len()];
    let mut is_excepted = |path: &str, name: &str| {
        let position = exceptions.iter().position(|entry| entry.path == path && entry.name == name);
        position.map(|index| used[index] = true).is_some()
    };
    for source in sources {
        let lines = source.text.lines().count();
        if source.is_rust() && lines > FILE_LINES_MAX && !is_excepted(&source.path, "") {
            let message = format!("{lines} lines; split it by noun, {FILE_LINES_MAX} is the limit");
            findings.push(source.finding(RULE, 1, message));
        }
        if source.path == "ARCHITECTURE.md" && lines > ARCHITECTURE_LINES_MAX {
            let message = format!("{lines} lines; {ARCHITECTURE_LINES_MAX} is the limit");
            findings.push(source.finding(RULE, 1, message));
        }
        for function in source.syntax().map(functions).unwrap_or_default() {
            if function.lines > FUNCTION_LINES_MAX && !is_excepted(&source.path, &function.name) {
                let message = format!(
                    "`{}` has {} lines; {FUNCTION_LINES_MAX} is the limit",
                    function.name, function.lines
                );
                findings.push(source.finding(RULE, function.line, message));
            }
        }
    }
    for (entry, _) in exceptions.iter().zip(used).filter(|(_, used)| !used) {
        findings.push(Finding {
            path: entry.path.to_owned(),
            line: 1,
            rule: RULE,
            message: format!("the exception for `{}` is no longer needed", entry.name),
        });
    }
    findings
}

struct Function {
    name: String,
    line: usize,
    lines: usize,
}

fn functions(file: &syn::File) -> Vec<Function> {
    let mut collector = FunctionCollector { found: Vec::new() };
    collector.visit_file(file);
    collector.found
}

struct FunctionCollector {
    found: Vec<Function>,
}

impl FunctionCollector {
    fn keep(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let line = signature.fn_token.span.start().line;
        let end = block.brace_token.span.close().end().line;
        self.found.push(Function { name: signature.ident.to_string(), line, lines: end + 1 - line });
    }
}

impl<'ast> Visit<'ast> for FunctionCollector {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.keep(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.keep(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.keep(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function_of(lines: usize) -> Source {
        let body = "    work();\n".repeat(lines - 2);
        Source::new("crates/x/src/lib.rs", format!("/// Said.\nfn long() {{\n{body}}}\n"))
    }

    #[test]
    fn a_function_of_71_lines_is_found_and_one_of_70_is_not() {
        assert!(check(&[function_of(70)], &[]).is_empty());
        let findings = check(&[function_of(71)], &[]);
        assert_eq!((findings.len(), findings[0].line), (1, 2));
    }

    #[test]
    fn a_file_of_601_lines_is_found_and_one_of_600_is_not() {
        let file = |lines: usize| Source::new("crates/x/src/lib.rs", "//\n".repeat(lines));
        assert!(check(&[file(600)], &[]).is_empty());
        assert_eq!(check(&[file(601)], &[]).len(), 1);
    }

    #[test]
    fn an_exception_counts_once_needed_and_is_found_when_stale() {
        let table = [Exception { path: "crates/x/src/lib.rs", name: "long", reason: "specimen" }];
        assert!(check(&[function_of(71)], &table).is_empty());
        assert_eq!(check(&[function_of(70)], &table).len(), 1);
    }

    #[test]
    fn a_long_architecture_is_found() {
        let text = |lines: usize| Source::new("ARCHITECTURE.md", "x\n".repeat(lines));
        assert!(check(&[text(300)], &[]).is_empty());
        assert_eq!(check(&[text(301)], &[]).len(), 1);
    }
}
