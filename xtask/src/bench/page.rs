//! docs/benchmarks.md: tables between marks, replaced by the run that measured them.

use std::fs;

use anyhow::Context;

use crate::{say, workspace};

const PAGE: &str = "docs/benchmarks.md";

/// Prints a section and, when asked, puts it between its marks in the page.
pub(crate) fn publish(name: &str, section: &str, write: bool) -> anyhow::Result<()> {
    say::result(section);
    if write {
        let path = workspace::root().join(PAGE);
        let page = fs::read_to_string(&path).with_context(|| format!("reading {PAGE}"))?;
        fs::write(&path, replace(&page, name, section)?)?;
        say::note(format_args!("written to {PAGE}"));
    }
    Ok(())
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
