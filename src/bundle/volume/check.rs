//! Every chunk against its hash.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::VolumeError;
use super::find::VolumeSet;
use super::header::{HEADER, Table, sha256};
use crate::event::{Event, Events};
use crate::store::StoreError;

/// Bytes that one thread takes at a time.
const SHARE: u64 = 32 << 20;
/// Ranges of one volume that are told.
const MAX_RANGES: usize = 1000;

/// A volume that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadVolume {
    /// The file, or where it should be.
    pub file: PathBuf,
    /// Its number; those with parity come after those with data.
    pub number: u64,
    /// Whether it is not there at all.
    pub missing: bool,
    /// What is wrong with it.
    pub reason: String,
    /// Damaged bytes of the file, from (inclusive) to (exclusive), in order.
    pub ranges: Vec<(u64, u64)>,
}

/// What a volume needs.
#[derive(Debug, Clone, Default)]
pub(super) struct Bad {
    pub(super) missing: bool,
    /// Too short or too long.
    pub(super) length: Option<String>,
    pub(super) front: bool,
    pub(super) table: bool,
    pub(super) chunks: BTreeSet<u64>,
}

pub(super) struct Examined {
    pub(super) table: Table,
    pub(super) bad: BTreeMap<u64, Bad>,
    /// Bytes that were hashed.
    pub(super) bytes: u64,
}

/// Reads all volumes of a set, but for chunks that lie in `good`: stretches of the bundle, in order, that are known
/// to be what they were. What cannot be read is damaged, not an error: sectors go bad.
pub(super) async fn examine(
    set: &VolumeSet,
    good: &[Range<u64>],
    events: &Events,
    cancel: &CancellationToken,
) -> Result<Examined, VolumeError> {
    let set = Arc::new(set.clone());
    let from = Arc::clone(&set);
    let table =
        tokio::task::spawn_blocking(move || from.table()).await.map_err(|_| StoreError::Cancelled)??;
    let table = Arc::new(table);
    let mut bad: BTreeMap<u64, Bad> = BTreeMap::new();
    let mut work = Vec::new();
    let (mut bytes, mut volumes) = (0u64, 0u64);
    for number in 1..=set.header.count() {
        let Some(volume) = set.volumes.get(&number) else {
            let chunks = (0..set.header.chunks(number)).collect();
            bad.insert(number, Bad { missing: true, chunks, ..Bad::default() });
            continue;
        };
        let what = Bad {
            length: (volume.len != set.header.file_len(number)).then(|| set.lack(number).unwrap_or_default()),
            front: !volume.front || !set.ends_well(number, volume),
            table: set.table_of(number, volume).is_none(),
            ..Bad::default()
        };
        if what.front || what.table || what.length.is_some() {
            bad.insert(number, what);
        }
        let share = usize::try_from((SHARE / set.header.chunk).max(1)).unwrap_or(1);
        let open: Vec<u64> =
            (0..set.header.chunks(number)).filter(|c| !set.lies_in(good, number, *c)).collect();
        bytes += open.iter().map(|c| set.header.place(number, *c).1).sum::<u64>();
        work.extend(open.chunks(share).map(|chunks| (number, chunks.to_vec())));
        volumes += 1;
    }
    events.emit(Event::Phase { name: "verify volumes", total: Some(volumes) });
    events.emit(Event::CheckPlanned { blobs: volumes, bytes });
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let one = |(number, chunks): (u64, Vec<u64>)| {
        let (set, table, cancel, events) =
            (Arc::clone(&set), Arc::clone(&table), cancel.clone(), events.clone());
        tokio::task::spawn_blocking(move || {
            let Some(volume) = set.volumes.get(&number) else { return (number, Vec::new()) };
            let mut found = Vec::new();
            let mut buffer = vec![0; usize::try_from(set.header.chunk).unwrap_or(0)];
            for chunk in chunks {
                if cancel.is_cancelled() {
                    break;
                }
                let (start, len) = set.header.place(number, chunk);
                let part = &mut buffer[..usize::try_from(len).unwrap_or(0)];
                let read = volume.file.read_exact_at(part, HEADER + start);
                if read.is_err() || Some(&sha256(part)) != table.hash(&set.header, number, chunk) {
                    found.push(chunk);
                }
                events.emit(Event::TransferProgress {
                    node: None,
                    digest: set.header.set.clone(),
                    bytes: len,
                });
            }
            (number, found)
        })
    };
    let mut done = stream::iter(work).map(one).buffer_unordered(threads);
    while let Some(found) = done.next().await {
        let (number, chunks) = found.map_err(|_| StoreError::Cancelled)?;
        if !chunks.is_empty() {
            bad.entry(number).or_default().chunks.extend(chunks);
        }
    }
    if cancel.is_cancelled() {
        return Err(StoreError::Cancelled.into());
    }
    drop(done);
    let table = Arc::try_unwrap(table).unwrap_or_else(|shared| (*shared).clone());
    Ok(Examined { table, bad, bytes })
}

/// Every volume that is missing or damaged, with the bytes that are; and how many bytes were hashed. `good`: see
/// [`examine`].
pub(in crate::bundle) async fn check(
    set: &VolumeSet,
    good: &[Range<u64>],
    events: &Events,
    cancel: &CancellationToken,
) -> Result<(Vec<BadVolume>, u64), VolumeError> {
    let examined = examine(set, good, events, cancel).await?;
    let told = examined.bad.iter().map(|(number, bad)| tell(set, *number, bad)).collect();
    Ok((told, examined.bytes))
}

pub(super) fn tell(set: &VolumeSet, number: u64, bad: &Bad) -> BadVolume {
    let header = set.header.numbered(number);
    let called = super::find::called(&header);
    if bad.missing {
        let file = set.folder.join(header.file_name());
        let reason = set.lack(number).unwrap_or_default();
        return BadVolume { file, number, missing: true, reason, ranges: Vec::new() };
    }
    let file = set.volumes.get(&number).map(|v| v.path.clone()).unwrap_or_default();
    let mut ranges = Vec::new();
    if bad.front {
        ranges.push((0, HEADER));
    }
    for chunk in &bad.chunks {
        let (start, len) = set.header.place(number, *chunk);
        merge(&mut ranges, HEADER + start, HEADER + start + len);
    }
    if bad.table {
        let start = HEADER + set.header.payload(number);
        merge(&mut ranges, start, start + set.header.table_len());
    }
    let mut why: Vec<String> = bad.length.iter().cloned().collect();
    if !bad.chunks.is_empty() {
        let n = bad.chunks.len();
        why.push(format!("{n} of {} chunks are not what they were", set.header.chunks(number)));
    }
    if bad.front || bad.table {
        why.push("what it says of itself is damaged".to_owned());
    }
    ranges.truncate(MAX_RANGES);
    BadVolume { file, number, missing: false, reason: format!("volume {called}: {}", why.join("; ")), ranges }
}

fn merge(ranges: &mut Vec<(u64, u64)>, start: u64, end: u64) {
    match ranges.last_mut() {
        Some((_, last)) if *last == start => *last = end,
        _ => ranges.push((start, end)),
    }
}
