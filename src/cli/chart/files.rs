//! `--output-dir`: a file for each template.

use std::io::Write as _;
use std::path::Path;

use indexmap::IndexMap;

use crate::chart::Rendered;
use crate::cli::CliError;

/// Writes the documents below `dir`, those of one template into one file, and gives Helm's line for each document.
///
/// # Errors
///
/// If a file cannot be written.
pub(super) fn write(rendered: &Rendered, dir: &Path) -> Result<String, CliError> {
    let mut files: IndexMap<&str, String> = IndexMap::new();
    let mut told = String::new();
    for doc in &rendered.documents {
        let text = files.entry(&doc.source).or_default();
        *text += &format!("---\n# Source: {}\n{}\n", doc.source, doc.text);
        told += &format!("wrote {}\n", dir.join(&doc.source).display());
    }
    for (source, text) in files {
        let path = dir.join(source);
        let failed = |e: std::io::Error| CliError::failed(format!("cannot write {}: {e}", path.display()));
        let parent = path.parent().unwrap_or(dir);
        std::fs::create_dir_all(parent).map_err(failed)?;
        let mut staged = tempfile::NamedTempFile::new_in(parent).map_err(failed)?;
        staged.write_all(text.as_bytes()).map_err(failed)?;
        staged.as_file().sync_all().map_err(failed)?;
        staged.persist(&path).map_err(|e| failed(e.error))?;
    }
    // Helm ends with an empty line: what it would print without a folder.
    Ok(told + "\n")
}
