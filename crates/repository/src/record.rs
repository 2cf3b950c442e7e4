//! Records: a chunk as stored. Raw, zstd, or a zstd delta against an earlier chunk's plaintext.
//!
//! Fill chunks (all bytes equal) are never stored; they exist in leaves only.

use zstd_safe::{CCtx, CParameter, DCtx, Strategy};

use crate::binary::{Cursor, Parsed, Put};

/// What stands before the payload, inside the encryption: a pack can be understood without a tree.
pub(crate) const INNER_HEADER_BYTES: usize = 16;
/// No base: the record is not a delta.
pub(crate) const NO_BASE: (u16, u16) = (u16::MAX, u16::MAX);

/// zstd level of full records where the queue to the store is not the limit.
pub(crate) const FULL_LEVEL: i32 = 1;
/// How deltas are found. What did not change lies at the same place in the base, so one hit in a
/// run of equal bytes finds all of it: the fast strategy takes half the time of level 3 and stores
/// 7 % more. Its table must reach over the base: three powers of two less, and the delta collapses.
const DELTA_SETTINGS: [CParameter; 5] = [
    CParameter::CompressionLevel(1),
    CParameter::Strategy(Strategy::ZSTD_fast),
    CParameter::WindowLog(18),
    CParameter::HashLog(16),
    CParameter::MinMatch(6),
];
/// Keep raw when compressing saves less than this share.
const SAVING_PERCENT_MIN: usize = 6;
/// A base that begins so would be taken for a trained dictionary; it is not used as one.
const ZSTD_DICTIONARY_MAGIC: [u8; 4] = 0xEC30_A437_u32.to_le_bytes();

/// Numbers are for ever. 0 is fill (leaves only); 4 (page overlay) and 5 (dictionary) are reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Encoding {
    Raw = 1,
    Zstd = 2,
    Delta = 3,
}

impl Encoding {
    pub(crate) fn parse(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Raw),
            2 => Some(Self::Zstd),
            3 => Some(Self::Delta),
            _ => None,
        }
    }
}

/// The 16 bytes at the front of each record's plaintext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InnerHeader {
    pub(crate) encoding: u8,
    pub(crate) plain_length: u32,
    pub(crate) id_prefix: [u8; 8],
    /// Index into the pack's base list and slot there; [`NO_BASE`] for records that are no delta.
    pub(crate) base: (u16, u16),
}

impl InnerHeader {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.push(self.encoding);
        out.put_u24(self.plain_length);
        out.extend_from_slice(&self.id_prefix);
        out.put_u16(self.base.0);
        out.put_u16(self.base.1);
    }

    pub(crate) fn parse(cursor: &mut Cursor<'_>) -> Parsed<Self> {
        Ok(Self {
            encoding: cursor.u8()?,
            plain_length: cursor.u24()?,
            id_prefix: cursor.array()?,
            base: (cursor.u16()?, cursor.u16()?),
        })
    }
}

/// The byte a chunk is filled with, when all its bytes are equal.
pub(crate) fn fill_byte(chunk: &[u8]) -> Option<u8> {
    let (&first, rest) = chunk.split_first()?;
    // Comparing the slice with itself, shifted by one, is a single fast memcmp.
    (rest == &chunk[..chunk.len() - 1]).then_some(first)
}

/// Compression contexts of one thread. They keep their tables, so that a chunk costs no allocation;
/// a thread that only reads never makes those for writing.
pub(crate) struct Codec {
    full_level: i32,
    full: Option<CCtx<'static>>,
    decompress: DCtx<'static>,
}

impl Codec {
    pub(crate) fn new(full_level: i32) -> Self {
        Self { full_level, full: None, decompress: DCtx::create() }
    }

    /// Compresses a chunk by itself; falls back to raw when that saves too little.
    pub(crate) fn encode_full(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Encoding {
        out.clear();
        out.reserve(zstd_safe::compress_bound(chunk.len()));
        let limit = chunk.len() - chunk.len() * SAVING_PERCENT_MIN / 100;
        let context =
            self.full.get_or_insert_with(|| context(&[CParameter::CompressionLevel(self.full_level)]));
        match context.compress2(out, chunk) {
            Ok(length) if length <= limit && !chunk.is_empty() => Encoding::Zstd,
            _ => {
                out.clear();
                out.extend_from_slice(chunk);
                Encoding::Raw
            }
        }
    }

    /// Compresses a chunk against `base`; `false` when that is not possible.
    pub(crate) fn encode_delta(chunk: &[u8], base: &[u8], out: &mut Vec<u8>) -> bool {
        if base.starts_with(&ZSTD_DICTIONARY_MAGIC) || base.len() < 8 {
            return false;
        }
        out.clear();
        out.reserve(zstd_safe::compress_bound(chunk.len()));
        // A context holds on to its base, so there is a new one each time; making it costs a tenth
        // of using it.
        let mut context = context(&DELTA_SETTINGS);
        context.ref_prefix(base).is_ok() && context.compress2(out, chunk).is_ok()
    }

    /// The plaintext of a payload, or `None` when it is not what `encoding` says.
    pub(crate) fn decode(
        &mut self,
        encoding: Encoding,
        payload: &[u8],
        base: Option<&[u8]>,
        plain_length: usize,
    ) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(plain_length);
        match (encoding, base) {
            (Encoding::Raw, _) => out.extend_from_slice(payload),
            (Encoding::Zstd, _) => {
                self.decompress.decompress(&mut out, payload).ok()?;
            }
            (Encoding::Delta, Some(base)) => {
                self.decompress.decompress_using_dict(&mut out, payload, base).ok()?;
            }
            (Encoding::Delta, None) => return None,
        }
        (out.len() == plain_length).then_some(out)
    }
}

