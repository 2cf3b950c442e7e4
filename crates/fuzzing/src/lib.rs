//! Every parser of foreign bytes, by name.
//!
//! The functions stand beside the parsers, in the modules `fuzzing` of their crates; here they are
//! put together for the fuzzer (`fuzz/`, run by `cargo xtask fuzz`) and for the test that feeds
//! them the inputs kept in `fixtures/fuzz`. For tests only.

pub use strongroom_core::fuzzing::Target;

/// All targets; each crate's stand together.
pub fn targets() -> impl Iterator<Item = Target> {
    [
        strongroom_core::fuzzing::TARGETS,
        strongroom_repository::fuzzing::TARGETS,
        strongroom_engine_postgres::fuzzing::TARGETS,
        strongroom_api::fuzzing::TARGETS,
    ]
    .into_iter()
    .flatten()
    .copied()
}
