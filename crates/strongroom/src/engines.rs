//! The engines of this program. A new one is one line here.

use std::sync::Arc;

use strongroom_engine_mysql::MySqlEngine;
use strongroom_engine_postgres::PostgresEngine;
use strongroom_service::Engines;

use crate::ports::SystemRandomness;

pub(crate) fn engines() -> Engines {
    Engines::new()
        .with(Arc::new(MySqlEngine::new(Arc::new(SystemRandomness))))
        .with(Arc::new(PostgresEngine::new(Arc::new(SystemRandomness))))
}
