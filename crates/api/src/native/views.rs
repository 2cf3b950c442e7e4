//! From the domain to the native documents.

use std::time::Duration;

use jiff::Timestamp;
use strongroom_core::backup::{Backup, BackupState, Failure};
use strongroom_core::engine::{CheckLine, CheckState, Probe};
use strongroom_core::instance::{Instance, InstanceState};
use strongroom_core::job::JobStep;
use strongroom_core::verification::{Drill, Verification};
use strongroom_service::{JobDetail, RestoreFacts, TokenRow};

use super::wire::{
    BackupView, CheckLineView, CheckView, DrillCheckView, DrillView, FailureView, InstanceView, JobStepView,
    JobView, ProgressView, RestorePlanView, SCHEMA, TablespaceView, TokenView, VerificationView,
};

/// Backup states as both RDS dialects write them.
pub(crate) fn backup_status(state: BackupState) -> &'static str {
    match state {
        BackupState::Building => "BUILDING",
        BackupState::Completed => "COMPLETED",
        BackupState::Failed => "FAILED",
        BackupState::Deleting => "DELETING",
    }
}

fn instance_status(state: InstanceState) -> &'static str {
    match state {
        InstanceState::Registering => "BUILD",
        InstanceState::Ready => "ACTIVE",
        InstanceState::Unreachable | InstanceState::Retired => "FAILED",
    }
}

/// RFC 3339 in UTC, whole seconds.
pub(super) fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl From<&Instance> for InstanceView {
    fn from(instance: &Instance) -> Self {
        Self {
            schema: SCHEMA,
            id: instance.id.as_str().to_owned(),
            primary_node_id: instance.node_id.as_str().to_owned(),
            name: instance.name.as_str().to_owned(),
            engine: instance.engine.word().to_owned(),
            version: instance.version.clone(),
            status: instance_status(instance.state).to_owned(),
            host: instance.host.clone(),
            port: instance.port,
            user: instance.user.clone(),
            tls: instance.tls.word().to_owned(),
            created: moment(instance.created),
            updated: moment(instance.updated),
        }
    }
}

impl From<&CheckLine> for CheckLineView {
    fn from(line: &CheckLine) -> Self {
        let state = match line.state {
            CheckState::Ok => "ok",
            CheckState::Warning => "warning",
            CheckState::Missing => "missing",
        };
        Self {
            what: line.what.clone(),
            state: state.to_owned(),
            found: line.found.clone(),
            wanted: line.wanted.clone(),
            remedy: line.remedy.clone(),
            why: line.why.clone(),
        }
    }
}

impl From<&Probe> for CheckView {
    fn from(probe: &Probe) -> Self {
        Self { schema: SCHEMA, passed: probe.passed(), lines: probe.lines.iter().map(Into::into).collect() }
    }
}

fn verification(newest: Option<&Verification>) -> VerificationView {
    match newest {
        None => VerificationView {
            level: None,
            result: "not_run".to_owned(),
            at: None,
            findings: Vec::new(),
            drill: None,
        },
        Some(found) => VerificationView {
            level: Some(found.level.word().to_owned()),
            result: found.outcome.word().to_owned(),
            at: Some(moment(found.at)),
            findings: found.findings.clone(),
            drill: found.drill.as_ref().map(drill),
        },
    }
}

fn drill(drill: &Drill) -> DrillView {
    let seconds = |milliseconds: u64| Duration::from_millis(milliseconds).as_secs_f64();
    DrillView {
        server_version: drill.server_version.clone(),
        restored_bytes: drill.restored_bytes,
        restore_seconds: seconds(drill.restore_ms),
        start_seconds: seconds(drill.start_ms),
        check_seconds: seconds(drill.check_ms),
        databases: drill.databases,
        tables: drill.tables,
        rows: drill.rows,
        checks: drill
            .checks
            .iter()
            .map(|check| DrillCheckView {
                what: check.what.clone(),
                result: check.outcome.word().to_owned(),
                detail: check.detail.clone(),
            })
            .collect(),
    }
}

