//! Instances: the source databases somebody registered, their passwords sealed.

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use sqlx::any::AnyRow;
use sqlx::{query, query_scalar};
use strongroom_core::backup::InstanceRef;
use strongroom_core::engine::{EngineKind, TlsMode};
use strongroom_core::id::{InstanceId, LineageId, NodeId, ProjectId};
use strongroom_core::instance::{Instance, InstanceState};
use strongroom_core::text::InstanceName;
use strongroom_core::time::to_micros;
use strongroom_core::{Error, ErrorKind, Result};

use crate::audit::AuditEvent;
use crate::dialect::{Spelled, select_for_update};
use crate::fault::{Fault, damaged};
use crate::identity::project_id;
use crate::row::Columns;
use crate::transaction::{asking, writing};
use crate::{Catalog, Inner, Tx, logs, policy, tag};

macro_rules! select_instance {
    ($($rest:literal),+) => {
        concat!(
            "SELECT id, node_id, project_id, name, engine, version, system_identifier, state, host, port,
                 user_name, tls, ca_pem, allow_md5, lineage_id, created, updated FROM instances ",
            $($rest),+
        )
    };
}

/// Holds the instance still: neither retired nor admitted to by anybody else meanwhile.
const LOCK: Spelled = select_for_update!("SELECT state FROM instances WHERE id = $1 AND project_id = $2");

impl Catalog {
    /// Stores an instance; `InstanceNameTaken` when one that is not retired has the name.
    pub async fn instance_admit(
        &self,
        instance: &Instance,
        password: &SecretString,
        audit: &AuditEvent,
    ) -> Result<()> {
        let inner = &self.inner;
        let place = password_place(&instance.id);
        let sealed = inner.sealer.seal(&place, password.expose_secret(), inner.random.as_ref())?;
        writing!(self, |tx| {
            insert_in_tx(tx, instance, &sealed).await?;
            tx.note(audit)
        })
    }

    /// The instances of a project that are not retired, oldest first.
    pub async fn instance_list(&self, project: &ProjectId) -> Result<Vec<Instance>> {
        asking!(self, |tx| {
            let select =
                select_instance!("WHERE project_id = $1 AND state <> 'retired' ORDER BY created, id");
            let rows = query(select).bind(project.as_str()).fetch_all(&mut **tx).await?;
            rows.iter().map(instance_from_row).collect()
        })
    }

    /// Looks a reference up among the instances that are not retired: every reference by id or
    /// node id, [`InstanceRef::Any`] by name too.
    pub async fn instance_find(&self, project: &ProjectId, wanted: &InstanceRef) -> Result<Option<Instance>> {
        let by_name = match wanted {
            InstanceRef::Any(name) => Some(name.as_str()),
            InstanceRef::PrimaryNode(_) | InstanceRef::Instance(_) => None,
        };
        asking!(self, |tx| {
            // An id wins over an equal name. Each way has its index: asked in one condition, all
            // instances of the project would be looked at.
            let select = select_instance!(
                "WHERE id IN (
                     SELECT id FROM instances WHERE id = $2 AND project_id = $1 AND state <> 'retired'
                     UNION ALL
                     SELECT id FROM instances WHERE node_id = $2 AND project_id = $1 AND state <> 'retired'
                     UNION ALL
                     SELECT id FROM instances WHERE project_id = $1 AND name = $3 AND state <> 'retired')
                 ORDER BY CASE WHEN name = $3 THEN 1 ELSE 0 END, id LIMIT 1"
            );
            let found = query(select).bind(project.as_str()).bind(wanted.text()).bind(by_name);
            found.fetch_optional(&mut **tx).await?.as_ref().map(instance_from_row).transpose()
        })
    }

    /// As [`Catalog::instance_find`] by id or node id, retired ones too: their backups are still
    /// asked for.
    pub async fn instance_find_any(&self, project: &ProjectId, id: &str) -> Result<Option<Instance>> {
        asking!(self, |tx| {
            let select = select_instance!(
                "WHERE id IN (SELECT id FROM instances WHERE id = $2 AND project_id = $1
                              UNION ALL
                              SELECT id FROM instances WHERE node_id = $2 AND project_id = $1)"
            );
            let found = query(select).bind(project.as_str()).bind(id).fetch_optional(&mut **tx).await?;
            found.as_ref().map(instance_from_row).transpose()
        })
    }

    /// For workers, whose job names the instance.
    pub async fn instance_by_id(&self, id: &InstanceId) -> Result<Option<Instance>> {
        asking!(self, |tx| {
            let select = select_instance!("WHERE id = $1");
            let found = query(select).bind(id.as_str()).fetch_optional(&mut **tx).await?;
            found.as_ref().map(instance_from_row).transpose()
        })
    }

    /// The password of an instance that is not retired, opened.
    pub async fn instance_password(&self, id: &InstanceId) -> Result<SecretString> {
        asking!(self, |tx| {
            let select = "SELECT password_sealed FROM instances WHERE id = $1 AND state <> 'retired'";
            let sealed: Option<String> =
                query_scalar(select).bind(id.as_str()).fetch_optional(&mut **tx).await?;
            let sealed = sealed.ok_or_else(not_found)?;
            Ok(self.inner.sealer.open(&password_place(id), &sealed)?)
        })
    }

    /// What a check found. A retired instance stays retired.
    pub async fn instance_observe(
        &self,
        id: &InstanceId,
        state: InstanceState,
        version: &str,
        now: Timestamp,
    ) -> Result<()> {
        if state == InstanceState::Retired {
            return Err(Error::internal("an instance is retired by instance_retire only"));
        }
        writing!(self, |tx| {
            query(
                "UPDATE instances SET state = $2, version = $3, updated = $4
                 WHERE id = $1 AND state <> 'retired'",
            )
            .bind(id.as_str())
            .bind(state.word())
            .bind(version)
            .bind(to_micros(now))
            .execute(&mut **tx)
            .await?;
            Ok(())
        })
    }

    /// Takes the instance out of the lists and frees its name; `InstanceBusy` while a job of it
    /// has not ended. The sealed password is forgotten with it.
    pub async fn instance_retire(
        &self,
        project: &ProjectId,
        id: &InstanceId,
        audit: &AuditEvent,
        now: Timestamp,
    ) -> Result<()> {
        writing!(self, |tx| {
            require_live_in_tx(tx, &self.inner, project, id).await?;
            let busy = "SELECT COUNT(*) FROM jobs WHERE instance_id = $1 AND finished IS NULL";
            let jobs: i64 = query_scalar(busy).bind(id.as_str()).fetch_one(&mut **tx).await?;
            if jobs > 0 {
                return Err(Error::new(
                    ErrorKind::InstanceBusy,
                    "A job of this instance has not ended; nothing was changed.",
                )
                .with_hint("Wait for its end, or cancel it.")
                .into());
            }
            tag::end_in_tx(tx, id).await?;
            policy::end_in_tx(tx, id).await?;
            logs::end_in_tx(tx, id, now).await?;
            query("UPDATE instances SET state = 'retired', password_sealed = '', updated = $2 WHERE id = $1")
                .bind(id.as_str())
                .bind(to_micros(now))
                .execute(&mut **tx)
                .await?;
            tx.note(audit)
        })
    }
}

