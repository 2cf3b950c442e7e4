//! What a restore finds in its target, as the fuzzer calls it.

/// Every target by its name.
pub const TARGETS: &[strongroom_core::fuzzing::Target] =
    &[("restore-journal", crate::journal::fuzzing::journal)];

/// Kept inputs that are made.
pub const SEEDS: &[strongroom_core::fuzzing::Seed] = &[
    ("restore-journal", "begun", crate::journal::fuzzing::begun),
    ("restore-journal", "unproven", crate::journal::fuzzing::unproven),
];
