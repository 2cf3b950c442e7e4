//! The engines this program has. Adding one is one line where the executable builds this list.

use std::collections::BTreeMap;
use std::sync::Arc;

use strongroom_core::engine::{Engine, EngineKind};
use strongroom_core::{Error, ErrorKind, Result};

/// Engines by kind.
#[derive(Clone, Default)]
pub struct Engines {
    engines: BTreeMap<EngineKind, Arc<dyn Engine>>,
}

impl Engines {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn with(mut self, engine: Arc<dyn Engine>) -> Self {
        self.engines.insert(engine.kind(), engine);
        self
    }

    /// Those there are, for whoever asked for another one.
    fn known(&self) -> String {
        let names: Vec<String> = self.engines.keys().map(ToString::to_string).collect();
        format!("today: {}", names.join(", "))
    }

    pub fn get(&self, kind: EngineKind) -> Result<&Arc<dyn Engine>> {
        self.engines.get(&kind).ok_or_else(|| {
            Error::new(ErrorKind::EngineUnsupported, format!("This release has no engine for {kind} yet."))
                .with_hint(self.known())
        })
    }
}
