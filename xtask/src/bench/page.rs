//! docs/benchmarks.md: tables between marks, replaced by the run that measured them.

use std::fs;

use anyhow::Context;

use crate::{say, workspace};

const PAGE: &str = "docs/benchmarks.md";

/// Prints a section and, when asked, puts it between its marks in the page.
pub(crate) fn publish(section: &str, name: Option<&str>) -> anyhow::Result<()> {
    say::result(section);
    if let Some(name) = name {
        fs::write(workspace::root().join(PAGE), replace(&read()?, name, section)?)?;
        say::note(format_args!("written to {PAGE}"));
    }
    Ok(())
}

/// An error when the page has no such marks, to be known before an hour of measuring.
pub(crate) fn check(name: &str) -> anyhow::Result<()> {
    replace(&read()?, name, "").map(drop)
}

fn read() -> anyhow::Result<String> {
    fs::read_to_string(workspace::root().join(PAGE)).with_context(|| format!("reading {PAGE}"))
}

fn replace(page: &str, name: &str, section: &str) -> anyhow::Result<String> {
    let (start, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->\n"));
    let (before, rest) =
        page.split_once(&start).with_context(|| format!("{PAGE} has no mark `{}`", start.trim()))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("{PAGE} has no mark `{}`", end.trim()))?;
    Ok(format!("{before}{start}\n{}\n\n{end}{after}", section.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_and_the_rest_stays() {
        let page = "a\n<!-- x -->\nold\n<!-- end of x -->\nb\n";
        let once = replace(page, "x", "new").unwrap();
        assert_eq!(once, "a\n<!-- x -->\n\nnew\n\n<!-- end of x -->\nb\n");
        assert_eq!(replace(&once, "x", "new").unwrap(), once);
        assert!(replace(page, "y", "new").is_err());
    }
}
