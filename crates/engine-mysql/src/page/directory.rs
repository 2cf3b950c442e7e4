//! Looks at every page of a data directory that no server has open.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom_core::Result;
use strongroom_core::member::MemberPath;
use strongroom_core::overwrite::ContentJudge;
use strongroom_host::io_failed;

use super::{PageFindings, PageShape, SYSTEM_SPACE, TablespaceJudge, word};

/// Whole pages of every size.
const PIECE_BYTES: usize = 1 << 20;
/// As far as the first page is needed to know the file.
const FLAGS_AT: usize = 54;
const SPACE_AT: usize = 34;

/// What is asked of a data directory.
pub(crate) struct Directory<'d> {
    pub(crate) path: &'d Path,
    pub(crate) page_size: u32,
    /// Names of the files of the system tablespace, whose pages do not say to which file they belong.
    pub(crate) system_files: &'d [String],
}

impl Directory<'_> {
    /// Looks at everything; `look` is asked between pieces whether to go on. Answers how many files
    /// were no tablespaces of known shape: their names.
    pub(crate) fn check<E: From<strongroom_core::Error>>(
        &self,
        findings: &Arc<PageFindings>,
        look: &mut dyn FnMut() -> Result<(), E>,
    ) -> Result<Vec<String>, E> {
        let mut unknown = Vec::new();
        for (name, path) in self.tablespaces()? {
            look()?;
            let mut file = File::open(&path).map_err(|error| io_failed(&path, &error))?;
            let member = MemberPath::parse(format!("data/{name}").as_bytes())?;
            let Some(shape) = self.shape(&name, &path)? else {
                unknown.push(name);
                continue;
            };
            let judge = TablespaceJudge::new(shape, findings.clone());
            let (mut piece, mut at) = (vec![0; PIECE_BYTES], 0);
            loop {
                look()?;
                let count = read_up_to(&mut file, &mut piece).map_err(|error| io_failed(&path, &error))?;
                judge.judge(&member, at, &piece[..count]);
                at += count as u64;
                if count < piece.len() {
                    break;
                }
            }
        }
        Ok(unknown)
    }

    /// Files of tablespaces, by the names that the server gives them, those of schemas too.
    fn tablespaces(&self) -> Result<Vec<(String, PathBuf)>> {
        let mut found = Vec::new();
        let mut folders = vec![(String::new(), self.path.to_owned())];
        while let Some((prefix, folder)) = folders.pop() {
            let entries = fs::read_dir(&folder).map_err(|error| io_failed(&folder, &error))?;
            for entry in entries {
                let entry = entry.map_err(|error| io_failed(&folder, &error))?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let kind = entry.file_type().map_err(|error| io_failed(&entry.path(), &error))?;
                if kind.is_dir() && prefix.is_empty() && !name.starts_with('#') {
                    folders.push((format!("{name}/"), entry.path()));
                } else if kind.is_file() && self.is_tablespace(&prefix, &name) {
                    found.push((format!("{prefix}{name}"), entry.path()));
                }
            }
        }
        found.sort();
        Ok(found)
    }

    fn is_tablespace(&self, prefix: &str, name: &str) -> bool {
        let is_of_system = prefix.is_empty() && self.system_files.iter().any(|system| system == name);
        let is_undo = prefix.is_empty() && name.starts_with("undo_");
        is_of_system
            || is_undo
            || Path::new(name).extension().is_some_and(|ending| ending == "ibd" || ending == "ibu")
    }

    /// From the first page; `None` when it says something that no InnoDB says.
    fn shape(&self, name: &str, path: &Path) -> Result<Option<PageShape>> {
        if self.system_files.iter().any(|system| system == name) {
            return Ok(PageShape::of(self.page_size, SYSTEM_SPACE, 0, false));
        }
        let mut head = [0; FLAGS_AT + 4];
        let mut file = File::open(path).map_err(|error| io_failed(path, &error))?;
        let count = read_up_to(&mut file, &mut head).map_err(|error| io_failed(path, &error))?;
        if count < head.len() {
            return Ok(None);
        }
        // Only the server's dictionary knows which file has compressed pages.
        Ok(PageShape::of(self.page_size, word(&head, SPACE_AT), word(&head, FLAGS_AT), true))
    }
}

fn read_up_to(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}
