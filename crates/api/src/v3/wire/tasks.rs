//! Lists of jobs.

use serde::Serialize;
use serde_json::json;
use strongroom_core::engine::EngineKind;
use strongroom_core::id::InstanceId;
use strongroom_core::text::Description;
use strongroom_core::{Error, Result};
use strongroom_service::JobRow;
use utoipa::ToSchema;

use crate::rds::instance_status;
use crate::rds::jobs::{JobInstance, JobView, view};

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListedJobs {
    pub(crate) total_count: u64,
    /// The names of the tasks of this page
    pub(crate) actions: Vec<String>,
    pub(crate) tasks: Vec<ListedJob>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListedJob {
    id: String,
    pub(crate) name: String,
    instance_id: String,
    instance_name: String,
    instance_status: String,
    order_id: String,
    process: String,
    fail_reason: String,
    create_time: String,
    end_time: String,
    status: String,
}

fn seen(row: &JobRow) -> JobView {
    let engine = row.instance.as_ref().map_or(EngineKind::PostgreSql, |instance| instance.engine);
    let id = row.detail.job.instance_id.as_ref().map_or("", |id| id.as_str()).to_owned();
    let name = row.instance.as_ref().map_or("", |instance| instance.name.as_str()).to_owned();
    view(&row.detail, engine, JobInstance { id, name })
}

impl From<&JobRow> for ListedJob {
    fn from(row: &JobRow) -> Self {
        let job = seen(row);
        let status = row.instance.as_ref().map_or("", |instance| instance_status(instance.state));
        Self {
            id: job.id,
            name: job.name,
            instance_id: job.instance.id,
            instance_name: job.instance.name,
            instance_status: status.to_owned(),
            order_id: String::new(),
            process: job.process,
            fail_reason: job.fail_reason.unwrap_or_default(),
            create_time: job.created,
            end_time: job.ended,
            status: job.status,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ScheduledJobs {
    pub(crate) schedule_tasks: Vec<String>,
    pub(crate) total_count: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InstanceJobs {
    /// The newest ones
    pub(crate) jobs: Vec<ExplainedJob>,
    /// All of them
    pub(crate) count: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExplainedJob {
    #[serde(flatten)]
    job: JobView,
    /// What was asked for, as JSON in a text
    task_detail: String,
}

impl ExplainedJob {
    pub(crate) fn new(row: &JobRow) -> Result<Self> {
        let backup = row.backup.as_ref();
        let detail = json!({
            "instanceId": row.detail.job.instance_id.as_ref().map(InstanceId::as_str),
            "name": backup.map(|backup| backup.name.as_str()),
            "description": backup.and_then(|backup| backup.description.as_ref()).map(Description::as_str),
            "dbNames": [],
        });
        let task_detail = serde_json::to_string(&detail).map_err(Error::internal)?;
        Ok(Self { job: seen(row), task_detail })
    }
}
