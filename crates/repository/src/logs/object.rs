//! One object of log: a range of a file, cut into pieces that are compressed and sealed each by
//! itself, so that neither writing nor reading holds more than a piece.
//!
//! The key depends on the object's name and on a salt that is drawn for it, the nonce is the number of
//! the piece; how many pieces there are and how long each is follows from the name.

use strongroom_core::{ErrorKind, Result};

use super::{SUITE, suite_and_salt};
use crate::aead::{SealingKey, TAG_BYTES};
use crate::binary::{Cursor, Put as _};
use crate::frame::{self, DIGEST_BYTES, HEADER_BYTES, Kind};
use crate::keys::{FIRST_KEY_EPOCH, LineageKeys};
use crate::record::{Codec, Encoding};
use crate::store::{Put, PutStream, Store};

/// Log in one piece; the last one of an object has less.
pub(super) const PIECE_BYTES: usize = 1 << 20;
/// Suite, key epoch, salt.
const FIELDS_BYTES: usize = 1 + 4 + 16;
/// The largest piece as stored, without its length: kept raw.
const SEALED_BYTES_MAX: usize = 1 + PIECE_BYTES + TAG_BYTES;
/// What is read from the store at once.
const READ_BYTES: usize = 4 << 20;

fn nonce(piece: u32) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(&piece.to_le_bytes());
    nonce
}

/// What came of writing an object.
pub(super) struct Written {
    pub(super) put: Put,
    /// Of the object.
    pub(super) size: u64,
    /// Of the log in it.
    pub(super) plain: [u8; 32],
}

/// An object on its way to the store.
pub(super) struct ObjectWriter<'a> {
    put: Box<dyn PutStream>,
    codec: &'a mut Codec,
    key: SealingKey,
    hasher: blake3::Hasher,
    plain: blake3::Hasher,
    size: u64,
    piece: u32,
    waiting: Vec<u8>,
    sealed: Vec<u8>,
}

impl<'a> ObjectWriter<'a> {
    pub(super) fn begin(
        store: &dyn Store,
        keys: &LineageKeys,
        salt: [u8; 16],
        name: &str,
        codec: &'a mut Codec,
    ) -> Result<Self> {
        let mut head = frame::header(Kind::Log);
        head.put_u16(u16::try_from(name.len()).expect("the layout makes no name of 64 KiB"));
        head.extend_from_slice(name.as_bytes());
        head.push(SUITE);
        head.put_u32(FIRST_KEY_EPOCH);
        head.extend_from_slice(&salt);
        let mut writer = Self {
            put: store.begin_put(name)?,
            codec,
            key: keys.log_key(name, &salt),
            hasher: blake3::Hasher::new(),
            plain: blake3::Hasher::new(),
            size: 0,
            piece: 0,
            waiting: Vec::new(),
            sealed: Vec::new(),
        };
        writer.append(&head)?;
        Ok(writer)
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.plain.update(bytes);
        while !bytes.is_empty() {
            let room = PIECE_BYTES - self.waiting.len();
            let (piece, rest) = bytes.split_at(bytes.len().min(room));
            self.waiting.extend_from_slice(piece);
            bytes = rest;
            if self.waiting.len() == PIECE_BYTES {
                self.seal()?;
            }
        }
        Ok(())
    }

    /// Durable when it returns.
    pub(super) fn finish(mut self) -> Result<Written> {
        if !self.waiting.is_empty() {
            self.seal()?;
        }
        let digest = *self.hasher.finalize().as_bytes();
        self.put.append(&digest)?;
        let size = self.size + DIGEST_BYTES as u64;
        Ok(Written { put: self.put.commit()?, size, plain: *self.plain.finalize().as_bytes() })
    }

    fn seal(&mut self) -> Result<()> {
        let mut payload = std::mem::take(&mut self.sealed);
        let encoding = self.codec.encode_full(&self.waiting, &mut payload);
        let mut sealed = Vec::with_capacity(payload.len() + 1 + TAG_BYTES);
        sealed.push(encoding as u8);
        sealed.extend_from_slice(&payload);
        self.sealed = payload;
        self.key.seal(nonce(self.piece), &[], &mut sealed);
        let mut piece = Vec::with_capacity(sealed.len() + 4);
        piece.put_u32(u32::try_from(sealed.len()).expect("a piece has a MiB"));
        piece.extend_from_slice(&sealed);
        self.waiting.clear();
        self.piece += 1;
        self.append(&piece)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.put.append(bytes)
    }
}

/// How closely an object is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Its digest, its frame and its shape.
    Digest,
    /// Every piece of it as well.
    Decode,
}

/// What came of going through an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walked {
    Whole,
    /// It was there once and is not any more, or never was.
    Gone,
}

