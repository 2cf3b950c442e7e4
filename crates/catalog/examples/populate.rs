//! Fills a catalog for measurements: many finished backups in many projects, and instances that
//! wait for a first one. Prints what a client needs as JSON. No server may run meanwhile.
//!
//! `populate CATALOG_FILE KEY_FILE PROJECT PORT BACKUPS PROJECTS INSTANCES`

use std::error::Error;
use std::io::Write;
use std::sync::Arc;

use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use strongroom_catalog::{AuditEvent, Catalog};
use strongroom_core::engine::{EngineKind, TlsMode};
use strongroom_core::id::{InstanceId, LineageId, NodeId, ProjectId};
use strongroom_core::instance::{Instance, InstanceState};
use strongroom_core::text::InstanceName;
use strongroom_core::time::{Randomness, to_micros};
use strongroom_repository::RecoveryKey;

type Outcome<T> = Result<T, Box<dyn Error>>;

struct SystemRandomness;

impl Randomness for SystemRandomness {
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system gives random bytes");
    }
}

struct Wish {
    catalog_file: String,
    key_file: String,
    project: ProjectId,
    port: u16,
    backups: i64,
    projects: i64,
    instances: u32,
}

fn parse(mut words: impl Iterator<Item = String>) -> Outcome<Wish> {
    let mut next =
        || words.next().ok_or("populate CATALOG_FILE KEY_FILE PROJECT PORT BACKUPS PROJECTS INSTANCES");
    Ok(Wish {
        catalog_file: next()?,
        key_file: next()?,
        project: ProjectId::parse(&next()?)?,
        port: next()?.parse()?,
        backups: next()?.parse()?,
        projects: next()?.parse()?,
        instances: next()?.parse()?,
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let wish = parse(std::env::args().skip(1))?;
    #[expect(clippy::disallowed_methods, reason = "a program of its own, outside the product")]
    let now = Timestamp::now();
    let nodes = admit_instances(&wish, now).await?;
    let options = SqliteConnectOptions::new().filename(&wish.catalog_file).foreign_keys(true);
    let mut connection = options.connect().await?;
    insert_history(&mut connection, &wish, to_micros(now)).await?;
    connection.close().await?;
    let document = json!({"nodes": nodes, "job": format!("{:032x}", 0)});
    writeln!(std::io::stdout(), "{document}")?;
    Ok(())
}

/// Through the catalog itself: their passwords must open for the worker. Answers the node ids.
async fn admit_instances(wish: &Wish, now: Timestamp) -> Outcome<Vec<String>> {
    let random = Arc::new(SystemRandomness);
    let key = RecoveryKey::parse(&std::fs::read_to_string(&wish.key_file)?)?.catalog_key();
    let url = format!("sqlite://{}", wish.catalog_file);
    let catalog = Catalog::open(&url, key, Arc::<SystemRandomness>::clone(&random), now).await?;
    let mut nodes = Vec::new();
    for number in 0..wish.instances {
        let instance = Instance {
            id: InstanceId::issue(random.uuid(now), EngineKind::PostgreSql),
            node_id: NodeId::issue(random.uuid(now), EngineKind::PostgreSql),
            project_id: wish.project.clone(),
            name: InstanceName::parse(&format!("waiting-{number}"))?,
            engine: EngineKind::PostgreSql,
            version: "15.0".to_owned(),
            system_identifier: number.to_string(),
            state: InstanceState::Ready,
            host: "127.0.0.1".to_owned(),
            port: wish.port,
            user: "strongroom".to_owned(),
            tls: TlsMode::Disable,
            ca_pem: None,
            allow_md5: false,
            lineage_id: LineageId::issue(random.uuid(now)),
            created: now,
            updated: now,
        };
        let audit = AuditEvent {
            at: now,
            project_id: Some(wish.project.clone()),
            actor: "populate".to_owned(),
            action: "instance.add",
            object: instance.id.as_str().to_owned(),
            request_id: None,
            detail: json!({}),
        };
        catalog.instance_admit(&instance, &SecretString::from("none"), &audit).await?;
        nodes.push(instance.node_id.as_str().to_owned());
    }
    catalog.close().await;
    Ok(nodes)
}

/// Finished backups, spread over the projects in turn; project 0 is the one that is measured.
async fn insert_history(connection: &mut SqliteConnection, wish: &Wish, now: i64) -> Outcome<()> {
    let mut transaction = connection.begin().await?;
    sqlx::query("CREATE TEMP TABLE wish AS SELECT ?1 AS project, ?2 AS projects, ?3 AS backups, ?4 AS now")
        .bind(wish.project.as_str())
        .bind(wish.projects)
        .bind(wish.backups)
        .bind(now)
        .execute(&mut *transaction)
        .await?;
    for statement in HISTORY {
        sqlx::query(statement).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(())
}

const HISTORY: [&str; 5] = [
    "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n, wish WHERE i + 1 < projects)
     INSERT INTO projects (id, name, domain_id, domain_name, created)
     SELECT printf('%032x', i), 'project-' || i, 'populated', 'populated', now FROM n, wish WHERE i > 0",
    "INSERT INTO instances
         (id, node_id, project_id, name, engine, version, system_identifier, state, host, port, user_name,
          password_sealed, tls, allow_md5, lineage_id, created, updated)
     SELECT id || 'in03', id || 'no03', id, 'history', 'postgresql', '15.0', id, 'ready', '127.0.0.1', 1,
            'none', 'none', 'disable', 0, id, now, now
     FROM projects, wish WHERE domain_name = 'populated' OR id = project",
    "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n, wish WHERE i + 1 < backups)
     INSERT INTO jobs
         (id, project_id, kind, state, backup_id, instance_id, input, result, epoch, taken_over, leases_lost,
          attempts, run_at, created, started, finished, progress, cancel_asked)
     SELECT printf('%032x', i), owner, 'backup', 'succeeded', printf('%032xbr03', i), owner || 'in03', '{}', '{}',
            1, 0, 0, 1, at, at, at, at + 9000000,
            '{\"phase\":\"\",\"done_bytes\":0,\"total_bytes\":0,\"stored_bytes\":0}', 0
     FROM (SELECT i, now - (i + 1) * 60000000 AS at,
                  CASE i % projects WHEN 0 THEN project ELSE printf('%032x', i % projects) END AS owner
           FROM n, wish)",
    "INSERT INTO backups
         (id, project_id, instance_id, node_id, name, kind, state, engine, engine_version, lineage_id, job_id,
          created, finished, attempt_id, manifest_digest, source_bytes, stored_bytes, warnings)
     SELECT backup_id, project_id, instance_id, project_id || 'no03', 'backup-' || id, 'manual', 'completed',
            'postgresql', '15.0', project_id, id, created, finished,
            '00000000-0000-7000-8000-' || substr(id, 21, 12), id || id, 1073741824, 31457280, '[]'
     FROM jobs",
    "INSERT INTO quotas (project_id, manual_backups)
     SELECT project_id, count(*) FROM backups WHERE true GROUP BY project_id
     ON CONFLICT (project_id) DO UPDATE SET manual_backups = excluded.manual_backups",
];
