//! Compressed bundles: nothing in them can be read in place, so they are unpacked once, into a file without a name
//! that is gone when the bundle is closed, however the process ends.
//!
//! omk writes no compressed bundles: their layers are compressed already, and zstd over them saves under 1 %.

use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::error::BundleError;
use crate::store::{OpenFile, StoreError};
use crate::units;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// Unpacked bytes for each compressed one. What images hold compresses ten times at most; a bomb does so a thousand
/// times and more.
const MAX_RATIO: u64 = 100;
/// Any file may unpack to this much.
const FREE_BYTES: u64 = 128 << 20;
/// What is left on the disk whatever is unpacked.
const RESERVE: u64 = 128 << 20;
const CHUNK: usize = 1 << 20;
/// Between two looks at how much room there is.
const LOOK_EVERY: u64 = 64 << 20;
/// Larger windows need more memory than a bundle of any size may cost; zstd itself refuses them too unless told.
const MAX_WINDOW_LOG: u32 = 27;

impl Compression {
    /// What a file is compressed with that begins with these bytes.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        match head {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            // A skippable frame, which pzstd and seekable files begin or end with.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            _ => None,
        }
    }

    fn reader<'a>(self, file: &'a std::fs::File) -> std::io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::Gzip => {
                Box::new(flate2::read::MultiGzDecoder::new(std::io::BufReader::with_capacity(CHUNK, file)))
            }
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(file)?;
                decoder.window_log_max(MAX_WINDOW_LOG)?;
                Box::new(decoder)
            }
        })
    }
}

impl std::fmt::Display for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

/// Where large files that nobody keeps belong: `TMPDIR`, else `/var/tmp` (hier(7)), since `/tmp` may be memory.
pub(super) fn usual_folder() -> PathBuf {
    let var = Path::new("/var/tmp");
    match std::env::var_os("TMPDIR") {
        Some(folder) if !folder.is_empty() => folder.into(),
        _ if var.is_dir() => var.to_owned(),
        _ => std::env::temp_dir(),
    }
}

/// Unpacks a file into one without a name in `folder`. Blocks.
pub(super) fn unpack(
    path: &Path,
    how: Compression,
    folder: &Path,
    cancel: &CancellationToken,
) -> Result<OpenFile, BundleError> {
    let file = std::fs::File::open(path).map_err(StoreError::io("read", path))?;
    let packed = file.metadata().map_err(StoreError::io("read", path))?.len();
    let limit = packed.saturating_mul(MAX_RATIO).saturating_add(FREE_BYTES);
    let broken = |e: std::io::Error| {
        let hint = if e.to_string().contains("too much memory") {
            "; it was made with --long: `zstd -dk --long=31` unpacks it"
        } else {
            ""
        };
        let cut = e.kind() == std::io::ErrorKind::UnexpectedEof;
        let reason = if cut { "it is cut off".to_owned() } else { format!("{e}{hint}") };
        BundleError::Packed { path: path.to_owned(), how, reason, cut }
    };
    let mut reader = how.reader(&file).map_err(broken)?;
    let mut spool = tempfile::tempfile_in(folder).map_err(StoreError::io("write a file in", folder))?;
    let mut buffer = vec![0; CHUNK];
    let (mut total, mut look) = (0u64, 0u64);
    loop {
        if cancel.is_cancelled() {
            return Err(StoreError::Cancelled.into());
        }
        let len = fill(&mut reader, &mut buffer).map_err(broken)?;
        if total == 0 && buffer[..len].get(257..262).is_none_or(|word| word != b"ustar") {
            let reason = "what is in it is no tar archive".to_owned();
            return Err(BundleError::Packed { path: path.to_owned(), how, reason, cut: false });
        }
        if len == 0 {
            break;
        }
        total = total.saturating_add(len as u64);
        if total > limit {
            let reason = format!(
                "{} unpack to more than {}, which no bundle does",
                units::bytes(packed),
                units::bytes(limit)
            );
            return Err(BundleError::Packed { path: path.to_owned(), how, reason, cut: false });
        }
        if total >= look {
            look = total.saturating_add(LOOK_EVERY);
            has_room(path, folder)?;
        }
        spool.write_all(&buffer[..len]).map_err(|e| no_room(e, path, folder))?;
    }
    drop(reader);
    Ok(OpenFile::new(Arc::new(spool), path.to_owned()))
}

fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match reader.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(len)
}

fn has_room(path: &Path, folder: &Path) -> Result<(), BundleError> {
    let fs = rustix::fs::statvfs(folder).map_err(|e| StoreError::io("measure", folder)(e.into()))?;
    if fs.f_bavail.saturating_mul(fs.f_frsize) < RESERVE + LOOK_EVERY {
        return Err(no_room(std::io::ErrorKind::StorageFull.into(), path, folder));
    }
    Ok(())
}

fn no_room(error: std::io::Error, path: &Path, folder: &Path) -> BundleError {
    if error.kind() != std::io::ErrorKind::StorageFull {
        return StoreError::io("write a file in", folder)(error).into();
    }
    BundleError::Store(StoreError::Remote(format!(
        "{} must be unpacked to be read, and {} has no room for it: unpack it yourself, or set TMPDIR to a folder \
         on another disk",
        path.display(),
        folder.display()
    )))
}