/// Goes through an object from front to back; pieces are handed over in order, each after it was
/// found to be as it was written. `length` is what its name says.
pub(crate) fn walk(
    store: &dyn Store,
    keys: &LineageKeys,
    name: &str,
    length: u64,
    depth: Depth,
    take: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<Walked> {
    let Some(size) = store.head(name)? else { return Ok(Walked::Gone) };
    let mut source =
        Source { store, name, size, offset: 0, at: 0, window: Vec::new(), hasher: blake3::Hasher::new() };
    let head_bytes = HEADER_BYTES + 2 + name.len() + FIELDS_BYTES;
    let Some(head) = source.next(head_bytes)? else { return Ok(Walked::Gone) };
    let salt = match read_head(name, &head) {
        // Of another format, or only damaged where the format is told.
        Err(error) if error.kind() != ErrorKind::Damage => {
            return Err(if source.is_sound()? { error } else { source.digest_is_wrong() });
        }
        other => other?,
    };
    let (key, mut codec) = (keys.log_key(name, &salt), Codec::new(crate::record::FULL_LEVEL));
    let (mut left, mut piece) = (length, 0_u32);
    while left > 0 {
        let plain_length = usize::try_from(left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let Some(field) = source.next(4)? else { return Ok(Walked::Gone) };
        let stored = field.iter().rev().fold(0_usize, |value, byte| (value << 8) | usize::from(*byte));
        if !(1 + TAG_BYTES..=SEALED_BYTES_MAX).contains(&stored) {
            return Err(frame::damage(name, "a piece has an impossible length"));
        }
        let Some(mut sealed) = source.next(stored)? else { return Ok(Walked::Gone) };
        if depth == Depth::Decode {
            let plain = key
                .open(nonce(piece), &[], &mut sealed)
                .map_err(|_| frame::damage(name, &format!("its piece {piece} is not authentic")))?;
            let decoded = plain.split_first().and_then(|(encoding, payload)| {
                let encoding = Encoding::parse(*encoding).filter(|encoding| *encoding != Encoding::Delta)?;
                codec.decode(encoding, payload, None, plain_length)
            });
            take(
                &decoded
                    .ok_or_else(|| frame::damage(name, &format!("its piece {piece} cannot be decoded")))?,
            )?;
        }
        left -= plain_length as u64;
        piece = piece.checked_add(1).ok_or_else(|| frame::damage(name, "it has too many pieces"))?;
    }
    let digest = *source.hasher.finalize().as_bytes();
    let Some(stored) = source.next(DIGEST_BYTES)? else { return Ok(Walked::Gone) };
    if stored != digest {
        return Err(source.digest_is_wrong());
    }
    if source.taken() != size {
        return Err(frame::damage(name, "it has bytes left over"));
    }
    Ok(Walked::Whole)
}

fn read_head(name: &str, head: &[u8]) -> Result<[u8; 16]> {
    frame::check_header(name, Kind::Log, head)?;
    let mut fields = Cursor::new(&head[HEADER_BYTES..]);
    let inner =
        fields.u16().and_then(|length| fields.take(usize::from(length))).map_err(frame::malformed(name))?;
    if inner != name.as_bytes() {
        let inner = inner.escape_ascii();
        return Err(frame::damage(name, &format!("it is the object {inner} under another name")));
    }
    suite_and_salt(&mut fields).ok_or_else(|| frame::damage(name, "its suite is not known"))
}

/// An object that is read from front to back.
struct Source<'a> {
    store: &'a dyn Store,
    name: &'a str,
    size: u64,
    /// Where the window ends in the object.
    offset: u64,
    /// What of the window was taken.
    at: usize,
    window: Vec<u8>,
    hasher: blake3::Hasher,
}

impl Source<'_> {
    fn digest_is_wrong(&self) -> strongroom_core::Error {
        frame::damage(self.name, "its digest does not match its content")
    }

    /// Whether the digest is right, of what was not taken yet as well.
    fn is_sound(&mut self) -> Result<bool> {
        let mut left = self.size.saturating_sub(self.taken()).saturating_sub(DIGEST_BYTES as u64);
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(READ_BYTES).min(READ_BYTES);
            if self.next(length)?.is_none() {
                return Ok(false);
            }
            left -= length as u64;
        }
        let digest = *self.hasher.finalize().as_bytes();
        Ok(self.next(DIGEST_BYTES)?.is_some_and(|stored| stored == digest))
    }

    /// Bytes of the object that were taken.
    fn taken(&self) -> u64 {
        self.offset - (self.window.len() - self.at) as u64
    }

    /// The next bytes, counted into the digest; `None` when the object is gone.
    fn next(&mut self, length: usize) -> Result<Option<Vec<u8>>> {
        while self.window.len() - self.at < length {
            if self.offset >= self.size {
                return Err(frame::damage(self.name, "it ends early"));
            }
            let Some(more) = self.store.get_range(self.name, self.offset, READ_BYTES)? else {
                return Ok(None);
            };
            if more.is_empty() {
                return Err(frame::damage(self.name, "it ends early"));
            }
            self.offset += more.len() as u64;
            self.window.drain(..self.at);
            self.at = 0;
            self.window.extend_from_slice(&more);
        }
        let taken = self.window[self.at..self.at + length].to_vec();
        self.at += length;
        self.hasher.update(&taken);
        Ok(Some(taken))
    }
}
