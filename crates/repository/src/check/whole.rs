//! The whole repository: its own documents, and every lineage, those included whose key is gone.

use std::collections::BTreeSet;

use strongroom_core::engine::CancelToken;
use strongroom_core::id::LineageId;
use strongroom_core::progress::Progress;
use strongroom_core::verification::Level;
use strongroom_core::{ErrorKind, Result};

use super::{CheckReport, Finding};
use crate::frame;
use crate::layout::{self, FORMAT_KEY};
use crate::marks;
use crate::repository::Repository;
use crate::verdict;

impl Repository {
    /// Checks everything that is stored. Damage is a finding, not an error; an error means that
    /// the check itself could not go on.
    pub fn check(&self, level: Level, cancel: &CancelToken, progress: &Progress) -> Result<CheckReport> {
        let mut report = CheckReport::default();
        self.check_documents(&mut report)?;
        // In this order: a lineage's key is made before its first object.
        let with_objects = self.lineages_with_objects()?;
        let known = self.lineages()?;
        for (project, lineage) in &known {
            cancel.check()?;
            match self.open_lineage(project, lineage) {
                Ok(lineage) => report.merge(lineage.check(None, level, cancel, progress)?),
                Err(error) if error.kind() == ErrorKind::Damage => {
                    let object = named_key(error.public()).unwrap_or_default().to_owned();
                    let problem = error.public().to_owned();
                    report.merge(self.unreadable(lineage, object, problem)?);
                }
                Err(error) => return Err(error),
            }
        }
        let known: BTreeSet<&LineageId> = known.iter().map(|(_, lineage)| lineage).collect();
        for lineage in with_objects.iter().filter(|lineage| !known.contains(lineage)) {
            // Its project stands in no name that is left.
            let object = format!("{}*/l/{lineage}.1", layout::KEYS_PREFIX);
            let problem = "the lineage's wrapped key is missing; nothing of it can be read".to_owned();
            report.merge(self.unreadable(lineage, object, problem)?);
        }
        Ok(report)
    }

    fn check_documents(&self, report: &mut CheckReport) -> Result<()> {
        let format = (!self.format_is_sound()?).then_some(FORMAT_KEY);
        for damaged in [format, self.damaged_document()?] {
            report.objects_checked += 1;
            if let Some(key) = damaged {
                let problem = frame::damage(key, "it is not as it was written").public().to_owned();
                let finding =
                    Finding { object: key.to_owned(), problem, attempts: Vec::new(), backups: Vec::new() };
                report.findings.push(finding);
            }
        }
        Ok(())
    }

    fn lineages_with_objects(&self) -> Result<BTreeSet<LineageId>> {
        let objects = self.shared.store.list(layout::LINEAGES_PREFIX)?;
        Ok(objects.iter().filter_map(|object| layout::lineage_of(&object.key)).collect())
    }

    /// A lineage without its key: every sealed and not forgotten backup is touched.
    fn unreadable(&self, lineage: &LineageId, object: String, problem: String) -> Result<CheckReport> {
        let store = &*self.shared.store;
        let forgotten = marks::forgotten(store, lineage)?;
        let mut attempts = Vec::new();
        for listed in store.list(&layout::verdict_prefix(lineage))? {
            let Some(attempt) = layout::parse_verdict(lineage, &listed.key) else { continue };
            let verdict = store.get(&listed.key)?.unwrap_or_default();
            if !forgotten.contains(&attempt) && !verdict::is_abandoned(&listed.key, &verdict) {
                attempts.push(attempt);
            }
        }
        let backups = attempts.iter().map(|attempt| format!("attempt {attempt}")).collect();
        let finding = Finding { object, problem, attempts, backups };
        Ok(CheckReport { objects_checked: 1, bytes_checked: 0, findings: vec![finding] })
    }
}

/// The object's key in a damage error's sentence.
fn named_key(sentence: &str) -> Option<&str> {
    sentence.strip_prefix("The object ")?.split(" is damaged").next()
}
