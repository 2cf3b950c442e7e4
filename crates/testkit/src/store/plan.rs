//! The words of a plan: which call is hit, and what happens to it.

use strongroom_core::ErrorKind;

/// A call of the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    PutNew,
    BeginPut,
    Append,
    Commit,
    Get,
    GetRange,
    Head,
    List,
    Delete,
}

impl Operation {
    /// What can happen to a call of this operation beside failing.
    pub fn lies(self) -> &'static [Lie] {
        match self {
            Self::PutNew | Self::Commit => &[Lie::Torn, Lie::Truncated, Lie::Lost, Lie::Taken, Lie::Others],
            Self::Get | Self::GetRange => &[Lie::Short, Lie::Flipped, Lie::Zeroed, Lie::Sibling, Lie::Absent],
            Self::Head => &[Lie::Short, Lie::Absent],
            Self::List => &[Lie::Blind],
            Self::Delete => &[Lie::Lost],
            Self::BeginPut | Self::Append => &[],
        }
    }

    /// Whether it changes what is stored.
    pub fn is_write(self) -> bool {
        matches!(self, Self::PutNew | Self::BeginPut | Self::Append | Self::Commit | Self::Delete)
    }
}

/// Which call is hit, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The n-th call, counted from 1.
    Call(usize),
    /// The first call of this operation on a key that holds this text.
    On(Operation, &'static str),
    /// As `On`, the n-th one, counted from 1.
    Nth(usize, Operation, &'static str),
    /// The n-th call of this operation on an object of this kind (see [`kind_of`]).
    NthOfKind(usize, Operation, &'static str),
}

/// What happens to the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The process ends: no call of it has an effect any more.
    Die,
    /// This one call fails as unavailable.
    Fail,
    /// This one call fails with this kind.
    FailAs(ErrorKind),
    /// The calling thread stands still until it is released.
    Freeze,
    /// The call takes a while and is right.
    Slow,
    /// The call does or says something else than the truth.
    Lie(Lie),
}

/// How a store lies. What does not fit a call lets it pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// A put that fails, and leaves the first half of the object under its name.
    Torn,
    /// As `Torn`, and the answer is that all of it was stored.
    Truncated,
    /// Nothing is stored, or taken away, and the answer is that it was.
    Lost,
    /// Nothing is stored, and the answer is that the name is taken.
    Taken,
    /// Another content of the same length is stored, and the answer is that ours was.
    Others,
    /// A read that ends early.
    Short,
    /// A read with one wrong bit in its middle.
    Flipped,
    /// A read of zeroes.
    Zeroed,
    /// A read of another object of the same folder: old content, or the wrong object.
    Sibling,
    /// An object that is there is said not to be.
    Absent,
    /// A listing without the object that sorts last.
    Blind,
}

/// On which side of the call's effect it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// The call has no effect.
    Before,
    /// The call took effect, and its answer is lost.
    After,
}

/// One thing that goes wrong, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    pub when: When,
    pub what: What,
    pub edge: Edge,
}

/// A call that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub operation: Operation,
    pub key: String,
}

/// The kind of object that a key or a prefix speaks of.
pub fn kind_of(key: &str) -> &'static str {
    const FOLDERS: [(&str, &str); 6] = [
        ("/pk/", "pack"),
        ("/at/", "verdict"),
        ("/in/", "intent"),
        ("/tb/", "tombstone"),
        ("/hold/", "hold"),
        ("/lg/", "log"),
    ];
    if key.starts_with("keys/") {
        return "key";
    }
    match FOLDERS.into_iter().find(|(folder, _)| key.contains(folder)) {
        Some((_, kind)) => kind,
        None if key.starts_with("l/") => "lineage",
        None => "document",
    }
}
