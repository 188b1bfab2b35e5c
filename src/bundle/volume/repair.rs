//! Volumes that are missing or damaged, computed again from the others: stripe by stripe, so that as much may be lost
//! of each place of the set as there is parity, on whichever volumes.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::VolumeError;
use super::check::{Bad, Examined, examine};
use super::find::VolumeSet;
use super::header::{HASH, HEADER, Header, Table, sha256};
use super::parity::{Decoder, piece};
use super::split::{Begun, read_piece};
use crate::event::{Event, Events};
use crate::oci::Digest;
use crate::store::{StoreError, parent, room, sync_folder};

/// What was done. Sizes are bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepairReport {
    /// Identity of the set.
    pub set: Digest,
    /// Volumes of the set.
    pub volumes: u64,
    /// Those that were written anew; none: all was whole.
    pub rebuilt: Vec<Rebuilt>,
}

/// A volume that is whole again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rebuilt {
    /// The file.
    pub file: PathBuf,
    /// Why.
    pub reason: String,
    /// Bytes that were computed; the rest of it was copied from what was left.
    pub computed: u64,
    /// Of the whole file.
    pub sha256: String,
}

/// Makes every volume of a set whole. A damaged file is replaced by a new one, a missing one is written beside the
/// others; or, with `output`, both go there and nothing else is touched.
///
/// # Errors
/// When more is lost than parity can stand in for, or there is no room: before anything is written.
pub async fn repair(
    paths: &[PathBuf],
    output: Option<PathBuf>,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<RepairReport, VolumeError> {
    let owned = paths.to_vec();
    let set = tokio::task::spawn_blocking(move || VolumeSet::find(&owned)).await;
    let set = set.map_err(|_| StoreError::Cancelled)??;
    let Examined { table, bad, .. } = examine(&set, &[], events, cancel).await?;
    let (id, volumes) = (set.header.set.clone(), set.header.count());
    if bad.is_empty() {
        return Ok(RepairReport { set: id, volumes, rebuilt: Vec::new() });
    }
    possible(&set.header, &bad)?;
    events.emit(Event::Phase { name: "repair", total: Some(bad.len() as u64) });
    let cancel = cancel.clone();
    let work = move || Repair { set, table, bad, output, cancel }.run();
    let rebuilt = tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Cancelled)??;
    Ok(RepairReport { set: id, volumes, rebuilt })
}

/// Whether every stripe has enough left.
fn possible(header: &Header, bad: &BTreeMap<u64, Bad>) -> Result<(), VolumeError> {
    let mut by_stripe: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (number, bad) in bad {
        bad.chunks.iter().for_each(|chunk| by_stripe.entry(*chunk).or_default().push(*number));
    }
    let worst = by_stripe.into_values().max_by_key(Vec::len).unwrap_or_default();
    if worst.len() as u64 > header.parity {
        let damaged = worst.into_iter().map(|n| header.numbered(n).file_name()).collect();
        return Err(VolumeError::Beyond { damaged, parity: header.parity });
    }
    Ok(())
}

struct Repair {
    set: VolumeSet,
    table: Table,
    bad: BTreeMap<u64, Bad>,
    output: Option<PathBuf>,
    cancel: CancellationToken,
}

impl Repair {
    /// Blocks.
    fn run(self) -> Result<Vec<Rebuilt>, VolumeError> {
        let header = &self.set.header;
        let mut begun = BTreeMap::new();
        if let Some(folder) = &self.output {
            std::fs::create_dir_all(folder).map_err(|e| StoreError::io("create", folder)(e))?;
        }
        for (number, folder) in self.bad.keys().map(|n| (*n, self.folder_of(*n))) {
            self.refuse_stranger(number, &folder)?;
            // Those for the same folder are counted together by asking for the rest of them each time.
            let rest = self.bad.keys().filter(|n| **n >= number && self.folder_of(**n) == folder);
            room(&folder.join("x"), rest.map(|n| header.file_len(*n)).fold(0, u64::saturating_add), 0)?;
            begun.insert(number, Begun::new(&folder, header.numbered(number))?);
        }
        let done = self.write(&mut begun);
        if done.is_err() {
            // Of no use to another run; the error that is returned matters more.
            begun.values().for_each(|v| drop(std::fs::remove_file(&v.path)));
        }
        done
    }

    /// A volume of another set may lie where a missing one belongs; only its owner knows whether it is of use.
    fn refuse_stranger(&self, number: u64, folder: &std::path::Path) -> Result<(), VolumeError> {
        let path = folder.join(self.set.header.numbered(number).file_name());
        match VolumeSet::find(std::slice::from_ref(&path)) {
            Ok(other) if path.is_file() && other.id() != self.set.id() => {
                let reason = "it belongs to another set; move it away".to_owned();
                Err(VolumeError::Occupied { path, reason })
            }
            _ => Ok(()),
        }
    }

