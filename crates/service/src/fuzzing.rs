//! What a server sends to a restore, as the fuzzer calls it.

/// Every target by its name.
pub const TARGETS: &[strongroom_core::fuzzing::Target] =
    &[("service-content-stream", crate::content::fuzzing::stream)];

/// Kept inputs that are made.
pub const SEEDS: &[strongroom_core::fuzzing::Seed] = &[
    ("service-content-stream", "error", crate::content::fuzzing::failed),
    ("service-content-stream", "whole", crate::content::fuzzing::whole),
];
