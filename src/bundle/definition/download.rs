//! Files of a definition that are fetched from web servers, into a folder that keeps them by their digest.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Client, StatusCode, Url};
use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;

use super::gather::wanted;
use super::{Definition, FileEntry};
use crate::bundle::lock::Lock;
use crate::chart::fetch::http::{client, reason, shown};
use crate::event::{Event, Events};
use crate::oci::{Algorithm, Digest, Hasher};
use crate::store::{StoreError, blocking, sync_folder};

/// Bytes of one file.
const MAX_BYTES: u64 = 64 << 30;
const ATTEMPTS: u32 = 5;

/// Why a file could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// Nothing says what it should be.
    #[error("{url} has no sha256 in the definition and is not in the lock: add it, or run `omk bundle lock`")]
    Unknown {
        /// Where it is, without a login.
        url: String,
    },
    /// It is not at hand and must not be fetched.
    #[error("{url} was not fetched before, and --offline forbids to fetch it")]
    Offline {
        /// Where it is.
        url: String,
    },
    /// The server did not give it.
    #[error("cannot fetch {url}: {reason}")]
    Http {
        /// Where it is.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The bytes are others than those promised.
    #[error("{url} has SHA-256 {}, and {} is promised; it was changed on the way or by its publisher", found.hex(), expected.hex())]
    Digest {
        /// Where it is.
        url: String,
        /// Promised.
        expected: Digest,
        /// Of what came.
        found: Digest,
    },
    /// The folder cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Stopped; the next run goes on from there.
    #[error("cancelled")]
    Cancelled,
}

/// Fetches every file that has a URL into `cache`, and gives where it is then, by its path in the bundle. An interrupted
/// fetch goes on where it broke off.
///
/// With `locking`, a file of which nothing is known is taken as it is; else that is an error.
///
/// # Errors
/// The first file that cannot be had.
pub async fn download(
    definition: &Definition,
    lock: Option<&Lock>,
    locking: bool,
    offline: bool,
    cache: &Path,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<BTreeMap<String, PathBuf>, DownloadError> {
    let mut all = BTreeMap::new();
    for entry in &definition.spec.files {
        let (Some(url), Ok(target)) = (&entry.url, entry.target()) else { continue };
        let locked = lock.and_then(|l| l.files.get(&target)).map(|f| f.digest.clone());
        let expected = wanted(entry).or(locked.filter(|_| !locking));
        if expected.is_none() && !locking {
            return Err(DownloadError::Unknown { url: told(url) });
        }
        if let Some(digest) = &expected
            && let Some(path) = kept(cache, digest).await?
        {
            all.insert(target, path);
            continue;
        }
        if offline {
            return Err(DownloadError::Offline { url: told(url) });
        }
        let fetch = fetch(entry, url, expected.as_ref(), cache, events);
        let path = tokio::select! {
            () = cancel.cancelled() => return Err(DownloadError::Cancelled),
            path = fetch => path?,
        };
        all.insert(target, path);
    }
    Ok(all)
}

fn told(url: &str) -> String {
    Url::parse(url).map_or_else(|_| url.to_owned(), |u| shown(&u))
}

fn place(cache: &Path, digest: &Digest) -> PathBuf {
    cache.join(digest.algorithm().as_str()).join(digest.hex())
}

/// A file that is there and still what it was.
async fn kept(cache: &Path, digest: &Digest) -> Result<Option<PathBuf>, DownloadError> {
    let (path, digest) = (place(cache, digest), digest.clone());
    let check = move || match std::fs::File::open(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(StoreError::io("read", &path)(e)),
        Ok(mut file) => {
            let found = hash(&mut file, u64::MAX).map_err(StoreError::io("read", &path))?;
            Ok((found.finish() == digest).then_some(path))
        }
    };
    Ok(blocking(check).await?)
}

fn hash(file: &mut std::fs::File, limit: u64) -> std::io::Result<Hasher> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut buffer = vec![0; 1 << 20];
    let mut file = file.take(limit);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher),
            n => hasher.update(&buffer[..n]),
        }
    }
}

