//! Rules that hold between rows, whatever happened: asked by tests after every storm, and by
//! anybody who doubts a catalog.

use sqlx::query_scalar;
use strongroom_core::Result;

use crate::Catalog;
use crate::transaction::reading;

/// The rule, and the statement that finds the rows breaking it.
const RULES: [(&str, &str); 10] = [
    (
        "every BUILDING backup has a live job of its own",
        "SELECT b.id FROM backups b WHERE b.state = 'building' AND NOT EXISTS (
             SELECT 1 FROM jobs j
             WHERE j.id = b.job_id AND j.backup_id = b.id AND j.kind = 'backup' AND j.finished IS NULL)",
    ),
    (
        "every live backup job has its BUILDING backup",
        "SELECT j.id FROM jobs j WHERE j.kind = 'backup' AND j.finished IS NULL AND NOT EXISTS (
             SELECT 1 FROM backups b WHERE b.id = j.backup_id AND b.job_id = j.id AND b.state = 'building')",
    ),
    (
        "every DELETING backup has a live delete job",
        "SELECT b.id FROM backups b WHERE b.state = 'deleting' AND NOT EXISTS (
             SELECT 1 FROM jobs j WHERE j.backup_id = b.id AND j.kind = 'delete' AND j.finished IS NULL)",
    ),
    (
        "every live delete job has its DELETING backup",
        "SELECT j.id FROM jobs j WHERE j.kind = 'delete' AND j.finished IS NULL AND NOT EXISTS (
             SELECT 1 FROM backups b WHERE b.id = j.backup_id AND b.state = 'deleting')",
    ),
    (
        "a backup and its job belong to one project",
        "SELECT b.id FROM backups b JOIN jobs j ON j.backup_id = b.id
         WHERE j.project_id IS NULL OR j.project_id <> b.project_id",
    ),
    (
        "a backup belongs to the project of its instance",
        "SELECT b.id FROM backups b JOIN instances i ON i.id = b.instance_id
         WHERE i.project_id <> b.project_id",
    ),
    (
        "a policy belongs to the project of its instance, which is not retired",
        "SELECT p.instance_id FROM policies p JOIN instances i ON i.id = p.instance_id
         WHERE i.project_id <> p.project_id OR i.state = 'retired'",
    ),
    (
        "a tag belongs to the project of its instance, which is not retired",
        "SELECT t.instance_id FROM instance_tags t JOIN instances i ON i.id = t.instance_id
         WHERE i.project_id <> t.project_id OR i.state = 'retired'",
    ),
    (
        "every automated backup was begun for one moment",
        "SELECT s.backup_id FROM policy_starts s GROUP BY s.backup_id HAVING COUNT(*) > 1",
    ),
    (
        "the quota counts the manual backups that exist",
        "SELECT q.project_id FROM quotas q WHERE q.manual_backups <> (
             SELECT COUNT(*) FROM backups b WHERE b.project_id = q.project_id AND b.kind = 'manual')",
    ),
];

impl Catalog {
    /// One sentence for each row that breaks a rule; none is the only good answer. The audit chain
    /// is followed by [`Catalog::audit_verify`].
    pub async fn invariants_check(&self) -> Result<Vec<String>> {
        reading!(self, |tx| {
            let mut broken = Vec::new();
            for (rule, select) in RULES {
                let ids: Vec<String> = query_scalar(select).fetch_all(&mut **tx).await?;
                broken.extend(ids.into_iter().map(|id| format!("{id}: not so: {rule}")));
            }
            Ok(broken)
        })
    }
}
