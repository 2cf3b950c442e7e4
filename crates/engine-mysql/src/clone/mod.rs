//! The clone protocol: what is asked of a donor, what it answers, in which order.
//!
//! Everything outside an InnoDB descriptor is little-endian, everything inside one big-endian.
//! Knows no sink and no member: what comes is handed to a [`Receiver`].

mod cursor;
mod descriptor;
mod donor;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod introduction;
mod message;
mod progress;
mod stages;
#[cfg(test)]
mod stages_tests;

pub(crate) use self::descriptor::{DataDescriptor, FileDescriptor, Phase, StateDescriptor};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::descriptor::{Descriptor, made};
pub(crate) use self::donor::{Donor, leave};
pub(crate) use self::introduction::Introduction;
#[cfg(feature = "fuzzing")]
pub(crate) use self::message::Response;
pub(crate) use self::stages::{Outcome, Receiver, Stages};
