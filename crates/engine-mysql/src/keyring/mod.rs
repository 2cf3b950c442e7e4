//! The keys of encrypted tablespaces.
//!
//! A donor sends the pages of such a file as they lie on its disk, and the first one once more with the
//! file's key in the clear. That key goes into no page of a backup: it is closed under a master key of
//! our own as soon as it arrives, as a server does it, and the master key stands in the backup's facts,
//! which are sealed. A restore gives it to the server as a file of `component_keyring_file`.

mod record;

use std::fmt;

use serde::{Deserialize, Serialize};
use strongroom_core::time::Randomness;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::record::made;
pub(crate) use self::record::{FileKey, LOG_HEADER_BYTES, Opened, close_log, close_page, write_page};

/// What servers put before the names of their master keys.
const NAME: &str = "INNODBKey";
/// The number of the one master key of a backup.
const KEY_NUMBER: u32 = 1;

/// The master key of a backup's encrypted files, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Keyring {
    /// Made for this key: that of a server could be in another keyring already.
    pub(crate) uuid: String,
    pub(crate) master_key: MasterKey,
}

/// 32 bytes of AES-256, as 64 hex digits where they are stored.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct MasterKey([u8; 32]);

impl Keyring {
    pub(crate) fn generate(random: &dyn Randomness) -> Self {
        let (mut key, mut id) = ([0; 32], [0; 16]);
        random.fill(&mut key);
        random.fill(&mut id);
        let uuid = uuid::Builder::from_random_bytes(id).into_uuid().to_string();
        Self { uuid, master_key: MasterKey(key) }
    }

    /// The content of a keyring file that holds this key.
    pub(crate) fn file(&self) -> String {
        let data_id = format!("{NAME}-{}-{KEY_NUMBER}", self.uuid);
        serde_json::json!({
            "version": "1.0",
            "elements": [{
                "user": "",
                "data_id": data_id,
                "data_type": "AES",
                "data": hex::encode_upper(self.master_key.0),
                "extension": [],
            }],
        })
        .to_string()
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

impl Serialize for MasterKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for MasterKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut key = [0; 32];
        hex::decode_to_slice(&text, &mut key)
            .map_err(|_| serde::de::Error::custom("a master key has 64 hex digits"))?;
        Ok(Self(key))
    }
}
