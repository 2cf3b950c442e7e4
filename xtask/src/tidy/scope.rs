//! Tenants are kept apart by a value (invariant C4): what touches their data takes `&Scope`.
//!
//! A function of `Service` without `self` reaches nothing but its arguments, and those were made
//! under a scope.

use super::source::{Finding, Source, is_test_only};

const RULE: &str = "scope";

/// Public functions of `Service` that touch no tenant's data, and why.
pub(crate) const WITHOUT_SCOPE: &[(&str, &str)] = &[
    ("authenticate", "turns a token into a caller; the scope is made from it"),
    ("authenticate_signature", "turns a signature into a caller; the scope is made from it"),
    ("log_in", "makes a session for who proves who they are; the scope is made from it"),
    ("session_shown", "the caller's own sessions, of whatever project"),
    ("session_end", "the caller's own sessions, of whatever project"),
    ("projects_of", "the caller's own projects, to choose one for a scope"),
    ("refusal_note", "callers who got no scope"),
    ("refusals_keep", "callers who got no scope"),
    ("refusals_end", "callers who got no scope"),
    ("download_scope", "turns a signed link into a scope"),
    ("scope", "makes the scope"),
    ("own_scope", "makes the scope"),
    ("ready", "health of the process"),
    ("metrics_reading", "sums over all, with ids only"),
    ("measurements", "what the worker did, in numbers"),
    ("repository_bytes", "one sum over all"),
    ("clock_reading", "the time"),
    ("time_refresh", "the time of the catalog's server"),
    ("time_keep", "the time of the catalog's server"),
    ("clock_trouble", "the time of this machine"),
    ("issue_request_id", "a random number"),
    ("recovery_kit_printed", "a flag of the installation, for the warning at start"),
];

pub(crate) fn check(sources: &[Source], exceptions: &[(&str, &str)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut used = vec![false; exceptions.len()];
    for source in sources.iter().filter(|source| source.path.starts_with("crates/service/src/")) {
        for function in source.syntax().map(public_functions_of_service).unwrap_or_default() {
            let name = function.sig.ident.to_string();
            if let Some(index) = exceptions.iter().position(|(excepted, _)| *excepted == name) {
                used[index] = true;
            } else if !takes_scope(&function.sig) {
                let line = function.sig.fn_token.span.start().line;
                let message = format!(
                    "`Service::{name}` takes no `&Scope`; list it with a reason if no tenant's data is touched"
                );
                findings.push(source.finding(RULE, line, message));
            }
        }
    }
    for ((name, _), _) in exceptions.iter().zip(used).filter(|(_, used)| !used) {
        findings.push(Finding {
            path: "crates/service/src/lib.rs".to_owned(),
            line: 1,
            rule: RULE,
            message: format!("the exception for `{name}` is no longer needed"),
        });
    }
    findings
}

fn public_functions_of_service(file: &syn::File) -> Vec<&syn::ImplItemFn> {
    let blocks = file.items.iter().filter_map(|item| match item {
        syn::Item::Impl(block) if block.trait_.is_none() && !is_test_only(&block.attrs) => Some(block),
        _ => None,
    });
    blocks
        .filter(|block| names(&block.self_ty, "Service"))
        .flat_map(|block| &block.items)
        .filter_map(|item| match item {
            syn::ImplItem::Fn(function) if is_public_method(function) => Some(function),
            _ => None,
        })
        .collect()
}

fn is_public_method(function: &syn::ImplItemFn) -> bool {
    matches!(function.vis, syn::Visibility::Public(_)) && function.sig.receiver().is_some()
}

fn takes_scope(signature: &syn::Signature) -> bool {
    signature.inputs.iter().any(|input| match input {
        syn::FnArg::Typed(argument) => match &*argument.ty {
            syn::Type::Reference(reference) => names(&reference.elem, "Scope"),
            _ => false,
        },
        syn::FnArg::Receiver(_) => false,
    })
}

fn names(ty: &syn::Type, name: &str) -> bool {
    match ty {
        syn::Type::Path(path) => path.path.segments.last().is_some_and(|segment| segment.ident == name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "crates/service/src/backups.rs";

    #[test]
    fn a_function_on_tenant_data_without_a_scope_is_found() {
        let code = "impl Service {
            pub async fn backup_find(&self, id: &BackupId) -> Result<Backup> { find() }
            pub async fn backup_delete(&self, scope: &Scope, id: &BackupId) -> Result<()> { delete() }
            fn private(&self) {}
            pub fn of_its_arguments(reader: &BackupReader) {}
        }";
        let findings = check(&[Source::new(PATH, code)], &[]);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].line, 2);
    }

    #[test]
    fn a_listed_function_may_go_without_and_a_stale_entry_is_found() {
        let code = "impl Service { pub fn ready(&self) {} }";
        assert!(check(&[Source::new(PATH, code)], &[("ready", "specimen")]).is_empty());
        assert_eq!(check(&[Source::new(PATH, "")], &[("ready", "specimen")]).len(), 1);
    }
}
