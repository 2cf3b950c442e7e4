//! Every limit of `limits.rs` is held by a test (invariant C11).

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use super::source::{Finding, Source, is_test_only};

const RULE: &str = "limits";
const LIMITS: &str = "crates/core/src/limits.rs";

pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let Some(limits) = sources.iter().find(|source| source.path == LIMITS) else {
        return Vec::new();
    };
    let mut tested = BTreeSet::new();
    for source in sources {
        if let Some(file) = source.syntax() {
            let mut collector = NameCollector { in_test: source.is_test_file(), found: &mut tested };
            collector.visit_file(file);
        }
    }
    let constants = limits.syntax().map(|file| file.items.as_slice()).unwrap_or_default();
    constants
        .iter()
        .filter_map(|item| match item {
            syn::Item::Const(constant) => Some(&constant.ident),
            _ => None,
        })
        .filter(|name| !tested.contains(&name.to_string()))
        .map(|name| {
            let message = format!("no test holds `{name}`; test it at its edge, by its name");
            limits.finding(RULE, name.span().start().line, message)
        })
        .collect()
}

/// Upper-case names that stand in test code, inside macros too.
struct NameCollector<'a> {
    in_test: bool,
    found: &'a mut BTreeSet<String>,
}

impl NameCollector<'_> {
    fn keep(&mut self, ident: &proc_macro2::Ident) {
        if self.in_test {
            self.found.insert(ident.to_string());
        }
    }

    fn keep_tokens(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.keep_tokens(group.stream()),
                TokenTree::Ident(ident) => self.keep(&ident),
                TokenTree::Literal(_) | TokenTree::Punct(_) => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for NameCollector<'_> {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        let outside = self.in_test;
        self.in_test |= is_test_only(&module.attrs);
        visit::visit_item_mod(self, module);
        self.in_test = outside;
    }

    fn visit_item_use(&mut self, _: &'ast syn::ItemUse) {}

    fn visit_ident(&mut self, ident: &'ast syn::Ident) {
        self.keep(ident);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.keep_tokens(call.tokens.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Source {
        Source::new(
            LIMITS,
            "pub const NAME_LENGTH_CHARS_MAX: usize = 64;\npub const PACK_SIZE_BYTES_MAX: u64 = 1;",
        )
    }

    #[test]
    fn a_limit_that_only_product_code_names_is_found() {
        let product = "fn f() { g(PACK_SIZE_BYTES_MAX) }
            #[cfg(test)] mod tests { fn t() { assert!(x(limits::NAME_LENGTH_CHARS_MAX)); } }";
        let findings = check(&[limits(), Source::new("crates/x/src/lib.rs", product)]);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].line, 2);
    }

    #[test]
    fn an_import_is_not_a_test() {
        let test = "use strongroom_core::limits::{NAME_LENGTH_CHARS_MAX, PACK_SIZE_BYTES_MAX};";
        assert_eq!(check(&[limits(), Source::new("crates/x/tests/a.rs", test)]).len(), 2);
    }
}
