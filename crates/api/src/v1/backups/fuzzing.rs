//! The body that asks for a backup, as the fuzzer calls it.

use super::{BackupName, Description, InstanceRef, Value, body, new_backup};

/// What is taken is what the body says, and says nothing that a name or a description may not say.
pub(crate) fn new_backup_body(bytes: &[u8]) -> bool {
    let Ok(document) = body::parse(bytes) else { return false };
    let Ok(new) = new_backup(&document) else { return false };
    let said = |key: &str| document["backup"].get(key).and_then(Value::as_str);
    assert_eq!(said("name"), Some(new.name.as_str()));
    assert_eq!(said("description"), new.description.as_ref().map(Description::as_str));
    assert!(BackupName::parse(new.name.as_str()).is_ok());
    let InstanceRef::PrimaryNode(node) = new.instance else { panic!("this dialect names nodes") };
    assert_eq!(said("instance"), Some(node.as_str()));
    true
}
