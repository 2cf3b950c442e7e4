//! Why the way to a source ended.

use strongroom_core::{Error, ErrorKind};

/// Each engine turns it into a failure of its own.
#[derive(Debug)]
pub enum Trouble {
    /// The connection broke, or nothing came any more: another one may do better.
    Lost(Error),
    /// The partner that [`Watch::with_partner`](crate::Watch::with_partner) named has failed; its failure
    /// is the one to tell.
    Abandoned,
    /// Trying again with the same source and the same wish changes nothing.
    Domain(Error),
}

pub type Result<T, E = Trouble> = std::result::Result<T, E>;

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Domain(error)
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Lost(error) | Trouble::Domain(error) => error,
            Trouble::Abandoned => Self::new(
                ErrorKind::SourceUnreachable,
                "The backup was given up because its other connection to the source failed.",
            ),
        }
    }
}
