//! The bytes of a volume, without reading or writing any: pure.
//!
//! ```text
//! 0       header, 4096 bytes: magic, one line of JSON, zeros, SHA-256 of what came before
//! 4096    payload: a stretch of the bundle's tar file, or parity over such stretches
//! …       table: magic, SHA-256 of every chunk of every volume of the set, SHA-256 of set and table
//! end     the header once more
//! ```
//!
//! Whatever is lost of a volume, one whole table on any other says of every chunk what it must be. The set's
//! identity is known before the first byte is written, and the same bundle split in the same way gives the same bytes.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::VolumeError;
use crate::oci::Digest;

/// Bytes of the header.
pub(super) const HEADER: u64 = HEADER_LEN as u64;
pub(super) const HEADER_LEN: usize = 4096;
pub(super) const MAGIC: &[u8; 8] = b"OMKVOL1\n";
const TABLE_MAGIC: &[u8; 8] = b"OMKVTAB1";
/// Bytes of a hash.
pub(super) const HASH: usize = 32;
/// Volumes of one set: every one is open while parity is computed.
pub(super) const MAX_VOLUMES: u64 = 512;
/// Chunks of one set: 4 TiB of the largest.
const MAX_CHUNKS: u64 = 4 << 20;
/// What a chunk may have: it is the least that is repaired, and what is held in memory.
const CHUNKS: std::ops::RangeInclusive<u64> = 4096..=1 << 20;

/// What a volume says of itself and its set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Identity of the set: of what it holds and how it is split.
    pub set: Digest,
    /// The beginning of the names of its files.
    pub name: String,
    /// 1 to `data` for those that hold the bundle, then those with parity.
    pub number: u64,
    /// Volumes that hold the bundle.
    pub data: u64,
    /// Volumes that can stand in for as many others.
    pub parity: u64,
    /// Bytes of the bundle.
    pub size: u64,
    /// Bytes of it on each volume; the last one has the rest.
    pub volume: u64,
    /// Bytes of a chunk.
    pub chunk: u64,
}

/// A hash of each chunk of each volume, in the order of the volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table(pub(super) Vec<[u8; HASH]>);

pub(super) fn sha256(bytes: &[u8]) -> [u8; HASH] {
    Sha256::digest(bytes).into()
}

impl Header {
    /// How a bundle of `size` bytes is cut so that no file has more than `limit`, with `percent` of parity.
    ///
    /// # Errors
    /// When the limit is too small for that bundle.
    pub(super) fn plan(name: &str, size: u64, limit: u64, percent: u64) -> Result<Self, VolumeError> {
        let small = || VolumeError::TooSmall { limit, size };
        let set = Digest::sha256(b"");
        let chunk = limit.checked_div(1024).and_then(|c| c.checked_ilog2()).map_or(0, |bits| 1u64 << bits);
        let chunk = chunk.clamp(*CHUNKS.start(), *CHUNKS.end());
        let mut volume = limit / chunk * chunk;
        loop {
            if volume == 0 || size == 0 {
                return Err(small());
            }
            let data = size.div_ceil(volume);
            let parity = data.saturating_mul(percent).div_ceil(100);
            if data.saturating_add(parity) > MAX_VOLUMES {
                return Err(small());
            }
            let header = Self {
                set: set.clone(),
                name: name.to_owned(),
                number: 1,
                data,
                parity,
                size,
                volume,
                chunk,
            };
            let more = header.overhead().saturating_add(volume).saturating_sub(limit);
            if more == 0 {
                // Even volumes: parity is as large as the largest.
                let volume = size.div_ceil(data).next_multiple_of(chunk);
                let data = size.div_ceil(volume);
                let parity = data.saturating_mul(percent).div_ceil(100);
                return Self { volume, data, parity, ..header }.checked().ok_or_else(small);
            }
            volume = volume.saturating_sub(more.next_multiple_of(chunk));
        }
    }

    /// The same with the identity of what is in the set.
    pub(super) fn identified(self, content: &[u8]) -> Self {
        let Self { name, data, parity, size, volume, chunk, .. } = &self;
        let text = format!("{name} {data} {parity} {size} {volume} {chunk}\n");
        let set = Digest::sha256(&[text.as_bytes(), content].concat());
        Self { set, ..self }
    }

    /// The header of another volume of the set.
    pub(super) fn numbered(&self, number: u64) -> Self {
        Self { number, ..self.clone() }
    }