async fn fetch(
    entry: &FileEntry,
    url: &str,
    expected: Option<&Digest>,
    cache: &Path,
    events: &Events,
) -> Result<PathBuf, DownloadError> {
    let failed = |reason: String| DownloadError::Http { url: told(url), reason };
    let parsed = Url::parse(url).ok().filter(|u| matches!(u.scheme(), "http" | "https"));
    let parsed = parsed.ok_or_else(|| failed("it is no http:// or https:// address".into()))?;
    if parsed.scheme() == "http" && wanted(entry).is_none() {
        return Err(failed("plain http needs a sha256 in the definition".into()));
    }
    let client = client().build().map_err(|e| failed(reason(&e)))?;
    std::fs::create_dir_all(cache).map_err(StoreError::io("create", cache))?;
    let part = cache.join(format!("{}.part", Digest::sha256(url.as_bytes()).hex()));
    let mut pause = std::time::Duration::from_millis(500);
    for attempt in 1.. {
        match once(&client, &parsed, &part, events).await {
            Ok(()) => break,
            Err(Failed::Passing(reason)) if attempt < ATTEMPTS => {
                let delay_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                events.emit(Event::Retry { what: told(url), reason, delay_ms });
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            Err(Failed::Passing(reason) | Failed::Lasting(reason)) => return Err(failed(reason)),
            Err(Failed::Store(error)) => return Err(error.into()),
        }
    }
    let (cache, expected, shown) = (cache.to_owned(), expected.cloned(), told(url));
    let finish = move || -> Result<PathBuf, DownloadError> {
        let io = |action| StoreError::io(action, &part);
        let mut file = std::fs::File::open(&part).map_err(io("read"))?;
        let found = hash(&mut file, u64::MAX).map_err(io("read"))?.finish();
        if let Some(expected) = expected.filter(|e| *e != found) {
            // The next run must not go on from bytes that are wrong.
            std::fs::remove_file(&part).map_err(io("remove"))?;
            return Err(DownloadError::Digest { url: shown, expected, found });
        }
        file.sync_all().map_err(io("write"))?;
        let path = place(&cache, &found);
        let folder = path.parent().unwrap_or(&cache);
        std::fs::create_dir_all(folder).map_err(StoreError::io("create", folder))?;
        std::fs::rename(&part, &path).map_err(StoreError::io("write", &path))?;
        sync_folder(folder)?;
        Ok(path)
    };
    let done = tokio::task::spawn_blocking(finish).await;
    done.unwrap_or(Err(DownloadError::Cancelled))
}

enum Failed {
    /// Trying again may help.
    Passing(String),
    Lasting(String),
    Store(StoreError),
}

/// Brings the part to its end, from where it is.
async fn once(client: &Client, url: &Url, part: &Path, events: &Events) -> Result<(), Failed> {
    let io = |action| {
        let part = part.to_owned();
        move |e| Failed::Store(StoreError::io(action, part)(e))
    };
    let mut there = std::fs::metadata(part).map_or(0, |m| m.len());
    let mut request = client.get(url.clone());
    if there > 0 {
        request = request.header(RANGE, format!("bytes={there}-"));
    }
    let mut response = request.send().await.map_err(|e| match e.is_redirect() {
        true => Failed::Lasting(reason(&e)),
        false => Failed::Passing(reason(&e)),
    })?;
    let status = response.status();
    let range = response.headers().get(CONTENT_RANGE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    match status {
        // The server has nothing after what is there: it is whole, or it is another file and the digest tells.
        StatusCode::RANGE_NOT_SATISFIABLE if there > 0 => return Ok(()),
        StatusCode::PARTIAL_CONTENT if range.starts_with(&format!("bytes {there}-")) => {
            events.emit(Event::Warning { message: format!("{} goes on at {there} bytes", shown(url)) });
        }
        StatusCode::OK => there = 0,
        _ => {
            let text = format!("the server answers {status}");
            let passing = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
            return Err(if passing { Failed::Passing(text) } else { Failed::Lasting(text) });
        }
    }
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(part)
        .map_err(io("write"))?;
    file.set_len(there).map_err(io("write"))?;
    file.seek(SeekFrom::Start(there)).map_err(io("write"))?;
    let mut file = tokio::fs::File::from_std(file);
    while let Some(chunk) = response.chunk().await.map_err(|e| Failed::Passing(reason(&e)))? {
        there += chunk.len() as u64;
        if there > MAX_BYTES {
            return Err(Failed::Lasting(format!("it is larger than {MAX_BYTES} bytes")));
        }
        file.write_all(&chunk).await.map_err(io("write"))?;
    }
    file.flush().await.map_err(io("write"))?;
    Ok(())
}
