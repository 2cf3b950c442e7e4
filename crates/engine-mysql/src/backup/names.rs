//! Where a file of the donor stands in a backup.
//!
//! A name is a stranger's text. Only names that InnoDB gives its files are taken: no file that a server
//! would read as its configuration, its plugins or its identity comes in through here.

use strongroom_core::foreign_text::for_people;
use strongroom_core::member::MemberPath;

use crate::clone::FileDescriptor;
use crate::fault::{Fault, Result};

/// One component of a path; the limit of every file system.
const COMPONENT_BYTES_MAX: usize = 255;
/// Of a tablespace's flags: it may hold many tables.
const SHARED: u32 = 1 << 11;
/// The one file that is none of InnoDB's pages.
const BUFFER_POOL: &[u8] = b"ib_buffer_pool";

/// Where a file goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) path: MemberPath,
    /// It stood outside the data directory.
    pub(crate) is_outside: bool,
    /// A general tablespace.
    pub(crate) is_shared: bool,
}

/// Names of the files of the system tablespace, from `innodb_data_file_path`.
pub(crate) fn system_files(setting: &str) -> Vec<Vec<u8>> {
    let name =
        |part: &str| part.split(':').next().and_then(|path| path.rsplit('/').next()).map(str::to_owned);
    setting.split(';').filter_map(name).filter(|name| !name.is_empty()).map(String::into_bytes).collect()
}

pub(crate) fn place(file: &FileDescriptor<'_>, system_files: &[Vec<u8>]) -> Result<Placement> {
    if !file.is_tablespace() {
        return inside(&[BUFFER_POOL]);
    }
    let refuse = || hostile_name(file.name);
    let is_outside = file.name.first() == Some(&b'/');
    let name = file.name.strip_prefix(b"./").or_else(|| file.name.strip_prefix(b"/")).unwrap_or(file.name);
    let parts: Vec<&[u8]> = name.split(|byte| *byte == b'/').collect();
    let is_plain = |part: &&[u8]| {
        !part.is_empty()
            && *part != b"."
            && *part != b".."
            && part.len() <= COMPONENT_BYTES_MAX
            && !part.iter().any(|byte| byte.is_ascii_control() || *byte == b'\\')
    };
    if !parts.iter().all(is_plain) {
        return Err(refuse());
    }
    let is_shared = file.space_flags & SHARED != 0;
    let placement = match parts.as_slice() {
        // The server finds a moved file by the id in its first page.
        [.., last] if is_outside && is_shared && is_table_file(last) => inside(&[*last])?,
        [.., schema, last]
            if is_table_file(last) && is_schema(schema) && (is_outside || parts.len() == 2) =>
        {
            inside(&[*schema, *last])?
        }
        [only] if !is_outside && is_top_level(only, system_files) => inside(&[*only])?,
        _ => return Err(refuse()),
    };
    Ok(Placement { is_outside, is_shared, ..placement })
}

/// The file of a redo log by its number.
pub(crate) fn redo(index: u32) -> Result<MemberPath> {
    Ok(MemberPath::parse(format!("data/#innodb_redo/#ib_redo{index}").as_bytes())?)
}

/// A name that no server gives a file, for the time in which names are exchanged.
pub(crate) fn between(index: u32) -> Result<MemberPath> {
    Ok(MemberPath::parse(format!("data/#strongroom_renamed_{index}.ibd").as_bytes())?)
}

/// Another name for a general tablespace from outside when there is one of its name already.
pub(crate) fn beside(placement: &Placement, space_id: u32) -> Result<MemberPath> {
    let path = placement.path.as_bytes();
    let stem = path.strip_suffix(b".ibd").unwrap_or(path);
    Ok(MemberPath::parse(&[stem, format!("_{space_id}.ibd").as_bytes()].concat())?)
}

/// As a person knows the file: below the data directory, unprintable bytes escaped.
pub(crate) fn shown(path: &MemberPath) -> String {
    path.below_root().escape_ascii().to_string()
}

fn inside(parts: &[&[u8]]) -> Result<Placement> {
    let path = [&[&b"data"[..]][..], parts].concat().join(&b'/');
    Ok(Placement { path: MemberPath::parse(&path)?, is_outside: false, is_shared: false })
}