    /// `None` when what it says cannot be.
    fn checked(self) -> Option<Self> {
        let Self { number, data, parity, size, volume, chunk, .. } = self;
        let named = !self.name.is_empty()
            && self.name.len() <= 200
            && !self.name.starts_with('.')
            && self.name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+'));
        let good = named
            && data.checked_add(parity).is_some_and(|n| n <= MAX_VOLUMES && (1..=n).contains(&number))
            && chunk.is_power_of_two()
            && CHUNKS.contains(&chunk)
            && volume > 0
            && volume.is_multiple_of(chunk)
            && size > 0
            && size.div_ceil(volume) == data
            && volume.checked_mul(MAX_VOLUMES).is_some()
            && self.all_chunks() <= MAX_CHUNKS;
        good.then_some(self)
    }

    /// All volumes.
    pub fn count(&self) -> u64 {
        self.data + self.parity
    }

    /// Whether it is one of those with parity.
    pub fn is_parity(&self) -> bool {
        self.number > self.data
    }

    /// Chunks of a full volume, which are the stripes of the set: chunk i of every volume.
    pub(super) fn stripes(&self) -> u64 {
        self.volume / self.chunk
    }

    /// Bytes between header and table of a volume.
    pub(super) fn payload(&self, number: u64) -> u64 {
        if number > self.data {
            return self.volume;
        }
        self.size.saturating_sub(number.saturating_sub(1) * self.volume).min(self.volume)
    }

    /// Chunks of a volume.
    pub(super) fn chunks(&self, number: u64) -> u64 {
        self.payload(number).div_ceil(self.chunk)
    }

    fn all_chunks(&self) -> u64 {
        self.size.div_ceil(self.chunk).saturating_add(self.parity.saturating_mul(self.stripes()))
    }

    /// Where the hash of a volume's chunk stands in the table.
    pub(super) fn index(&self, number: u64, chunk: u64) -> usize {
        let before = if number > self.data {
            self.size.div_ceil(self.chunk) + (number - self.data - 1) * self.stripes()
        } else {
            (number - 1) * self.stripes()
        };
        usize::try_from(before + chunk).unwrap_or(usize::MAX)
    }

    /// Bytes of a chunk within the payload: from where, how many.
    pub(super) fn place(&self, number: u64, chunk: u64) -> (u64, u64) {
        let start = chunk * self.chunk;
        (start, self.payload(number).saturating_sub(start).min(self.chunk))
    }

    /// Bytes of the table with what is around it.
    pub(super) fn table_len(&self) -> u64 {
        (MAGIC.len() + HASH) as u64 + self.all_chunks() * HASH as u64
    }

    fn overhead(&self) -> u64 {
        2 * HEADER + self.table_len()
    }

    /// Bytes of the whole file.
    pub(super) fn file_len(&self, number: u64) -> u64 {
        self.overhead() + self.payload(number)
    }

    /// The name of its file.
    pub fn file_name(&self) -> String {
        let Self { name, number, data, parity, .. } = self;
        match number.checked_sub(*data) {
            Some(n @ 1..) => format!("{name}.parity{n:02}of{parity:02}.omkv"),
            _ => format!("{name}.{number:03}of{data:03}.omkv"),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        // Of numbers, a digest and a plain name: always JSON.
        bytes.extend(serde_json::to_vec(self).unwrap_or_default());
        bytes.push(b'\n');
        bytes.resize(HEADER_LEN - HASH, 0);
        bytes.extend(sha256(&bytes));
        bytes
    }

    /// `None` for bytes that are no header, or a damaged one.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (text, sum) = bytes.split_at_checked(HEADER_LEN - HASH)?;
        if sum != sha256(text) {
            return None;
        }
        let json = text.strip_prefix(MAGIC.as_slice())?;
        let end = json.iter().position(|b| *b == b'\n')?;
        serde_json::from_slice::<Self>(&json[..end]).ok()?.checked()
    }
}

impl Table {
    pub(super) fn new(header: &Header) -> Self {
        Self(vec![[0; HASH]; usize::try_from(header.all_chunks()).unwrap_or(0)])
    }

    pub(super) fn encode(&self, header: &Header) -> Vec<u8> {
        let mut bytes = TABLE_MAGIC.to_vec();
        self.0.iter().for_each(|hash| bytes.extend_from_slice(hash));
        let sum = sum(header, &bytes);
        bytes.extend(sum);
        bytes
    }

    /// `None` for bytes that are not the table of that set, or a damaged one.
    pub(super) fn decode(header: &Header, bytes: &[u8]) -> Option<Self> {
        if bytes.len() as u64 != header.table_len() {
            return None;
        }
        let (table, found) = bytes.split_at_checked(bytes.len().checked_sub(HASH)?)?;
        if found != sum(header, table) {
            return None;
        }
        let (hashes, _) = table.strip_prefix(TABLE_MAGIC.as_slice())?.as_chunks::<HASH>();
        Some(Self(hashes.to_vec()))
    }

