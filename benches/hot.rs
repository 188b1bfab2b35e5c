//! The hot paths: `cargo bench`. Side-by-side runs against other tools are in `bench/compare`.

#![allow(clippy::unwrap_used, missing_docs)]

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use omk::copy::{Job, Transfer, copy_all};
use omk::event::silent;
use omk::oci::{Descriptor, Digest, ImageRef, media};
use omk::store::archive::{Archive, ArchiveWriter, Layout, Stamp};
use omk::store::{BlobSource, MemoryStore};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

fn main() {
    divan::main();
}

fn blobs(count: usize, size: usize) -> (Arc<dyn BlobSource>, Vec<Descriptor>) {
    let store = MemoryStore::new();
    let blob = |i: usize| store.insert(media::OCI_LAYER, vec![u8::try_from(i % 251).unwrap_or(0); size + i]);
    let blobs = (0..count).map(blob).collect();
    (Arc::new(store), blobs)
}

fn write(
    runtime: &tokio::runtime::Runtime,
    out: &std::path::Path,
    from: &Arc<dyn BlobSource>,
    blobs: &[Descriptor],
) {
    let layout = Layout::new(blobs.iter().map(|b| (b.digest().layout_path(), b.size())));
    let (writer, _) = ArchiveWriter::begin(out, Stamp::of(out).unwrap(), layout, blobs, &[]).unwrap();
    let all = blobs.iter().map(|b| Transfer { blob: b.clone(), source: Arc::clone(from) }).collect();
    let job = Job { events: silent(), cancel: CancellationToken::new(), node: None, parallel: 4 };
    runtime.block_on(copy_all(all, &writer, &job)).unwrap();
    writer.finish().unwrap();
}

/// 16 blobs of 8 MiB, hashed, written in place, synced.
#[divan::bench(sample_count = 10)]
fn write_archive(bencher: Bencher<'_, '_>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (from, blobs) = blobs(16, 8 << 20);
    let dir = tempfile::tempdir().unwrap();
    let bytes: u64 = blobs.iter().map(Descriptor::size).sum();
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        write(&runtime, &dir.path().join("x.tar"), &from, &blobs);
    });
}

/// Reading the headers of an archive of 5,000 blobs.
#[divan::bench(sample_count = 20)]
fn open_archive(bencher: Bencher<'_, '_>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (from, blobs) = blobs(5000, 16);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.tar");
    write(&runtime, &path, &from, &blobs);
    bencher.counter(ItemsCount::new(blobs.len())).bench_local(|| Archive::open(&path).unwrap());
}

#[divan::bench]
fn sha256(bencher: Bencher<'_, '_>) {
    let bytes = vec![7_u8; 1 << 20];
    bencher.counter(BytesCount::of_slice(&bytes)).bench_local(|| Digest::sha256(&bytes));
}

#[divan::bench]
fn parse_reference() -> ImageRef {
    divan::black_box("registry.example:5000/team/app:v1.2.3").parse().unwrap()
}
