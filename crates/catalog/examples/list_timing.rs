//! How long a list of backups takes: 100 backups of one project among 100,000 in 1,000 projects.
//!
//! Run with `cargo run -p strongroom-catalog --example list_timing`. It prints a figure and judges
//! nothing; that the lists walk an index is what the tests hold.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sqlx::AnyPool;
use strongroom_catalog::{BackupFilter, Catalog};
use strongroom_core::id::ProjectId;
use strongroom_core::time::Randomness;

const PROJECTS: u32 = 1_000;
const BACKUPS_A_PROJECT: u32 = 100;

struct SystemRandomness;

impl Randomness for SystemRandomness {
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system has randomness");
    }
}

/// One instance a project, and its backups a second apart; four in five are verified.
const FILL: [&str; 4] = [
    "INSERT INTO projects (id, name, domain_id, domain_name, created)
     WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
     SELECT printf('%032x', i), 'p' || i, 'd', 'D', 0 FROM n",
    "INSERT INTO instances (id, node_id, project_id, name, engine, version, system_identifier, state, host,
         port, user_name, password_sealed, tls, allow_md5, lineage_id, created, updated)
     SELECT id || 'in03', id || 'no03', id, 'db', 'postgresql', '15.18', '7', 'ready', 'h', 5432, 'u', '',
         'require', 0, id, 0, 0 FROM projects",
    "INSERT INTO backups (id, project_id, instance_id, node_id, name, kind, state, engine, engine_version,
         lineage_id, job_id, created, finished, attempt_id, manifest_digest, source_bytes, stored_bytes, warnings)
     WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
     SELECT printf('%s%04x', substr(p.id, 5), n.i), p.id, p.id || 'in03', p.id || 'no03', 'backup-' || n.i,
         'manual', 'completed', 'postgresql', '15.18', p.id, p.id || n.i, n.i * 1000000, n.i * 1000000 + 1,
         p.id, 'd', 1000, 100, '[]' FROM n CROSS JOIN projects p",
    "INSERT INTO verifications (job_id, backup_id, at, level, outcome, findings)
     SELECT 'v' || id, id, finished, 'decode', 'passed', '[]' FROM backups
     WHERE (created / 1000000) % 5 <> 0",
];

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let url = format!("sqlite://{}", folder.path().join("catalog.db").display());
    let catalog = Catalog::open(&url, [0; 32], Arc::new(SystemRandomness), Timestamp::UNIX_EPOCH).await?;
    let pool = AnyPool::connect(&url).await?;
    for (statement, count) in FILL.into_iter().zip([PROJECTS, 0, BACKUPS_A_PROJECT, 0]) {
        let fill = sqlx::query(statement);
        let fill = if count > 0 { fill.bind(i64::from(count)) } else { fill };
        fill.execute(&pool).await?;
    }

    let mut durations: Vec<Duration> = Vec::new();
    for number in (1..=PROJECTS).step_by(5) {
        let project = ProjectId::parse(&format!("{number:032x}"))?;
        let began = Instant::now();
        let page = catalog.backup_page(&project, &BackupFilter::default(), None, 1_000).await?;
        durations.push(began.elapsed());
        assert_eq!(page.len(), BACKUPS_A_PROJECT as usize);
    }
    durations.sort();
    let began = Instant::now();
    catalog.metrics_reading(Timestamp::UNIX_EPOCH).await?;
    writeln!(
        std::io::stdout(),
        "lists of {BACKUPS_A_PROJECT} among {}: median {:?}, slowest {:?}; one reading for metrics {:?}",
        PROJECTS * BACKUPS_A_PROJECT,
        durations[durations.len() / 2],
        durations[durations.len() - 1],
        began.elapsed()
    )?;
    Ok(())
}
