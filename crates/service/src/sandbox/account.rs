//! Which account a restored server runs as. Database servers refuse to run as root.

use std::fs;

use strongroom_core::engine::Account;
use strongroom_core::{Error, ErrorKind, Result};

/// Where root has not been told otherwise. Not the account of the host's own databases: code in
/// restored data must not be able to write to their files.
const DEFAULT: &str = "nobody";
const PASSWD: &str = "/etc/passwd";

/// The account, when it is another than the one of this process.
pub(crate) fn account_of(setting: Option<&str>) -> Result<Option<Account>> {
    let own = rustix::process::geteuid();
    if own.is_root() {
        let passwd = fs::read_to_string(PASSWD).unwrap_or_default();
        return find(setting.unwrap_or(DEFAULT), &passwd).map(Some);
    }
    let Some(name) = setting else { return Ok(None) };
    let passwd = fs::read_to_string(PASSWD).unwrap_or_default();
    if find(name, &passwd)?.uid == own.as_raw() {
        return Ok(None);
    }
    Err(Error::new(
        ErrorKind::NotAllowed,
        format!("The worker does not run as root, so it cannot start a server as {name}."),
    )
    .with_hint("leave the setting drill_account away: the server then runs as the worker does"))
}

/// `UID:GID`, or a name with a line in the file of accounts.
fn find(name: &str, passwd: &str) -> Result<Account> {
    let unknown = || {
        Error::new(ErrorKind::NotAllowed, format!("There is no account {name} to start a server as."))
            .with_hint("name an ordinary account, or its UID:GID, with --drill-account")
    };
    let numbers = match name.split_once(':') {
        Some((uid, gid)) => Some((uid, gid)),
        None => {
            passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find_map(|fields| {
                match fields.as_slice() {
                    [found, _, uid, gid, ..] if *found == name => Some((*uid, *gid)),
                    _ => None,
                }
            })
        }
    };
    let (uid, gid) = numbers.ok_or_else(unknown)?;
    let account =
        Account { uid: uid.parse().map_err(|_| unknown())?, gid: gid.parse().map_err(|_| unknown())? };
    if account.uid == 0 {
        return Err(Error::new(ErrorKind::NotAllowed, "A restored server is not started as root.")
            .with_hint("name an ordinary account with --drill-account"));
    }
    Ok(account)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_found_and_root_is_refused() {
        let passwd = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\nbad\n";
        assert_eq!(find("nobody", passwd).unwrap(), Account { uid: 65534, gid: 65534 });
        assert_eq!(find("12:34", "").unwrap(), Account { uid: 12, gid: 34 });
        for wrong in ["root", "0:0", "bad", "", "x:y", "-1:2", "nobody2"] {
            assert_eq!(find(wrong, passwd).unwrap_err().kind(), ErrorKind::NotAllowed, "{wrong}");
        }
    }
}
