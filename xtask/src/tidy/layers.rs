//! Who may depend on whom (invariants C1 and C3), and where a library is at home.
//!
//! The crates are the walls of the house; this table is the plan they are checked against.

use std::collections::BTreeMap;

use anyhow::Context;

use super::source::{Finding, Source};

const RULE: &str = "layers";
const DEPENDENCIES_PAGE: &str = "docs/reference/dependencies.md";

/// What each package of ours may see of the others, in the product.
const EDGES: &[(&str, &[&str])] = &[
    ("strongroom-core", &[]),
    ("strongroom-catalog", &["strongroom-core"]),
    ("strongroom-repository", &["strongroom-core"]),
    ("strongroom-engine-mysql", &["strongroom-core", "strongroom-host", "strongroom-wire"]),
    ("strongroom-engine-postgres", &["strongroom-core", "strongroom-host", "strongroom-wire"]),
    ("strongroom-host", &["strongroom-core"]),
    ("strongroom-restore", &["strongroom-core", "strongroom-repository"]),
    (
        "strongroom-service",
        &["strongroom-core", "strongroom-catalog", "strongroom-repository", "strongroom-restore"],
    ),
    ("strongroom-api", &["strongroom-core", "strongroom-service"]),
    (
        "strongroom",
        &[
            "strongroom-core",
            "strongroom-api",
            "strongroom-catalog",
            "strongroom-engine-mysql",
            "strongroom-engine-postgres",
            "strongroom-repository",
            "strongroom-service",
        ],
    ),
    (
        "strongroom-extract",
        &[
            "strongroom-core",
            "strongroom-engine-mysql",
            "strongroom-engine-postgres",
            "strongroom-repository",
            "strongroom-restore",
        ],
    ),
    (
        "strongroom-fuzzing",
        &[
            "strongroom-core",
            "strongroom-api",
            "strongroom-engine-mysql",
            "strongroom-engine-postgres",
            "strongroom-repository",
            "strongroom-restore",
            "strongroom-service",
        ],
    ),
    ("strongroom-fuzz", &["strongroom-fuzzing"]),
    ("strongroom-testkit", &["strongroom-core", "strongroom-repository"]),
    ("strongroom-wire", &["strongroom-core"]),
    ("xtask", &["strongroom-testkit"]),
];

/// `core` is pure (C1): nothing here opens a file or a socket, or brings a runtime.
const CORE_LIBRARIES: &[&str] = &["ipnet", "jiff", "secrecy", "serde", "serde_json", "thiserror", "uuid"];

/// Libraries that belong to one layer; anywhere else they are a hole in a wall.
const HOMES: &[(&str, &[&str])] = &[
    ("aes", &["strongroom-engine-mysql"]),
    ("sqlx", &["strongroom-catalog"]),
    ("postgres-protocol", &["strongroom-engine-postgres"]),
    ("zstd-safe", &["strongroom-repository"]),
    ("axum", &["strongroom-api"]),
    ("hyper", &["strongroom-api"]),
    ("hyper-util", &["strongroom-api"]),
    ("utoipa", &["strongroom-api"]),
    ("prometheus-client", &["strongroom-api"]),
    ("libc", &["strongroom"]),
    ("reqwest", &["strongroom"]),
    ("comfy-table", &["strongroom"]),
    ("tracing-subscriber", &["strongroom"]),
    ("clap", &["strongroom", "strongroom-extract", "xtask"]),
    ("indicatif", &["strongroom", "xtask"]),
    ("tokio", &["strongroom-catalog", "strongroom-service", "strongroom-api", "strongroom"]),
    ("anyhow", &["strongroom", "strongroom-testkit", "xtask"]),
];

/// A manifest, as far as the plan needs it.
struct Manifest {
    package: String,
    product: Vec<String>,
    development: Vec<String>,
}

fn parse(source: &Source) -> anyhow::Result<Manifest> {
    let table: toml::Table = source.text.parse().with_context(|| format!("reading {}", source.path))?;
    let names = |section: &str| -> Vec<String> {
        let section = table.get(section).and_then(toml::Value::as_table);
        section.map(|entries| entries.keys().cloned().collect()).unwrap_or_default()
    };
    let package = table.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str);
    Ok(Manifest {
        package: package.context("a manifest without a name")?.to_owned(),
        product: names("dependencies").into_iter().chain(names("build-dependencies")).collect(),
        development: names("dev-dependencies"),
    })
}

pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut explained: BTreeMap<String, bool> = explained_libraries(sources);
    for source in sources.iter().filter(|source| is_member(&source.path)) {
        let manifest = match parse(source) {
            Ok(manifest) => manifest,
            Err(error) => {
                findings.push(source.finding(RULE, 1, format!("{error:#}")));
                continue;
            }
        };
        let mut say = |message: String| findings.push(source.finding(RULE, 1, message));
        check_edges(&manifest, &mut say);
        check_homes(&manifest, &mut say);
        for name in manifest.product.iter().chain(&manifest.development) {
            if is_ours(name) {
                continue;
            }
            match explained.get_mut(name) {
                Some(used) => *used = true,
                None => say(format!("`{name}` has no line in {DEPENDENCIES_PAGE} that says why it is here")),
            }
        }
    }
    for (name, _) in explained.iter().filter(|(_, used)| !**used) {
        findings.push(Finding {
            path: DEPENDENCIES_PAGE.to_owned(),
            line: 1,
            rule: RULE,
            message: format!("explains `{name}`, which nothing depends on"),
        });
    }
    findings
}

fn is_member(path: &str) -> bool {
    path == "xtask/Cargo.toml"
        || path == "fuzz/Cargo.toml"
        || (path.starts_with("crates/") && path.ends_with("/Cargo.toml"))
}

fn is_ours(name: &str) -> bool {
    name == "xtask" || name == "strongroom" || name.starts_with("strongroom-")
}

fn check_edges(manifest: &Manifest, say: &mut impl FnMut(String)) {
    let Some((_, allowed)) = EDGES.iter().find(|(package, _)| *package == manifest.package) else {
        say(format!("`{}` has no row in the plan of layers", manifest.package));
        return;
    };
    for name in manifest.product.iter().filter(|name| is_ours(name)) {
        if !allowed.contains(&name.as_str()) {
            say(format!("`{}` must not know `{name}`", manifest.package));
        }
    }
    for name in manifest.product.iter().filter(|name| !is_ours(name)) {
        if manifest.package == "strongroom-core" && !CORE_LIBRARIES.contains(&name.as_str()) {
            say(format!("`core` is pure and must not know `{name}`"));
        }
    }
}

fn check_homes(manifest: &Manifest, say: &mut impl FnMut(String)) {
    for name in &manifest.product {
        if let Some((_, homes)) = HOMES.iter().find(|(library, _)| library == name)
            && !homes.contains(&manifest.package.as_str())
        {
            say(format!("`{name}` is at home in {}, not in `{}`", homes.join(", "), manifest.package));
        }
    }
}

/// Libraries with a row in the page; the flag becomes true when a manifest asks for them.
fn explained_libraries(sources: &[Source]) -> BTreeMap<String, bool> {
    let page = sources.iter().find(|source| source.path == DEPENDENCIES_PAGE);
    let rows = page.map(|page| page.text.lines()).into_iter().flatten();
    rows.filter_map(|row| {
        let name = row.strip_prefix("| `")?.split_once('`')?.0;
        Some((name.to_owned(), false))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(libraries: &[&str]) -> Source {
        let rows = libraries.iter().fold(String::new(), |rows, name| rows + "| `" + name + "` | because |\n");
        Source::new(DEPENDENCIES_PAGE, rows)
    }

    fn manifest(folder: &str, package: &str, rest: &str) -> Source {
        Source::new(format!("crates/{folder}/Cargo.toml"), format!("[package]\nname = \"{package}\"\n{rest}"))
    }

    fn messages(sources: &[Source]) -> Vec<String> {
        check(sources).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn a_core_that_opens_sockets_is_found() {
        let core = manifest("core", "strongroom-core", "[dependencies]\ntokio.workspace = true\n");
        let found = messages(&[core, page(&["tokio"])]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("pure") && found[1].contains("at home"), "{found:?}");
    }

    #[test]
    fn an_api_that_calls_an_engine_is_found() {
        let rest = "[dependencies]\nstrongroom-engine-postgres.workspace = true\n";
        let found = messages(&[manifest("api", "strongroom-api", rest)]);
        assert_eq!(found, ["`strongroom-api` must not know `strongroom-engine-postgres`"]);
    }

    #[test]
    fn the_testkit_may_be_used_by_tests_only() {
        let product =
            manifest("api", "strongroom-api", "[dependencies]\nstrongroom-testkit.workspace = true\n");
        let tests =
            manifest("api", "strongroom-api", "[dev-dependencies]\nstrongroom-testkit.workspace = true\n");
        assert_eq!(messages(&[product]).len(), 1);
        assert!(messages(&[tests]).is_empty());
    }

    #[test]
    fn sql_outside_the_catalog_and_a_library_without_a_reason_are_found() {
        let service =
            manifest("service", "strongroom-service", "[dependencies]\nsqlx = \"1\"\nleftpad = \"1\"\n");
        let found = messages(&[service, page(&["sqlx", "gone"])]);
        assert_eq!(found.len(), 3, "{found:?}");
    }

    #[test]
    fn a_new_crate_needs_a_row_in_the_plan() {
        assert_eq!(messages(&[manifest("extra", "strongroom-extra", "")]).len(), 1);
    }
}