    pub(super) fn hash(&self, header: &Header, number: u64, chunk: u64) -> Option<&[u8; HASH]> {
        self.0.get(header.index(number, chunk))
    }
}

/// Of a table, and the set that it belongs to.
fn sum(header: &Header, table: &[u8]) -> [u8; HASH] {
    let mut hasher = Sha256::new();
    hasher.update(header.numbered(1).encode());
    hasher.update(table);
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn plans_fit_and_cover(size in 1u64..1 << 34, limit in 1u64 << 16..1 << 33, percent in 0u64..=100) {
            if let Ok(plan) = Header::plan("x", size, limit, percent) {
                let all: u64 = (1..=plan.data).map(|n| plan.payload(n)).sum();
                prop_assert_eq!(all, size);
                prop_assert!((1..=plan.count()).all(|n| plan.file_len(n) <= limit && plan.payload(n) > 0));
                prop_assert!(plan.parity * 100 >= plan.data * percent);
                let mut next = 0;
                for number in 1..=plan.count() {
                    prop_assert_eq!(plan.index(number, 0), next);
                    next += usize::try_from(plan.chunks(number)).unwrap();
                }
                prop_assert_eq!(next as u64, plan.all_chunks());
                prop_assert_eq!(Header::decode(&plan.encode()), Some(plan));
            } else {
                prop_assert!(is_too_small(size, limit, percent));
            }
        }

        #[test]
        fn any_bytes_are_taken_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..5000), sign: bool) {
            if sign && bytes.len() >= 4096 {
                bytes.truncate(4096);
                bytes[..8].copy_from_slice(MAGIC);
                let sum = sha256(&bytes[..4064]);
                bytes[4064..].copy_from_slice(&sum);
            }
            let _ = Header::decode(&bytes);
        }
    }

    /// Whether so many bytes come close to the bounds: every volume holds a hash of each chunk of all of them.
    fn is_too_small(size: u64, limit: u64, percent: u64) -> bool {
        let with_parity = |n: u64| n * (100 + percent) / 100;
        let chunk = (limit / 1024 + 1).next_power_of_two() / 2;
        let chunk = chunk.clamp(*CHUNKS.start(), *CHUNKS.end());
        let chunks = with_parity(size.div_ceil(chunk)) + limit / chunk;
        let room = limit.saturating_sub(2 * HEADER + chunks * HASH as u64 + chunk);
        room == 0 || chunks > MAX_CHUNKS / 10 * 9 || with_parity(size.div_ceil(room)) > MAX_VOLUMES / 10 * 9
    }

    #[test]
    fn a_limit_that_hashes_would_fill_is_refused() {
        assert!(Header::plan("x", 3_442_475_009, 17_126_742, 28).is_err());
        assert!(is_too_small(3_442_475_009, 17_126_742, 28) && !is_too_small(3_442_475_009, 34_000_000, 28));
    }

    #[test]
    fn a_header_that_lies_is_refused() {
        let good = Header::plan("web", 10 << 20, 1 << 20, 20).unwrap();
        let lies: [fn(&mut Header); 9] = [
            |h| h.number = 0,
            |h| h.number = h.count() + 1,
            |h| h.data += 1,
            |h| h.parity = u64::MAX,
            |h| h.size = u64::MAX,
            |h| h.volume = 0,
            |h| h.chunk = 1 << 40,
            |h| h.name = "../x".into(),
            |h| h.chunk = 4097,
        ];
        for (i, lie) in lies.iter().enumerate() {
            let mut bad = good.clone();
            lie(&mut bad);
            assert_eq!(Header::decode(&bad.encode()), None, "{i}");
        }
    }

    #[test]
    fn a_table_belongs_to_its_set() {
        let header = Header::plan("web", 1 << 20, 1 << 18, 20).unwrap();
        let table = Table::new(&header);
        let mut bytes = table.encode(&header);
        assert_eq!(Table::decode(&header.numbered(2), &bytes).as_ref(), Some(&table));
        assert_eq!(Table::decode(&header.clone().identified(b"other"), &bytes), None);
        bytes[20] ^= 1;
        assert_eq!(Table::decode(&header, &bytes), None);
    }

    #[test]
    fn names_count_data_and_parity_apart() {
        let header = Header::plan("web.bundle", 10 << 20, 4 << 20, 10).unwrap();
        let names: Vec<String> = (1..=header.count()).map(|n| header.numbered(n).file_name()).collect();
        assert_eq!(
            names,
            [
                "web.bundle.001of003.omkv",
                "web.bundle.002of003.omkv",
                "web.bundle.003of003.omkv",
                "web.bundle.parity01of01.omkv"
            ]
        );
    }
}