/// The leaf knows the size and the id; a frame need not.
const BARE: [CParameter; 3] =
    [CParameter::ContentSizeFlag(false), CParameter::ChecksumFlag(false), CParameter::DictIdFlag(false)];

fn context<'a>(settings: &[CParameter]) -> CCtx<'a> {
    let mut context = CCtx::create();
    for setting in settings.iter().chain(&BARE) {
        context.set_parameter(*setting).expect("zstd knows these parameters");
    }
    context
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page_like(seed: u64) -> Vec<u8> {
        let mut state = seed | 1;
        (0..1 << 17)
            .map(|at: usize| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                if at.is_multiple_of(3) { (state >> 56) as u8 } else { (at / 64) as u8 }
            })
            .collect()
    }

    #[test]
    fn each_encoding_gives_the_chunk_back() {
        let mut codec = Codec::new(FULL_LEVEL);
        let base = page_like(1);
        let mut chunk = base.clone();
        chunk[70_000..70_100].fill(7);
        let mut full = Vec::new();
        let encoding = codec.encode_full(&chunk, &mut full);
        assert_eq!(codec.decode(encoding, &full, None, chunk.len()).unwrap(), chunk);
        let mut delta = Vec::new();
        assert!(Codec::encode_delta(&chunk, &base, &mut delta));
        assert!(delta.len() * 20 < full.len(), "delta {} full {}", delta.len(), full.len());
        assert_eq!(codec.decode(Encoding::Delta, &delta, Some(&base), chunk.len()).unwrap(), chunk);
        assert!(codec.decode(Encoding::Delta, &delta, Some(&base), chunk.len() - 1).is_none());
        assert!(codec.decode(Encoding::Delta, &delta, None, chunk.len()).is_none());
    }

    #[test]
    fn what_does_not_compress_stays_raw() {
        let mut codec = Codec::new(FULL_LEVEL);
        let mut state = 9_u64;
        let noise: Vec<u8> = (0..4096)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect();
        let mut out = Vec::new();
        assert_eq!(codec.encode_full(&noise, &mut out), Encoding::Raw);
        assert_eq!(out, noise);
    }

    #[test]
    fn a_base_that_looks_like_a_dictionary_is_not_used() {
        let mut base = page_like(1);
        base[..4].copy_from_slice(&ZSTD_DICTIONARY_MAGIC);
        assert!(!Codec::encode_delta(&page_like(1), &base, &mut Vec::new()));
    }

    #[test]
    fn fill_is_found() {
        assert_eq!(fill_byte(&[0; 8192]), Some(0));
        assert_eq!(fill_byte(&[5]), Some(5));
        assert_eq!(fill_byte(&[]), None);
        let mut almost = [0; 8192];
        almost[8191] = 1;
        assert_eq!(fill_byte(&almost), None);
    }

    /// Rows of 100 bytes with text that a compressor halves, as a table has them.
    fn table(length: usize) -> Vec<u8> {
        let (mut out, mut state) = (Vec::with_capacity(length + 100), 5_u64);
        while out.len() < length {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let (a, b, c) = (state.wrapping_mul(7), state.rotate_left(9) ^ 0x55, state.wrapping_mul(0x9E37));
            out.extend_from_slice(&[3, 0, 9, 24, 0, 0, 0, 0]);
            out.extend_from_slice(&(out.len() as u64).to_le_bytes());
            out.extend_from_slice(format!("{state:016x}{a:016x}{b:016x}{c:016x}").as_bytes());
            out.extend_from_slice(&[0; 20]);
        }
        out.truncate(length);
        out
    }

    /// A chunk of a table, and the same with a few changed rows.
    fn base_and_changed(length: usize) -> (Vec<u8>, Vec<u8>) {
        let base = table(length);
        let mut chunk = base.clone();
        for at in (700..length).step_by(11_000) {
            chunk[at..at + 40].iter_mut().for_each(|byte| *byte ^= 5);
        }
        (base, chunk)
    }

    /// Bytes of a delta of a few changed rows, and of the whole chunk, at a chunk size and level.
    fn delta_and_full(length: usize, level: i32) -> (usize, usize) {
        let (base, chunk) = base_and_changed(length);
        let (mut context, mut out) = (CCtx::create(), Vec::with_capacity(2 * length));
        let delta = context.compress_using_dict(&mut out, &chunk[..], &base, level).unwrap();
        out.clear();
        (delta, context.compress(&mut out, &chunk[..], FULL_LEVEL).unwrap())
    }

    #[test]
    fn f20_deltas_stay_small_at_our_chunk_size() {
        let (base, chunk) = base_and_changed(crate::CHUNK_SIZE_BYTES);
        let (mut delta, mut full) = (Vec::new(), Vec::new());
        assert!(Codec::encode_delta(&chunk, &base, &mut delta));
        Codec::new(FULL_LEVEL).encode_full(&chunk, &mut full);
        assert!(delta.len() * 50 < full.len(), "delta {} full {}", delta.len(), full.len());
    }

    /// Why chunks have 128 KiB and not 256 (repository.md section 2.3 of the design): one step up,
    /// the fast level's match table no longer reaches the base and the delta collapses. Whoever
    /// raises the chunk size or lowers the level falls off this cliff here, and not in production.
    #[test]
    fn f20_one_chunk_size_up_the_fast_level_collapses() {
        assert_eq!(crate::CHUNK_SIZE_BYTES, 128 << 10);
        let (here, full) = delta_and_full(crate::CHUNK_SIZE_BYTES, 1);
        assert!(here * 50 < full, "delta {here} full {full}");
        let (collapsed, full) = delta_and_full(2 * crate::CHUNK_SIZE_BYTES, 1);
        assert!(collapsed * 3 > full, "delta {collapsed} full {full}");
    }
}
