//! Encrypted files on their way: no key of theirs is stored in the clear, and none is left without one.

use strongroom_core::{Error, ErrorKind};

use super::space;
use crate::fault::Fault;
use crate::keyring::{self, FileKey, Keyring, Opened};
use crate::remedy::quote_name;

/// Files that are told by name.
const NAMED_MAX: usize = 10;

/// The bytes from a tablespace's beginning on with its key closed, when they hold one that is open.
pub(super) fn close(bytes: &[u8], space_flags: u32, keyring: &Keyring) -> Option<Vec<u8>> {
    let first = bytes.get(..space::page_bytes(space_flags) as usize)?;
    let mut page = first.to_vec();
    match keyring::close_page(&mut page, space::has_compressed_rows(space_flags), keyring) {
        Opened::Closed => Some([&page, &bytes[page.len()..]].concat()),
        Opened::Nothing => None,
    }
}

/// The same for a file of the log.
pub(super) fn close_log(bytes: &[u8], keyring: &Keyring) -> Option<Vec<u8>> {
    let mut header = bytes.get(..keyring::LOG_HEADER_BYTES)?.to_vec();
    match keyring::close_log(&mut header, keyring) {
        Opened::Closed => Some([&header, &bytes[header.len()..]].concat()),
        Opened::Nothing => None,
    }
}

/// The first page of a file that was made while the clone ran.
pub(super) fn first_page(
    space_id: u32,
    space_flags: u32,
    key: Option<&FileKey>,
    keyring: &Keyring,
) -> Vec<u8> {
    let mut page = space::first_page(space_id, space_flags);
    if let Some(key) = key {
        let is_zipped = space::has_compressed_rows(space_flags);
        keyring::write_page(&mut page, is_zipped, space::extent_pages(space_flags), key, keyring);
    }
    page
}

/// An encrypted file whose key did not come is a file that nobody opens.
pub(super) fn no_key(files: &[String]) -> Fault {
    let named = &files[..files.len().min(NAMED_MAX)];
    let statement = named.iter().find_map(|name| {
        let (schema, table) = name.strip_suffix(".ibd")?.split_once('/')?;
        Some(format!("ALTER TABLE {}.{} ENCRYPTION = 'N';", quote_name(schema), quote_name(table)))
    });
    let more = files.len() - named.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let error = Error::new(
        ErrorKind::SourceRefused,
        format!(
            "The server did not send the keys of encrypted files: {}{more}. Nothing was stored as complete.",
            named.join(", ")
        ),
    );
    Fault::Domain(error.with_hint(statement.unwrap_or_else(|| {
        "Switch the encryption of these files off (innodb_redo_log_encrypt, innodb_undo_log_encrypt, \
         ALTER TABLESPACE ... ENCRYPTION = 'N')."
            .to_owned()
    })))
}
