//! Links between documents lead somewhere.

use std::collections::BTreeSet;

use super::source::{Finding, Source};

const RULE: &str = "links";

pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut places: BTreeSet<String> = BTreeSet::new();
    for source in sources {
        let mut path = source.path.as_str();
        places.insert(path.to_owned());
        while let Some((folder, _)) = path.rsplit_once('/') {
            places.insert(folder.to_owned());
            path = folder;
        }
    }
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.path.rsplit('.').next() == Some("md")) {
        for (index, line) in prose_lines(&source.text) {
            for target in targets(line) {
                let path = target.split('#').next().unwrap_or_default();
                if !path.is_empty() && !places.contains(&resolve(&source.path, path)) {
                    let message = format!("the link to `{target}` leads nowhere");
                    findings.push(source.finding(RULE, index + 1, message));
                }
            }
        }
    }
    findings
}

/// Lines outside fenced code.
fn prose_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// The targets of `[text](target)` that are paths of ours.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("](").filter_map(|(start, _)| {
        let target = line[start + 2..].split(')').next()?.split(' ').next()?;
        (!target.contains("://") && !target.starts_with("mailto:")).then_some(target)
    })
}

fn resolve(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_a_page_that_is_not_there_is_found() {
        let pages = [
            Source::new(
                "docs/a.md",
                "[ok](guides/b.md#x) [up](../README.md) [out](https://example.org) [lost](c.md)",
            ),
            Source::new("docs/guides/b.md", "```\n[not](a.link)\n```\n[folder](..)"),
            Source::new("README.md", ""),
        ];
        let found: Vec<_> = check(&pages).into_iter().map(|finding| finding.message).collect();
        assert_eq!(found, ["the link to `c.md` leads nowhere"]);
    }
}