fn is_table_file(name: &[u8]) -> bool {
    name.len() > 4 && name.ends_with(b".ibd")
}

/// Folders of the server itself begin with `#`; none holds tablespaces that a clone sends.
fn is_schema(name: &[u8]) -> bool {
    name.first() != Some(&b'#')
}

fn is_top_level(name: &[u8], system_files: &[Vec<u8>]) -> bool {
    let is_implicit_undo = name
        .strip_prefix(b"undo_")
        .is_some_and(|rest| !rest.is_empty() && rest.iter().all(u8::is_ascii_digit));
    let is_undo = is_implicit_undo || (name.len() > 4 && name.ends_with(b".ibu"));
    (is_table_file(name) && is_schema(name)) || is_undo || system_files.iter().any(|known| known == name)
}

fn hostile_name(name: &[u8]) -> Fault {
    let shown = for_people(name.escape_ascii().to_string().as_bytes());
    Fault::hostile(format!("a file called {shown}; nothing was written outside the backup"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clone::Phase;
    use crate::clone::made;

    fn placed(name: &str, space_flags: u32) -> Result<Placement> {
        let bytes = made::file(made::File {
            phase: Phase::File,
            size: 1,
            space_flags,
            flags: 0,
            space_id: 7,
            index: 0,
            chunks: (1, 1),
            name,
        });
        let crate::clone::Descriptor::File(file) = crate::clone::Descriptor::parse(&bytes)? else {
            panic!("no file")
        };
        place(&file, &system_files("ibdata1:12M;/other/place/sys2.dat:50M:autoextend"))
    }

    #[test]
    fn files_go_where_a_server_looks_for_them() {
        for (name, flags, path) in [
            ("./shop/orders.ibd", 0x4021, "data/shop/orders.ibd"),
            ("shop/orders#p#p0.ibd", 0x4021, "data/shop/orders#p#p0.ibd"),
            ("mysql.ibd", 0x4800, "data/mysql.ibd"),
            ("./general.ibd", 0x4800, "data/general.ibd"),
            ("ibdata1", 0x4800, "data/ibdata1"),
            ("sys2.dat", 0x4800, "data/sys2.dat"),
            ("undo_002", 0, "data/undo_002"),
            ("./more.ibu", 0, "data/more.ibu"),
            ("/mnt/fast/shop/orders.ibd", 0x4021, "data/shop/orders.ibd"),
            ("/mnt/fast/general.ibd", 0x4800, "data/general.ibd"),
            ("whatever", u32::MAX, "data/ib_buffer_pool"),
        ] {
            let placement = placed(name, flags).unwrap();
            assert_eq!(placement.path.as_bytes(), path.as_bytes());
            assert_eq!(placement.is_outside, name.starts_with('/'));
        }
        let shared = placed("/a/general.ibd", 0x4800).unwrap();
        assert_eq!(beside(&shared, 9).unwrap().as_bytes(), b"data/general_9.ibd");
    }

    #[test]
    fn h01_names_that_innodb_gives_no_file_are_refused() {
        for name in [
            "",
            "/",
            "..",
            "../x.ibd",
            "./../x.ibd",
            "a/../../x.ibd",
            "/a/../b/x.ibd",
            "a//x.ibd",
            "./a/b/x.ibd",
            ".ibd",
            "a/.ibd",
            "auto.cnf",
            "mysqld.my",
            "mysqld-auto.cnf",
            "my.cnf",
            "ca.pem",
            "binlog.index",
            "mysql/user.MYD",
            "#innodb_redo/x.ibd",
            "#clone/x.ibd",
            "a\\b.ibd",
            "a/\u{1}.ibd",
            "undo_",
            "undo_x",
            "/x.ibd",
            "/etc/passwd",
            "component_keyring_file.cnf",
            "ib_buffer_pool",
            "a/ib_logfile0",
        ] {
            assert!(placed(name, 0x4021).is_err(), "{name}");
        }
        assert!(placed(&format!("a/{}.ibd", "x".repeat(251)), 0).is_ok());
        assert!(placed(&format!("a/{}.ibd", "x".repeat(252)), 0).is_err());
    }
}
