//! Who may log in to a restored cluster as its superuser. The name may be any, and asking for it
//! needs a login: so it is read from the pages of the shared catalogs themselves.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::relation::PAGE_SIZE_BYTES;

/// `pg_authid` and `pg_database`, as the file of mapped relations calls them.
pub(super) const ROLES: u32 = 1260;
pub(super) const DATABASES: u32 = 1262;

/// The role that a cluster is made with; it cannot be dropped.
const BOOTSTRAP_ROLE: u32 = 10;

/// As much of a catalog as is looked at.
const CATALOG_SIZE_BYTES_MAX: u64 = 16 << 20;
const MAP_SIZE_BYTES_MAX: u64 = 8 << 10;
const NAME_SIZE_BYTES: usize = 64;
const PAGE_HEADER_SIZE_BYTES: usize = 24;
const TUPLE_HEADER_SIZE_BYTES: usize = 23;

/// A row of a shared catalog that begins with an oid and a name. May be an old version of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    oid: u32,
    name: String,
    rest: Vec<u8>,
}

/// Names to try, the likeliest first.
pub(super) fn superusers(target: &Path) -> Vec<String> {
    let mut entries = entries(target, ROLES);
    // rolsuper, inherit, createrole, createdb, rolcanlogin.
    entries.retain(|entry| entry.rest.first() == Some(&1) && entry.rest.get(4) == Some(&1));
    entries.sort_by_key(|entry| entry.oid != BOOTSTRAP_ROLE);
    names(entries)
}

/// Names to try, those first that most clusters have.
pub(super) fn databases(target: &Path) -> Vec<String> {
    let usual = ["postgres", "template1"].map(str::to_owned);
    let others = names(entries(target, DATABASES)).into_iter().filter(|name| name != "template0");
    let others: Vec<_> = others.filter(|name| !usual.contains(name)).collect();
    usual.into_iter().chain(others).collect()
}

fn names(entries: Vec<Entry>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for entry in entries {
        if !names.contains(&entry.name) {
            names.push(entry.name);
        }
    }
    names
}

fn entries(target: &Path, relation: u32) -> Vec<Entry> {
    let global = target.join("global");
    let map = read(&global.join("pg_filenode.map"), MAP_SIZE_BYTES_MAX);
    let Some(file) = mapped_file(&map, relation) else { return Vec::new() };
    let pages = read(&global.join(file.to_string()), CATALOG_SIZE_BYTES_MAX);
    pages.chunks_exact(PAGE_SIZE_BYTES).flat_map(tuples).filter_map(entry).collect()
}

fn read(path: &Path, limit: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What cannot be read has no names.
    let _ = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    bytes
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A magic number, a count, then pairs of a relation and its file.
pub(super) fn mapped_file(map: &[u8], relation: u32) -> Option<u32> {
    let count = word(map, 4)?.min(62) as usize;
    let at = (0..count).map(|number| 8 + number * 8).find(|at| word(map, *at) == Some(relation))?;
    word(map, at + 4)
}

/// The data of the tuples that the line pointers of a page lead to.
pub(super) fn tuples(page: &[u8]) -> Vec<&[u8]> {
    const NORMAL: u32 = 1;
    let lower = usize::from(u16::from_le_bytes([page[12], page[13]])).min(page.len());
    let pointers = (PAGE_HEADER_SIZE_BYTES..lower.saturating_sub(3)).step_by(4);
    pointers
        .filter_map(|at| {
            let pointer = word(page, at)?;
            let (offset, length) = ((pointer & 0x7fff) as usize, (pointer >> 17) as usize);
            let tuple = page.get(offset..offset + length).filter(|_| (pointer >> 15) & 3 == NORMAL)?;
            tuple.get(usize::from(*tuple.get(TUPLE_HEADER_SIZE_BYTES - 1)?)..)
        })
        .collect()
}

pub(super) fn entry(data: &[u8]) -> Option<Entry> {
    let name = data.get(4..4 + NAME_SIZE_BYTES)?.split(|byte| *byte == 0).next()?;
    let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty())?;
    Some(Entry {
        oid: word(data, 0)?,
        name: name.to_owned(),
        rest: data[4 + NAME_SIZE_BYTES..].iter().take(16).copied().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(tuple_of: &[u8], pointer: u32) -> Vec<u8> {
        let mut page = vec![0; PAGE_SIZE_BYTES];
        page[12..14].copy_from_slice(&28_u16.to_le_bytes());
        page[24..28].copy_from_slice(&pointer.to_le_bytes());
        page[8000] = 0;
        page[8000 + 22] = 24;
        page[8024..8024 + tuple_of.len()].copy_from_slice(tuple_of);
        page
    }

    #[test]
    fn a_name_is_found_in_a_page_and_pages_that_lie_have_none() {
        let mut data = 10_u32.to_le_bytes().to_vec();
        data.extend(b"Chef");
        data.resize(4 + NAME_SIZE_BYTES, 0);
        data.extend([1, 1, 1, 1, 1]);
        let pointer = |offset: u32, length: u32, kind: u32| offset | kind << 15 | length << 17;
        let whole = page(&data, pointer(8000, 24 + data.len() as u32, 1));
        let found: Vec<_> = tuples(&whole).into_iter().filter_map(entry).collect();
        assert_eq!((found[0].oid, found[0].name.as_str(), found[0].rest[4]), (10, "Chef", 1));
        for bad in [pointer(8000, 90, 3), pointer(0x7fff, 0x7fff, 1), pointer(8000, 10, 1), u32::MAX] {
            assert_eq!(tuples(&page(&data, bad)).into_iter().filter_map(entry).count(), 0, "{bad:x}");
        }
        let mut endless = whole.clone();
        endless[12..14].copy_from_slice(&u16::MAX.to_le_bytes());
        let _ = tuples(&endless);
    }

    #[test]
    fn the_map_is_read_as_far_as_it_goes() {
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
        assert_eq!(mapped_file(&words(&[0x0059_2717, 2, 1262, 5, 1260, 7]), ROLES), Some(7));
        assert_eq!(mapped_file(&words(&[0x0059_2717, u32::MAX, 1262, 5]), ROLES), None);
        assert_eq!(mapped_file(&[], ROLES), None);
    }
}