    fn folder_of(&self, number: u64) -> PathBuf {
        let beside = self.set.volumes.get(&number).map(|v| parent(&v.path).to_owned());
        self.output.clone().or(beside).unwrap_or_else(|| self.set.folder.clone())
    }

    fn write(&self, begun: &mut BTreeMap<u64, Begun>) -> Result<Vec<Rebuilt>, VolumeError> {
        let header = &self.set.header;
        let mut decoder = if header.parity > 0 { Some(Decoder::new(header)?) } else { None };
        for stripe in 0..header.stripes() {
            if self.cancel.is_cancelled() {
                return Err(StoreError::Cancelled.into());
            }
            let lost: BTreeSet<u64> =
                self.bad.iter().filter(|(_, b)| b.chunks.contains(&stripe)).map(|(n, _)| *n).collect();
            for (number, volume) in begun.iter_mut() {
                if !lost.contains(number) && stripe < header.chunks(*number) {
                    self.copy(*number, stripe, volume)?;
                }
            }
            if let (false, Some(decoder)) = (lost.is_empty(), &mut decoder) {
                self.compute(stripe, &lost, decoder, begun)?;
            }
        }
        let table = self.table.encode(header);
        let mut rebuilt = Vec::new();
        for (number, volume) in begun.iter_mut() {
            let sha256 = volume.end(&table)?;
            let told = self.bad.get(number).map(|bad| super::check::tell(&self.set, *number, bad));
            let chunks = self.bad.get(number).into_iter().flat_map(|b| &b.chunks);
            let computed = chunks.map(|c| header.place(*number, *c).1).sum();
            let reason = told.map(|t| t.reason).unwrap_or_default();
            rebuilt.push(Rebuilt { file: PathBuf::new(), reason, computed, sha256 });
        }
        for (volume, rebuilt) in begun.values().zip(&mut rebuilt) {
            rebuilt.file = volume.name()?;
            // One that had another name than it should is not there twice.
            let old = self.set.volumes.get(&volume.header.number).map(|v| &v.path);
            if let Some(old) = old.filter(|old| self.output.is_none() && **old != rebuilt.file) {
                std::fs::remove_file(old).map_err(StoreError::io("remove", old))?;
            }
            sync_folder(parent(&rebuilt.file))?;
        }
        Ok(rebuilt)
    }

    /// A chunk that was good when it was looked at, and is looked at again.
    fn copy(&self, number: u64, chunk: u64, to: &mut Begun) -> Result<(), VolumeError> {
        let header = &self.set.header;
        let Some(volume) = self.set.volumes.get(&number) else { return Ok(()) };
        let (start, len) = header.place(number, chunk);
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        let read = volume.file.read_exact_at(&mut bytes, HEADER + start);
        read.map_err(StoreError::io("read", &volume.path))?;
        self.proved(number, chunk, &sha256(&bytes))?;
        Ok(to.put(&bytes)?)
    }

    fn proved(&self, number: u64, chunk: u64, found: &[u8; HASH]) -> Result<(), VolumeError> {
        let header = &self.set.header;
        if self.table.hash(header, number, chunk) == Some(found) {
            return Ok(());
        }
        let text =
            format!("{} changed while it was repaired; run it again", header.numbered(number).file_name());
        Err(StoreError::Remote(text).into())
    }

    fn compute(
        &self,
        stripe: u64,
        lost: &BTreeSet<u64>,
        decoder: &mut Decoder,
        begun: &mut BTreeMap<u64, Begun>,
    ) -> Result<(), VolumeError> {
        let header = &self.set.header;
        let len = piece(header);
        let mut hashers: BTreeMap<u64, Sha256> = lost.iter().map(|n| (*n, Sha256::new())).collect();
        for part in 0..header.chunk / len as u64 {
            let at = stripe * header.chunk + part * len as u64;
            let mut pieces = Vec::new();
            for number in 1..=header.count() {
                pieces.push(match self.set.volumes.get(&number) {
                    Some(v) if !lost.contains(&number) => {
                        Some(read_piece(&v.file, &v.path, header, number, at, len)?)
                    }
                    // Behind the end of a volume there are zeros, whether it is there or not.
                    _ if header.payload(number) <= at => Some(vec![0; len]),
                    _ => None,
                });
            }
            decoder.complete(&mut pieces)?;
            for number in lost {
                let piece =
                    usize::try_from(number - 1).ok().and_then(|i| pieces.get(i)).and_then(Option::as_ref);
                let (Some(piece), Some(volume)) = (piece, begun.get_mut(number)) else { continue };
                let there = header.payload(*number).saturating_sub(at).min(len as u64);
                let piece = &piece[..usize::try_from(there).unwrap_or(0)];
                volume.put(piece)?;
                if let Some(hasher) = hashers.get_mut(number) {
                    hasher.update(piece);
                }
            }
        }
        for (number, hasher) in hashers {
            self.proved(number, stripe, &hasher.finalize().into())?;
        }
        Ok(())
    }
}
