//! A backup as one file: a tar of the finished data directory, of zstd frames (`<id>.tar.zst`).
//!
//! Nothing is stored for it. The archive is a function of the sealed manifest and of what the engine
//! adds, frame by frame: what is stored compressed goes out as it is, what is not goes out as it is
//! too, and so every length is known before a byte is read. A range is made again from the frame it
//! begins in. `docs/decisions/0038-a-download-is-a-function-of-the-manifest.md` tells why.
//!
//! ```text
//! own: data directory, empty directories, what finishing wrote │ member │ member │ … │ end
//! member: header │ chunk │ chunk │ … │ padding
//! ```

mod layout;
mod tar;
mod tree;
mod write;
mod xxh64;
mod zstd;

pub(crate) use layout::Layout;

/// Where tablespaces lie, below the data directory: where else that is on the other machine nobody
/// knows yet.
const TABLESPACES: &str = "strongroom-tablespaces";
/// What a person should know about the files.
const NOTES: &str = "strongroom-notes.txt";
