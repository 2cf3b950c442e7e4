//! A store under the real port that fails, freezes, dies or lies on a plan, and keeps book of every
//! call: the one judge of "what if the store …" for the repository, the service and its worker.

mod faulty;
mod gate;
mod plan;
mod put;
mod seals;

pub use faulty::FaultyStore;
pub use gate::Gate;
pub use plan::{Call, Edge, Fault, Lie, Operation, What, When, kind_of};
pub use seals::Seals;
