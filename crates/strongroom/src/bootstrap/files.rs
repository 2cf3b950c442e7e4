//! Files of the data directory: private, durable, never half.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use strongroom_service::Bootstrap;

use crate::exit::{Exit, Outcome, Stop};

pub(super) fn unusable(path: &Path, error: &io::Error) -> Stop {
    Stop::new(Exit::Failed, format!("{} cannot be used: {error}", path.display())).with_hint(
        "see that the directory is there, that its disk has room, and that this account may write to it",
    )
}

/// Makes the directory with mode 0700 and answers its absolute path.
pub(super) fn make_private_dir(path: &Path) -> Outcome<PathBuf> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| unusable(path, &error))?;
    fs::canonicalize(path).map_err(|error| unusable(path, &error))
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// A file that must not exist yet, durable when this returns; a kill may leave a part of it.
fn write_new_private(path: &Path, text: &str) -> Outcome<()> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        sync_parent(path)
    };
    write().map_err(|error| unusable(path, &error))
}

/// Replaces a file as a whole: after a kill it is the old one, or not there, or the new one.
pub(super) fn replace_private(path: &Path, text: &str) -> Outcome<()> {
    let beside = path.with_extension("tmp");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(&beside, &error)),
        _ => {}
    }
    write_new_private(&beside, text)?;
    publish(&beside, path)
}

pub(super) fn publish(from: &Path, to: &Path) -> Outcome<()> {
    fs::rename(from, to).and_then(|()| sync_parent(to)).map_err(|error| unusable(to, &error))
}

/// What a killed first start may have left of its catalog.
pub(super) fn remove_catalog(path: &Path) -> Outcome<()> {
    for ending in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        match fs::remove_file(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(path, &error)),
            _ => {}
        }
    }
    Ok(())
}

/// `bootstrap.json`: how the first administrator gets in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Credentials {
    pub(crate) endpoint: String,
    pub(crate) region: String,
    domain_id: String,
    domain_name: String,
    user_id: String,
    user_name: String,
    password: String,
    pub(crate) project_id: String,
    project_name: String,
    pub(crate) token: String,
    access_key: String,
    secret_key: String,
    openrc: String,
}

impl Credentials {
    pub(super) fn new(made: &Bootstrap, data_dir: &Path, region: &str) -> Self {
        Self {
            endpoint: String::new(),
            region: region.to_owned(),
            domain_id: made.domain_id.clone(),
            domain_name: made.domain_name.clone(),
            user_id: made.user_id.clone(),
            user_name: made.user_name.clone(),
            password: made.password.clone(),
            project_id: made.project_id.clone(),
            project_name: made.project_name.clone(),
            token: made.token.clone(),
            access_key: made.access_key.clone(),
            secret_key: made.secret_key.clone(),
            openrc: data_dir.join("openrc").display().to_string(),
        }
    }

    /// For a shell to source: our own commands, and the OpenStack client.
    fn openrc(&self) -> String {
        let lines = [
            ("STRONGROOM_ENDPOINT", &self.endpoint),
            ("STRONGROOM_TOKEN", &self.token),
            ("STRONGROOM_PROJECT_ID", &self.project_id),
            ("OS_AUTH_URL", &format!("{}/v3", self.endpoint)),
            ("OS_IDENTITY_API_VERSION", &"3".to_owned()),
            ("OS_REGION_NAME", &self.region),
            ("OS_PROJECT_ID", &self.project_id),
            ("OS_PROJECT_NAME", &self.project_name),
            ("OS_USER_DOMAIN_NAME", &self.domain_name),
            ("OS_PROJECT_DOMAIN_NAME", &self.domain_name),
            ("OS_USERNAME", &self.user_name),
            ("OS_PASSWORD", &self.password),
        ];
        let mut text = "# Made by strongroom at each start. Holds secrets.\n".to_owned();
        for (name, value) in lines {
            let _ = writeln!(text, "export {name}='{value}'");
        }
        text
    }

    /// Says where the server listens this time.
    pub(crate) fn listen_at(mut self, data_dir: &Path, endpoint: &str) -> Outcome<Self> {
        endpoint.clone_into(&mut self.endpoint);
        write_credentials(data_dir, &self)?;
        replace_private(&data_dir.join("openrc"), &self.openrc())?;
        Ok(self)
    }
}

pub(super) fn write_credentials(data_dir: &Path, credentials: &Credentials) -> Outcome<()> {
    let text = serde_json::to_string_pretty(credentials)
        .map_err(|error| Stop::new(Exit::Failed, format!("bootstrap.json: {error}")))?;
    replace_private(&data_dir.join("bootstrap.json"), &(text + "\n"))
}

/// The credentials of a data directory, or `None` where somebody took them away.
pub(crate) fn read_credentials(data_dir: &Path) -> Outcome<Option<Credentials>> {
    let path = data_dir.join("bootstrap.json");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(&path, &error)),
    };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| Stop::new(Exit::Failed, format!("{} cannot be read: {error}", path.display())))
}
