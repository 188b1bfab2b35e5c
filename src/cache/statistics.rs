//! Figures about the cache.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{CacheError, ImageCache};
use crate::oci::{Descriptor, Digest};
use crate::store::{StoreError, write_small};

const FILE: &str = "statistics.json";

/// What one run took out of the cache, and what it had to fetch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Uses {
    pub(super) image_hits: u64,
    pub(super) image_misses: u64,
    pub(super) bytes_hit: u64,
    pub(super) bytes_missed: u64,
}

impl Uses {
    pub(super) fn image(&mut self, hit: bool) {
        if hit {
            self.image_hits += 1;
        } else {
            self.image_misses += 1;
        }
    }

    pub(super) fn bytes(&mut self, hit: u64, missed: u64) {
        self.bytes_hit = self.bytes_hit.saturating_add(hit);
        self.bytes_missed = self.bytes_missed.saturating_add(missed);
    }
}

/// What is in the cache and what it was good for. Sizes are bytes.
#[derive(Debug, Clone, Serialize)]
pub struct Statistics {
    /// The folder.
    pub path: PathBuf,
    /// Names in it.
    pub images: usize,
    /// Those that are pinned.
    pub pinned: usize,
    /// Different blobs, needed or not.
    pub blobs: usize,
    /// Bytes that the layers unpack to, each counted once, as far as they tell: gzip says so in its last bytes, zstd in
    /// its first; a layer that does not is counted as it is stored.
    pub size: u64,
    /// Bytes of all blobs as they are stored, needed or not.
    pub compressed_size: u64,
    /// `size` through `compressed_size`; none when there is nothing.
    pub ratio: Option<f64>,
    /// Bytes that would be there once more if images did not share blobs.
    pub shared: u64,
    /// Bytes of blobs that no image needs; [`ImageCache::gc`] frees them.
    pub unneeded: u64,
    /// Bytes of blobs that are not complete.
    pub partial: u64,
    /// Damaged blobs that were put away.
    pub quarantined: usize,
    /// Images that were looked for and there.
    pub image_hits: u64,
    /// Images that were looked for and not there, or not all of it.
    pub image_misses: u64,
    /// `image_hits` through both; none when nothing was ever looked for.
    pub hit_rate: Option<f64>,
    /// Bytes that did not have to be fetched, because they were there.
    pub bytes_hit: u64,
    /// Bytes that were fetched.
    pub bytes_missed: u64,
    /// When a name was last written, in UTC; none when there is none.
    pub last_update: Option<String>,
}

impl ImageCache {
    fn uses(&self) -> Result<Uses, CacheError> {
        let path = self.root.join(FILE);
        match std::fs::read(&path) {
            // Figures that are damaged are not worth stopping for.
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Uses::default()),
            Err(e) => Err(StoreError::io("read", path)(e).into()),
        }
    }

    /// Adds up what a run did. A run that is killed is not counted.
    pub(super) fn count(&self, run: &Uses) -> Result<(), CacheError> {
        if *run == Uses::default() || !self.exists() {
            return Ok(());
        }
        let _index = self.index_alone()?;
        let mut all = self.uses()?;
        all.image_hits = all.image_hits.saturating_add(run.image_hits);
        all.image_misses = all.image_misses.saturating_add(run.image_misses);
        all.bytes(run.bytes_hit, run.bytes_missed);
        let path = self.root.join(FILE);
        let text = serde_json::to_vec_pretty(&all).map_err(|e| StoreError::Remote(format!("{FILE}: {e}")))?;
        Ok(write_small(&path, &text)?)
    }

    /// Figures about the cache, zero for one that is not there. Blocks; reads two small pieces of each layer.
    ///
    /// # Errors
    /// When the cache cannot be read.
    pub fn statistics(&self) -> Result<Statistics, CacheError> {
        self.refresh()?;
        let (records, _) = self.records()?;
        let pins = self.pins()?;
        let stored: BTreeMap<Digest, u64> = self.digests()?.into_iter().collect();
        let mut needed: BTreeMap<&Digest, &Descriptor> = BTreeMap::new();
        let mut asked = 0u64;
        for blob in records.iter().flat_map(|s| s.blobs()) {
            asked = asked.saturating_add(blob.size());
            needed.insert(blob.digest(), blob);
        }
        let compressed_size: u64 = stored.values().sum();
        let once: u64 = needed.values().map(|b| b.size()).sum();
        let mut size = 0u64;
        for (digest, bytes) in &stored {
            let layer = needed.get(digest).filter(|b| is_layer(b.media_type()));
            let unpacked = layer.and_then(|b| unpacked(&self.blob_path(digest), b));
            size = size.saturating_add(unpacked.unwrap_or(*bytes));
        }
        let unneeded = stored.iter().filter(|(d, _)| !needed.contains_key(d)).map(|(_, s)| s).sum();
        let uses = self.uses()?;
        let looked = uses.image_hits + uses.image_misses;
        Ok(Statistics {
            path: self.root.clone(),
            images: records.len(),
            pinned: records.iter().filter(|s| pins.hold(&s.record.image)).count(),
            blobs: stored.len(),
            size,
            compressed_size,
            ratio: (compressed_size > 0).then(|| size as f64 / compressed_size as f64),
            shared: asked - once,
            unneeded,
            partial: sizes(&self.root.join("partial")).iter().sum(),
            quarantined: sizes(&self.root.join("quarantine")).len(),
            image_hits: uses.image_hits,
            image_misses: uses.image_misses,
            hit_rate: (looked > 0).then(|| uses.image_hits as f64 / looked as f64),
            bytes_hit: uses.bytes_hit,
            bytes_missed: uses.bytes_missed,
            last_update: records.iter().map(|s| s.record.updated.clone()).max(),
        })
    }

    /// When an image is used: it is the last to go.
    pub(super) fn used(&self, image: &crate::oci::ImageRef) -> Result<(), CacheError> {
        super::store::touch(&self.record_path(image))?;
        Ok(())
    }
}

