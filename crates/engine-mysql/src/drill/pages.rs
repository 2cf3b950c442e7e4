//! Every page of the stopped copy against its checksum: also those that no table leads to.

use std::fmt::Write as _;
use std::sync::Arc;

use strongroom_core::verification::Outcome;
use strongroom_host::outcome_of;

use super::{Drill, Halt};
use crate::page::{Directory, PageFindings};
use crate::restore::system_files;

/// The name of the check in reports.
const CHECK: &str = "page_checksums";

impl Drill<'_> {
    pub(super) fn check_pages(&mut self) -> Result<(), Halt> {
        self.order.progress.set_phase("checking-pages");
        let findings = Arc::new(PageFindings::default());
        let system_files = system_files(self.facts);
        let directory = Directory {
            path: self.order.target,
            page_size: self.facts.page_size_bytes,
            system_files: &system_files,
        };
        let unknown = directory.check::<Halt>(&findings, &mut || self.found.remaining().map(|_| ()))?;
        for page in findings.damage() {
            self.found.failures.tell(format!(
                "Page {} of {} is damaged (checksum {}, computed {}).",
                page.block, page.relation, page.found, page.expected
            ));
        }
        for name in &unknown {
            self.found.unjudged.tell(format!(
                "The file {name} does not begin as a tablespace does; its pages were not looked at."
            ));
        }
        let counts = findings.counts();
        let outcome = outcome_of(usize::from(counts.damaged > 0), unknown.len());
        if counts.sound + counts.damaged == 0 {
            self.found.note_check(CHECK, Outcome::NotRun, "no page has a checksum that is computed here");
            return Ok(());
        }
        let mut detail = match counts.damaged {
            0 => format!("{} pages have the checksum that they should", counts.sound),
            damaged => format!("{damaged} pages are damaged"),
        };
        if counts.veiled + counts.unchecked > 0 {
            let _ = write!(
                detail,
                "; of {} that are compressed or encrypted only the place was judged, {} have another kind of checksum",
                counts.veiled, counts.unchecked
            );
        }
        self.found.note_check(CHECK, outcome, detail);
        Ok(())
    }
}
