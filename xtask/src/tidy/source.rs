//! A file of the workspace as the rules see it, and what they find in it.

use std::fmt;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// One file: its path from the root, its text and, for Rust, its syntax.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
    syntax: Option<syn::Result<syn::File>>,
}

impl Source {
    pub(crate) fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let is_rust = path.rsplit_once('.').is_some_and(|(_, extension)| extension == "rs");
        let syntax = is_rust.then(|| syn::parse_file(&text));
        Self { path, text, syntax }
    }

    /// The syntax tree of a Rust file that parses.
    pub(crate) fn syntax(&self) -> Option<&syn::File> {
        self.syntax.as_ref()?.as_ref().ok()
    }

    /// Why a Rust file does not parse.
    pub(crate) fn syntax_error(&self) -> Option<Finding> {
        let error = self.syntax.as_ref()?.as_ref().err()?;
        Some(self.finding("syntax", error.span().start().line, error.to_string()))
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.syntax.is_some()
    }

    /// Integration tests, benches, examples and unit tests in a file of their own: never shipped.
    pub(crate) fn is_test_file(&self) -> bool {
        ["/tests/", "/benches/", "/examples/"].iter().any(|folder| self.path.contains(folder))
            || ["_tests.rs", "/tests.rs"].iter().any(|ending| self.path.ends_with(ending))
    }

    /// The name of the crate's folder: `catalog` for `crates/catalog/src/lib.rs`.
    pub(crate) fn crate_folder(&self) -> &str {
        self.path.strip_prefix("crates/").unwrap_or(&self.path).split('/').next().unwrap_or_default()
    }

    /// Rust that is part of the product: not a test, not a chore.
    pub(crate) fn is_product(&self) -> bool {
        self.is_rust()
            && !self.is_test_file()
            && self.path.starts_with("crates/")
            && self.crate_folder() != "testkit"
    }

    pub(crate) fn finding(&self, rule: &'static str, line: usize, message: impl Into<String>) -> Finding {
        Finding { rule, path: self.path.clone(), line, message: message.into() }
    }
}

/// One broken rule at one place.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) rule: &'static str,
    pub(crate) message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {} [{}]", self.path, self.line, self.message, self.rule)
    }
}

/// A text literal of product code, outside attributes and `#[cfg(test)]`.
pub(crate) struct Literal {
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// Every text literal of the file that ends up in the product.
pub(crate) fn literals(file: &syn::File) -> Vec<Literal> {
    let mut collector = LiteralCollector { found: Vec::new() };
    collector.visit_file(file);
    collector.found
}

struct LiteralCollector {
    found: Vec<Literal>,
}

impl LiteralCollector {
    fn keep(&mut self, literal: &syn::Lit) {
        let (text, span) = match literal {
            syn::Lit::Str(text) => (text.value(), text.span()),
            syn::Lit::ByteStr(bytes) => (String::from_utf8_lossy(&bytes.value()).into_owned(), bytes.span()),
            _ => return,
        };
        self.found.push(Literal { line: span.start().line, text });
    }

    fn keep_tokens(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.keep_tokens(group.stream()),
                TokenTree::Literal(literal) => self.keep(&syn::Lit::new(literal)),
                TokenTree::Ident(_) | TokenTree::Punct(_) => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for LiteralCollector {
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_test_only(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_lit(&mut self, literal: &'ast syn::Lit) {
        self.keep(literal);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.keep_tokens(call.tokens.clone());
    }
}

/// Whether `#[cfg(test)]` stands above it.
pub(crate) fn is_test_only(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
    })
}

/// Whether it is a test function: `#[test]`, `#[tokio::test]`.
pub(crate) fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes
        .iter()
        .any(|attribute| attribute.path().segments.last().is_some_and(|segment| segment.ident == "test"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_inside_macros_count_and_those_of_tests_and_attributes_do_not() {
        let source = Source::new(
            "crates/x/src/lib.rs",
            r#"
            #[doc = "in an attribute"]
            fn f() { g("plain"); println!("{}", "in a macro"); h(b"bytes"); }
            #[cfg(test)]
            mod tests { const X: &str = "in a test"; }
            "#,
        );
        let found: Vec<_> =
            literals(source.syntax().unwrap()).into_iter().map(|literal| literal.text).collect();
        assert_eq!(found, ["plain", "{}", "in a macro", "bytes"]);
    }

    #[test]
    fn a_file_that_does_not_parse_is_a_finding() {
        let finding = Source::new("crates/x/src/lib.rs", "fn (").syntax_error().unwrap();
        assert_eq!((finding.line, finding.rule), (1, "syntax"));
    }
}