fn sizes(folder: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|e| e.metadata().ok()).filter(|m| m.is_file()).map(|m| m.len()).collect()
}

fn is_layer(media_type: &str) -> bool {
    media_type.contains("tar")
}

/// What a layer says that it unpacks to; none where it does not say, or what it says cannot be.
fn unpacked(path: &Path, blob: &Descriptor) -> Option<u64> {
    let file = std::fs::File::open(path).ok()?;
    let mut head = [0u8; 18];
    let read = file.read_at(&mut head, 0).ok()?;
    if head.starts_with(&[0x1f, 0x8b]) {
        let mut tail = [0u8; 4];
        file.read_exact_at(&mut tail, blob.size().checked_sub(4)?).ok()?;
        return gzip_size(u32::from_le_bytes(tail), blob.size());
    }
    if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let told = zstd::zstd_safe::get_frame_content_size(&head[..read]).ok()??;
        return (told >= blob.size()).then_some(told);
    }
    None
}

/// The last four bytes of gzip (RFC 1952) hold the size modulo 2³², of the last part only where there are several. What
/// is smaller than deflate can make it has wrapped, once at most for what is not larger than 4 GiB, or is such a part.
fn gzip_size(told: u32, stored: u64) -> Option<u64> {
    const WRAP: u64 = 1 << 32;
    // Deflate stores what it cannot pack in blocks of 65535 bytes with 5 bytes each.
    let least = stored.saturating_sub(stored / 10_000 + 64);
    let told = u64::from(told);
    if told >= least {
        return Some(told);
    }
    // Layers of a GiB and more that unpack to less than that again do not exist; small ones in parts do.
    (stored >= WRAP / 4).then(|| told + (least.saturating_sub(told)).div_ceil(WRAP) * WRAP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_tells_its_size_unless_it_is_in_parts() {
        assert_eq!(gzip_size(5000, 1000), Some(5000));
        // Noise is stored: a little less than the file.
        assert_eq!(gzip_size(999_000, 999_100), Some(999_000));
        // The last of several parts.
        assert_eq!(gzip_size(1000, 900_000), None);
        // 5 GB in 2 GB.
        assert_eq!(gzip_size(705_032_704, 2_000_000_000), Some(5_000_000_000));
    }

    #[test]
    fn real_layers_tell_what_they_unpack_to() {
        use std::io::Write as _;
        let folder = tempfile::tempdir().unwrap();
        let bytes = vec![b'x'; 300_000];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&bytes).unwrap();
        let zstd = zstd::bulk::compress(&bytes, 3).unwrap();
        for (packed, expected) in
            [(gzip.finish().unwrap(), Some(300_000)), (zstd, Some(300_000)), (bytes, None)]
        {
            let path = folder.path().join("layer");
            std::fs::write(&path, &packed).unwrap();
            assert_eq!(unpacked(&path, &Descriptor::of("", &packed)), expected);
        }
    }
}