/// Locks an instance that must be there and not retired.
pub(crate) async fn require_live_in_tx(
    tx: &mut Tx,
    inner: &Inner,
    project: &ProjectId,
    id: &InstanceId,
) -> Result<(), Fault> {
    let lock = inner.dialect.spell(LOCK);
    let found = query(lock).bind(id.as_str()).bind(project.as_str()).fetch_optional(&mut **tx).await?;
    live(found.as_ref())?;
    Ok(())
}

/// A row with the state of an instance, which must be there and not retired.
pub(crate) fn live(found: Option<&AnyRow>) -> Result<&AnyRow, Fault> {
    match found {
        Some(row) if row.text("state")? != "retired" => Ok(row),
        _ => Err(not_found().into()),
    }
}

fn not_found() -> Error {
    Error::new(ErrorKind::InstanceNotFound, "There is no such instance in the project.")
}

/// Where a password stands, for sealing.
fn password_place(id: &InstanceId) -> String {
    format!("instance password {id}")
}

async fn insert_in_tx(tx: &mut Tx, instance: &Instance, password_sealed: &str) -> Result<(), Fault> {
    query(
        "INSERT INTO instances
             (id, node_id, project_id, name, engine, version, system_identifier, state, host, port,
              user_name, password_sealed, tls, ca_pem, allow_md5, lineage_id, created, updated)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
    )
    .bind(instance.id.as_str())
    .bind(instance.node_id.as_str())
    .bind(instance.project_id.as_str())
    .bind(instance.name.as_str())
    .bind(instance.engine.word())
    .bind(instance.version.as_str())
    .bind(instance.system_identifier.as_str())
    .bind(instance.state.word())
    .bind(instance.host.as_str())
    .bind(i64::from(instance.port))
    .bind(instance.user.as_str())
    .bind(password_sealed)
    .bind(instance.tls.word())
    .bind(instance.ca_pem.as_deref())
    .bind(i64::from(instance.allow_md5))
    .bind(instance.lineage_id.as_str())
    .bind(to_micros(instance.created))
    .bind(to_micros(instance.updated))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn instance_from_row(row: &AnyRow) -> Result<Instance, Fault> {
    let port = row.integer("port")?;
    Ok(Instance {
        id: InstanceId::from_stored(row.text("id")?),
        node_id: NodeId::from_stored(row.text("node_id")?),
        project_id: project_id(row, "project_id")?,
        name: InstanceName::from_stored(row.text("name")?),
        engine: row.word("engine", |word| EngineKind::parse(word).ok())?,
        version: row.text("version")?,
        system_identifier: row.text("system_identifier")?,
        state: row.word("state", InstanceState::from_word)?,
        host: row.text("host")?,
        port: u16::try_from(port).map_err(|_| damaged("port", &port.to_string()))?,
        user: row.text("user_name")?,
        tls: row.word("tls", |word| TlsMode::parse(word).ok())?,
        ca_pem: row.maybe_text("ca_pem")?,
        allow_md5: row.flag("allow_md5")?,
        lineage_id: LineageId::from_stored(row.text("lineage_id")?),
        created: row.time("created")?,
        updated: row.time("updated")?,
    })
}
