//! Rule documents from the files and directories that a person named.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::files::{self, FileError};
use crate::rules::{Code, Documents, Finding, MAX_FILE_BYTES, SourceFile, read_documents};

/// How a rule file in a directory is recognised.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// The bounds of what is read in all: ten thousand rules take about 3 MB.
const BYTES: usize = 32 << 20;
const FILES: usize = 10_000;

/// What was found under the paths, file by file: its name and its bytes, or what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RuleFiles {
    files: Vec<(String, Result<Vec<u8>, String>)>,
    bytes: usize,
}

impl RuleFiles {
    /// Reads files and directories. Of a directory those files count that end in `.yaml`, `.yml` or `.json` and do not start
    /// with a dot, in the order of their names; directories within it do not. What is wrong is remembered for
    /// [`RuleFiles::documents`].
    pub fn read(paths: &[PathBuf]) -> Self {
        let mut found = Self { files: Vec::new(), bytes: 0 };
        for path in paths {
            match fs::metadata(path) {
                Ok(metadata) if metadata.is_dir() => found.directory(path),
                Ok(_) => found.file(path),
                Err(error) => found.wrong(path, cannot_be_read(&error)),
            }
        }
        found
    }

    fn directory(&mut self, directory: &Path) {
        let mut names = match fs::read_dir(directory)
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>())
        {
            Ok(names) => names,
            Err(error) => return self.wrong(directory, cannot_be_read(&error)),
        };
        names.retain(|path| is_rule_file(path) && !path.is_dir());
        names.sort_unstable();
        if names.is_empty() {
            let message =
                "the directory holds no rule files: they end in .yaml, .yml or .json, and do not start with a dot";
            self.wrong(directory, message.to_owned());
        }
        if names.len() > FILES {
            let message =
                format!("{} rule files are more than {FILES}: put several documents into one file", names.len());
            return self.wrong(directory, message);
        }
        for path in &names {
            self.file(path);
        }
    }

    fn file(&mut self, path: &Path) {
        let read = files::read(path, MAX_FILE_BYTES.min(BYTES - self.bytes) as u64).map_err(|error| match error {
            FileError::Io(error) => cannot_be_read(&error),
            FileError::NotAFile(_) => format!("{error}: name a file or a directory"),
            FileError::TooLarge(_) => {
                format!("is too large: at most {} MiB of a file, and {} MiB in all", MAX_FILE_BYTES >> 20, BYTES >> 20)
            }
        });
        self.bytes += read.as_ref().map_or(0, Vec::len);
        self.files.push((path.display().to_string(), read));
    }

    fn wrong(&mut self, path: &Path, message: String) {
        self.files.push((path.display().to_string(), Err(message)));
    }

    /// The documents of all files.
    ///
    /// # Errors
    /// Every finding of every file. Nothing is taken from files in which anything is wrong.
    pub fn documents(&self) -> Result<Documents, Vec<Finding>> {
        let mut findings = Vec::new();
        let mut texts = Vec::new();
        for (name, read) in &self.files {
            match read {
                Ok(text) => texts.push(SourceFile { name, text }),
                Err(message) => findings.push(Finding::about_file(name, Code::Unreadable, message)),
            }
        }
        match read_documents(&texts) {
            Ok(documents) if findings.is_empty() => Ok(documents),
            Ok(_) => Err(findings),
            Err(more) => Err(findings.into_iter().chain(more).collect()),
        }
    }
}

fn is_rule_file(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known))
}

fn cannot_be_read(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "is not there: name a file or a directory".to_owned(),
        io::ErrorKind::PermissionDenied => "cannot be read: permission is denied".to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}
