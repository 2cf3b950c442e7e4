//! Values that a server is asked for.

use super::Version;
use crate::remedy::Account;

/// Versions and accounts, as texts.
pub(crate) fn values(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let account = Account::of_current_user(text);
    assert!(account.grant("BACKUP_ADMIN", "*.*").starts_with("GRANT BACKUP_ADMIN ON *.* TO '"));
    let Some(version) = Version::parse(text) else { return false };
    assert_eq!(Version::parse(&version.text()), Some(version));
    true
}
