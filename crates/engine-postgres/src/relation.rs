//! Which files of a cluster consist of pages with checksums, told from their path.

/// Bytes of a page. Servers built with another size are refused.
pub(crate) const PAGE_SIZE_BYTES: usize = 8192;

/// A file that holds pages of a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RelationFile {
    /// Number of the segment, 0 for the first file of a relation.
    pub(crate) segment: u32,
}

impl RelationFile {
    /// Looks at a path relative to the data directory: `base/5/1259_fsm.1`, `global/1262`,
    /// `pg_tblspc/16384/PG_15_202209061/5/16390`.
    pub(crate) fn of_path(path: &[u8]) -> Option<Self> {
        let mut parts = path.split(|b| *b == b'/');
        let (root, rest): (_, Vec<_>) = (parts.next()?, parts.collect());
        let name = match (root, rest.as_slice()) {
            (b"global", [name]) => name,
            (b"base", [database, name]) if is_number(database) => name,
            (b"pg_tblspc", [tablespace, version, database, name])
                if is_number(tablespace) && version.starts_with(b"PG_") && is_number(database) =>
            {
                name
            }
            _ => return None,
        };
        Self::of_name(name)
    }

    /// `<digits>[_fsm|_vm|_init][.<segment>]`
    fn of_name(name: &[u8]) -> Option<Self> {
        let mut halves = name.splitn(2, |b| *b == b'.');
        let fork_name = halves.next()?;
        let segment = match halves.next() {
            None => 0,
            Some(digits) if is_number(digits) => std::str::from_utf8(digits).ok()?.parse().ok()?,
            Some(_) => return None,
        };
        let number = [&b"_fsm"[..], b"_vm", b"_init"]
            .into_iter()
            .find_map(|fork| fork_name.strip_suffix(fork))
            .unwrap_or(fork_name);
        is_number(number).then_some(Self { segment })
    }
}

fn is_number(text: &[u8]) -> bool {
    (1..=10).contains(&text.len()) && text.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::RelationFile;

    #[test]
    fn only_relation_files_have_pages() {
        for (path, segment) in [
            ("base/5/1259", 0),
            ("base/5/1259_fsm", 0),
            ("base/5/1259_vm.2", 2),
            ("base/5/16384_init", 0),
            ("global/1262.11", 11),
            ("pg_tblspc/16384/PG_15_202209061/5/16390.1", 1),
        ] {
            assert_eq!(RelationFile::of_path(path.as_bytes()), Some(RelationFile { segment }), "{path}");
        }
        for path in [
            "global/pg_control",
            "base/5/pg_filenode.map",
            "base/5/PG_VERSION",
            "pg_xact/0000",
            "pg_multixact/offsets/0000",
            "base/1259",
            "base/5/x/1259",
            "base/5/1259_fsm_vm",
            "base/5/1259.",
            "base/5/1259.1.2",
            "base/5/_fsm",
            "base/5/99999999999",
            "base/pgsql_tmp/1",
            "pg_tblspc/16384/PG_15_202209061/PG_VERSION",
            "backup_label",
        ] {
            assert_eq!(RelationFile::of_path(path.as_bytes()), None, "{path}");
        }
    }
}
