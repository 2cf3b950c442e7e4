//! Every parser of foreign bytes, by name.
//!
//! The functions stand beside the parsers, in the modules `fuzzing` of their crates; here they are
//! put together for the fuzzer (`fuzz/`, run by `cargo xtask fuzz`) and for the test that feeds
//! them the inputs kept in `fixtures/fuzz`. For tests only.

pub use strongroom_core::fuzzing::{Seed, Target};

/// All targets; each crate's stand together.
pub fn targets() -> impl Iterator<Item = Target> {
    [
        strongroom_core::fuzzing::TARGETS,
        strongroom_repository::fuzzing::TARGETS,
        strongroom_restore::fuzzing::TARGETS,
        strongroom_engine_mysql::fuzzing::TARGETS,
        strongroom_engine_postgres::fuzzing::TARGETS,
        strongroom_service::fuzzing::TARGETS,
        strongroom_api::fuzzing::TARGETS,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// The kept inputs that are made: those that hold a digest, a seal or a length somewhere.
pub fn seeds() -> impl Iterator<Item = Seed> {
    [
        strongroom_repository::fuzzing::SEEDS,
        strongroom_restore::fuzzing::SEEDS,
        strongroom_engine_mysql::fuzzing::SEEDS,
        strongroom_engine_postgres::fuzzing::SEEDS,
        strongroom_service::fuzzing::SEEDS,
    ]
    .into_iter()
    .flatten()
    .copied()
}
