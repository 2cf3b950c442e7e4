//! Lists of jobs by places, as dialects with offsets and counts want them.

use jiff::Timestamp;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, query};
use strongroom_core::Result;
use strongroom_core::engine::EngineKind;
use strongroom_core::id::{InstanceId, ProjectId};
use strongroom_core::job::{Job, JobKind, JobState};
use strongroom_core::time::to_micros;

use super::{job_columns, job_from_row};
use crate::Catalog;
use crate::fault::Fault;
use crate::row::{Columns, to_integer};
use crate::transaction::reading;

/// Which jobs; an absent field lets all through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobSliceFilter {
    pub instance: Option<InstanceId>,
    pub kind: Option<JobKind>,
    /// Of instances of this engine.
    pub engine: Option<EngineKind>,
    /// In one of these two states.
    pub states: Option<[JobState; 2]>,
    /// Inclusive bounds of the time of creation.
    pub created_from: Option<Timestamp>,
    pub created_until: Option<Timestamp>,
}

/// A part of a list by its place, and how long the whole list is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSlice {
    pub rows: Vec<Job>,
    pub total: u64,
}

macro_rules! wanted {
    () => {
        " FROM jobs WHERE project_id = $1 AND created >= $2 AND created <= $3
             AND ($4 IS NULL OR instance_id = $4) AND ($5 IS NULL OR kind = $5)
             AND ($6 IS NULL OR state = $6 OR state = $7)
             AND ($8 IS NULL OR instance_id IN (SELECT i.id FROM instances i WHERE i.engine = $8))"
    };
}

const SLICE: &str =
    concat!("SELECT ", job_columns!(), wanted!(), " ORDER BY created DESC, id DESC LIMIT $9 OFFSET $10");
const COUNT: &str = concat!("SELECT COUNT(*) AS jobs", wanted!());

impl JobSliceFilter {
    /// Whether a job passes, as the statement decides it; `engine` is that of its instance.
    pub fn admits(&self, job: &Job, engine: Option<EngineKind>) -> bool {
        self.instance.as_ref().is_none_or(|instance| job.instance_id.as_ref() == Some(instance))
            && self.kind.is_none_or(|kind| kind == job.kind)
            && self.engine.is_none_or(|wanted| engine == Some(wanted))
            && self.states.is_none_or(|states| states.contains(&job.state))
            && self.created_from.is_none_or(|from| from <= job.created)
            && self.created_until.is_none_or(|until| job.created <= until)
    }

    fn bind<'q>(&'q self, sql: &'static str, project: &'q ProjectId) -> Query<'q, Any, AnyArguments> {
        query(sql)
            .bind(project.as_str())
            .bind(self.created_from.map_or(i64::MIN, to_micros))
            .bind(self.created_until.map_or(i64::MAX, to_micros))
            .bind(self.instance.as_ref().map(InstanceId::as_str))
            .bind(self.kind.map(JobKind::word))
            .bind(self.states.map(|[one, _]| one.word()))
            .bind(self.states.map(|[_, other]| other.word()))
            .bind(self.engine.map(EngineKind::word))
    }
}

impl Catalog {
    /// Up to `limit` jobs of a project after the first `offset`, newest first, and how many there are.
    pub async fn job_slice(
        &self,
        project: &ProjectId,
        filter: &JobSliceFilter,
        offset: u64,
        limit: u32,
    ) -> Result<JobSlice> {
        let place = to_integer(offset)?;
        reading!(self, |tx| {
            let slice = filter.bind(SLICE, project).bind(i64::from(limit)).bind(place);
            let found: Vec<AnyRow> = slice.fetch_all(&mut **tx).await?;
            let rows = found.iter().map(job_from_row).collect::<Result<Vec<Job>, Fault>>()?;
            let counted = filter.bind(COUNT, project).fetch_one(&mut **tx).await?;
            Ok(JobSlice { rows, total: counted.unsigned("jobs")? })
        })
    }
}