fn failure(failure: &Failure) -> FailureView {
    FailureView { code: failure.code.clone(), message: failure.message.clone(), hint: failure.hint.clone() }
}

impl From<&Backup> for BackupView {
    fn from(backup: &Backup) -> Self {
        Self {
            schema: SCHEMA,
            id: backup.id.as_str().to_owned(),
            name: backup.name.as_str().to_owned(),
            description: backup.description.as_ref().map(|text| text.as_str().to_owned()),
            instance_id: backup.instance_id.as_str().to_owned(),
            primary_node_id: backup.node_id.as_str().to_owned(),
            engine: backup.engine.word().to_owned(),
            engine_version: backup.engine_version.clone(),
            status: backup_status(backup.state).to_owned(),
            kind: backup.kind.word().to_owned(),
            created: moment(backup.created),
            finished: backup.finished.map(moment),
            source_bytes: backup.source_bytes.map(strongroom_core::size::ByteSize::bytes),
            stored_bytes: backup.stored_bytes.map(strongroom_core::size::ByteSize::bytes),
            verification: verification(backup.verification.as_ref()),
            job_id: backup.job_id.as_str().to_owned(),
            warnings: backup.warnings.clone(),
            failure: backup.failure.as_ref().map(failure),
        }
    }
}

fn step(step: &JobStep) -> JobStepView {
    JobStepView {
        attempt: step.attempt,
        name: step.name.clone(),
        at: moment(step.at),
        output: step.output.clone(),
    }
}

impl From<&JobDetail> for JobView {
    fn from(detail: &JobDetail) -> Self {
        let job = &detail.job;
        Self {
            schema: SCHEMA,
            id: job.id.as_str().to_owned(),
            kind: job.kind.word().to_owned(),
            state: job.state.word().to_owned(),
            backup_id: job.backup_id.as_ref().map(ToString::to_string),
            instance_id: job.instance_id.as_ref().map(ToString::to_string),
            attempts: job.attempts,
            created: moment(job.created),
            started: job.started.map(moment),
            finished: job.finished.map(moment),
            progress: ProgressView {
                phase: job.progress.phase.clone(),
                done_bytes: job.progress.done_bytes,
                total_bytes: job.progress.total_bytes,
                stored_bytes: job.progress.stored_bytes,
                rate_bytes_per_s: detail.rate_bytes_per_s,
                eta_s: detail.eta_s,
            },
            result: job.result.clone(),
            failure: job.failure.as_ref().map(failure),
            steps: detail.steps.iter().map(step).collect(),
        }
    }
}

impl From<&RestoreFacts> for RestorePlanView {
    fn from(plan: &RestoreFacts) -> Self {
        Self {
            schema: SCHEMA,
            backup_id: plan.backup.id.as_str().to_owned(),
            name: plan.backup.name.as_str().to_owned(),
            engine: plan.backup.engine.word().to_owned(),
            engine_version: plan.backup.engine_version.clone(),
            source_bytes: plan.source_bytes,
            facts: serde_json::to_value(&plan.facts).unwrap_or_default(),
            tablespaces: plan
                .tablespaces
                .iter()
                .map(|space| TablespaceView { id: space.id.clone(), source_path: space.source_path.clone() })
                .collect(),
            warnings: plan.backup.warnings.clone(),
            member_count: plan.members,
            manifest_digest: plan.manifest_digest.clone(),
        }
    }
}

/// A token's row; the token itself only where it was just made.
pub(crate) fn token(row: &TokenRow, token: Option<String>) -> TokenView {
    TokenView {
        schema: SCHEMA,
        id: row.id.clone(),
        name: row.name.clone(),
        role: row.role.word().to_owned(),
        created: moment(row.created),
        expires: row.expires.map(moment),
        token,
    }
}
