//! What a donor tells about itself before a clone begins.

use std::collections::BTreeMap;

use super::descriptor::is_locator;
use super::message::Response;
use crate::facts::PluginFact;
use crate::fault::{Fault, Result};

/// Plugins, collations and settings that are taken; a server has some hundreds.
const ENTRIES_MAX: usize = 10_000;
/// Bytes of all of them together.
const SIZE_BYTES_MAX: usize = 4 << 20;

/// A donor's answer to the request that begins a clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Introduction {
    pub(crate) protocol: u32,
    pub(super) locator: Vec<u8>,
    pub(crate) plugins: Vec<PluginFact>,
    pub(crate) collations: Vec<String>,
    pub(crate) configuration: BTreeMap<String, String>,
    size_bytes: usize,
}

impl Introduction {
    /// Takes one answer; `true` when it was the last one.
    pub(super) fn take(&mut self, response: Response<'_>) -> Result<bool> {
        match response {
            Response::Locator { protocol, locator } => {
                if !self.locator.is_empty() || !is_locator(locator) {
                    return Err(Fault::hostile("a locator of a clone that is none"));
                }
                self.count(locator.len())?;
                (self.protocol, self.locator) = (protocol, locator.to_vec());
            }
            Response::Plugin { name, library } => {
                let name = self.text(name)?;
                let library = library.map(|library| self.text(library)).transpose()?;
                self.plugins.push(PluginFact { name, library });
            }
            Response::Collation(name) => {
                let name = self.text(name)?;
                self.collations.push(name);
            }
            Response::Configuration { key, value } => {
                let (key, value) = (self.text(key)?, self.text(value)?);
                self.configuration.insert(key, value);
            }
            Response::Complete if self.locator.is_empty() => {
                return Err(Fault::hostile("a clone without a locator"));
            }
            Response::Complete => return Ok(true),
            Response::Error(error) => return Err(Fault::Server(Box::new(error))),
            Response::Descriptor(_) | Response::Data(_) => {
                return Err(Fault::hostile("data of a clone before it was asked for"));
            }
        }
        Ok(false)
    }

    fn text(&mut self, bytes: &[u8]) -> Result<String> {
        self.count(bytes.len())?;
        String::from_utf8(bytes.to_vec())
            .map_err(|_| Fault::hostile("a name of its settings that is no text"))
    }

    fn count(&mut self, bytes: usize) -> Result<()> {
        self.size_bytes += bytes;
        let entries = self.plugins.len() + self.collations.len() + self.configuration.len();
        if self.size_bytes > SIZE_BYTES_MAX || entries > ENTRIES_MAX {
            return Err(Fault::hostile("a list of its settings without an end"));
        }
        Ok(())
    }

    /// For how many minutes a clone whose connection broke can be taken up again.
    pub(crate) fn patience_minutes(&self) -> Option<u64> {
        self.configuration.get("clone_donor_timeout_after_network_failure")?.parse().ok()
    }
}
