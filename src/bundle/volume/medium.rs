//! What is on a medium beside the volumes: a README, checksums that `sha256sum -c` reads, and the program if asked for.

use std::path::{Path, PathBuf};

use minijinja::{Environment, context};

use super::find::VolumeSet;
use super::header::Header;
use super::split::{WrittenVolume, copy_file, images};
use super::{EXTENSION, VolumeError};
use crate::bundle::Bundle;
use crate::oci::Digest;
use crate::store::{StoreError, write_small};
use crate::units;

const README: &str = "README.txt";
const SUMS: &str = "SHA256SUMS";
const PROGRAM: &str = "omk";
const TEMPLATE: &str = include_str!("../../../templates/media/README.txt");
/// Images that the README names.
const MAX_IMAGES: usize = 200;

/// What is written beside the volumes of a set.
pub(super) struct Beside {
    readme: String,
    program: Option<PathBuf>,
    program_size: u64,
}

impl Beside {
    /// Blocks for a moment.
    pub(super) fn new(header: &Header, bundle: &Bundle, program: Option<&Path>) -> Result<Self, StoreError> {
        let program_size = match program {
            Some(path) => std::fs::metadata(path).map_err(StoreError::io("read", path))?.len(),
            None => 0,
        };
        let images = images(bundle);
        let files = |range: std::ops::RangeInclusive<u64>| -> Vec<(String, String)> {
            range.map(|n| (header.numbered(n).file_name(), units::bytes(header.file_len(n)))).collect()
        };
        let platforms: Vec<String> = bundle.platforms().iter().map(ToString::to_string).collect();
        let values = context! {
            name => header.name.clone(),
            set => header.set.to_string(),
            data => files(1..=header.data),
            parity => files(header.data + 1..=header.count()),
            size => units::bytes(header.size),
            images => images.iter().take(MAX_IMAGES).cloned().collect::<Vec<_>>(),
            more => images.len().saturating_sub(MAX_IMAGES),
            platforms => platforms.join(", "),
            program => program.is_some(),
            omk => if program.is_some() { "./omk" } else { "omk" },
        };
        let broken = |e: minijinja::Error| StoreError::Remote(format!("cannot write {README}: {e:#}"));
        let readme = Environment::new().render_str(TEMPLATE, values).map_err(broken)?;
        let readme = readme.trim_end().to_owned() + "\n";
        Ok(Self { readme, program: program.map(Path::to_owned), program_size })
    }

    /// Bytes of all, about.
    pub(super) fn size(&self) -> u64 {
        self.program_size + self.readme.len() as u64 + (64 << 10)
    }
}

/// Writes it. The checksums come last: with them the medium is complete. Blocks.
pub(super) fn write(folder: &Path, volumes: &[WrittenVolume], beside: Beside) -> Result<(), StoreError> {
    write_small(&folder.join(README), beside.readme.as_bytes())?;
    let mut sums: Vec<(String, String)> =
        volumes.iter().map(|v| (v.file.clone(), v.sha256.clone())).collect();
    sums.push((README.to_owned(), Digest::sha256(beside.readme.as_bytes()).hex().to_owned()));
    if let Some(program) = beside.program {
        sums.push((PROGRAM.to_owned(), copy_file(&program, &folder.join(PROGRAM))?));
    }
    sums.sort();
    let text: String = sums.iter().map(|(file, hash)| format!("{hash}  {file}\n")).collect();
    write_small(&folder.join(SUMS), text.as_bytes())
}

/// Refuses a folder in which volumes of another set would lie beside the new ones, or a file that is not omk's would
/// be replaced. Blocks.
pub(super) fn refuse_foreign(folder: &Path, header: &Header) -> Result<(), VolumeError> {
    let occupied =
        |path: PathBuf, reason: &str| Err(VolumeError::Occupied { path, reason: reason.to_owned() });
    match VolumeSet::find(&[folder.to_owned()]) {
        Ok(set) if *set.id() == header.set => {}
        Ok(set) => {
            let other = set.folder.join(set.header.file_name());
            return occupied(other, "it is of another set; empty the folder, or choose another");
        }
        Err(VolumeError::None { .. }) => {}
        Err(other) => return Err(other),
    }
    let sums = folder.join(SUMS);
    let mine = match std::fs::read_to_string(&sums) {
        Ok(text) => text.contains(&format!(".{EXTENSION}")),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => false,
        Err(_) => return occupied(sums, "it cannot be read"),
    };
    let files = (1..=header.count()).map(|n| header.numbered(n).file_name());
    for name in files.chain([README, SUMS, PROGRAM].map(str::to_owned)) {
        let path = folder.join(&name);
        let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
        if !meta.is_file() {
            return occupied(path, "it is no regular file");
        }
        if !mine && !name.ends_with(EXTENSION) {
            return occupied(path, "it is not from a media set; choose another folder");
        }
    }
    Ok(())
}
