use std::path::PathBuf;

/// Why a kustomization could not be built.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", file.display())]
pub struct KustomizeError {
    /// The file it is about.
    pub file: PathBuf,
    /// Line in it, counted from 1, where known.
    pub line: Option<u32>,
    /// What is wrong.
    pub reason: String,
    /// The work was cancelled; nothing is wrong.
    pub cancelled: bool,
}

impl KustomizeError {
    pub(super) fn new(file: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self { file: file.into(), line: None, reason: reason.into(), cancelled: false }
    }

    pub(super) fn at(self, line: u32) -> Self {
        Self { line: Some(line), ..self }
    }
}
