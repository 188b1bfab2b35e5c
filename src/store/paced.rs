//! A limit on how fast blobs are read: what is read more slowly is sent more slowly, whatever it is sent through.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::{BlobSource, ByteStream, StoreError};
use crate::oci::{Descriptor, Digest};

/// Bytes a second that everything which holds a clone shares. Unlimited by default.
#[derive(Clone, Default)]
pub struct Pace(Vec<Arc<Limit>>);

struct Limit {
    bucket: Mutex<Bucket>,
    rate: u64,
    since: Instant,
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|l| l.rate)).finish()
    }
}

impl Pace {
    /// At most so many bytes a second; `None`, and 0: no limit.
    pub fn new(rate: Option<u64>) -> Self {
        Self::default().and(rate)
    }

    /// A further limit beside those that are there: of one node within that of a run.
    #[must_use]
    pub fn and(&self, rate: Option<u64>) -> Self {
        let mut all = self.0.clone();
        if let Some(rate) = rate.filter(|&r| r > 0) {
            let bucket = Mutex::new(Bucket::new(rate));
            all.push(Arc::new(Limit { bucket, rate, since: Instant::now() }));
        }
        Self(all)
    }

    /// Whether there is no limit at all.
    pub fn is_free(&self) -> bool {
        self.0.is_empty()
    }

    /// How much may be asked for at once so that those who share the limit come to their turns, in bytes.
    fn slice(&self) -> usize {
        let rate = self.0.iter().map(|l| l.rate).min().unwrap_or(u64::MAX);
        usize::try_from(rate / 32).unwrap_or(usize::MAX).clamp(1 << 10, 256 << 10)
    }

    /// Waits until so many bytes may go.
    pub async fn take(&self, bytes: u64) {
        let wait = |limit: &Arc<Limit>| {
            let mut bucket = limit.bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.take(limit.since.elapsed(), bytes)
        };
        // Each limit is told, then the longest wait counts for all.
        if let Some(longest) = self.0.iter().map(wait).max()
            && !longest.is_zero()
        {
            tokio::time::sleep(longest).await;
        }
    }
}

/// A token bucket that goes into debt: whoever takes more than there is waits until it is paid back, so that takers of any
/// size get their share in the order in which they ask. Tokens are bytes.
#[derive(Debug)]
struct Bucket {
    rate: u64,
    /// What may go at once after a pause.
    burst: u64,
    /// Nanoseconds since the bucket's beginning at which all that was taken is paid for.
    paid: u128,
}

const SECOND: u128 = 1_000_000_000;

impl Bucket {
    fn new(rate: u64) -> Self {
        Self { rate, burst: rate / 8, paid: 0 }
    }

    fn cost(&self, bytes: u64) -> u128 {
        u128::from(bytes) * SECOND / u128::from(self.rate)
    }

    /// Takes `bytes` at the time `now`; how long to wait before they go.
    fn take(&mut self, now: Duration, bytes: u64) -> Duration {
        let now = now.as_nanos();
        // What was not used is kept, up to the burst.
        let saved = self.cost(self.burst);
        self.paid = self.paid.max(now.saturating_sub(saved)) + self.cost(bytes);
        Duration::from_nanos(u64::try_from(self.paid.saturating_sub(now)).unwrap_or(u64::MAX))
    }
}

/// A source that is read no faster than its pace.
pub struct Paced {
    source: Arc<dyn BlobSource>,
    pace: Pace,
}

impl Paced {
    /// `source` itself where there is no limit.
    pub fn source(source: Arc<dyn BlobSource>, pace: Pace) -> Arc<dyn BlobSource> {
        if pace.is_free() { source } else { Arc::new(Self { source, pace }) }
    }
}

#[async_trait]
impl BlobSource for Paced {
    fn label(&self) -> String {
        self.source.label()
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        self.source.size(digest).await
    }

    async fn read(&self, blob: &Descriptor, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let stream = self.source.read(blob, range).await?;
        let state = (stream, Bytes::new(), self.pace.clone());
        Ok(Box::pin(futures_util::stream::unfold(state, |(mut stream, mut rest, pace)| async move {
            if rest.is_empty() {
                match stream.next().await? {
                    Ok(chunk) => rest = chunk,
                    Err(error) => return Some((Err(error), (stream, rest, pace))),
                }
            }
            let now = rest.split_to(pace.slice().min(rest.len()));
            pace.take(now.len() as u64).await;
            Some((Ok(now), (stream, rest, pace)))
        })))
    }

    async fn disown(&self, blob: &Descriptor) -> Result<bool, StoreError> {
        self.source.disown(blob).await
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::MemoryStore;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn what_is_taken_is_waited_for() {
        let mut bucket = Bucket::new(1000);
        // 125 bytes are free after the bucket has filled.
        assert_eq!(bucket.take(MS(1000), 125), MS(0));
        assert_eq!(bucket.take(MS(1000), 500), MS(500));
        assert_eq!(bucket.take(MS(1000), 500), MS(1000));
        assert_eq!(bucket.take(MS(1500), 100), MS(600));
        // A long pause saves no more than the burst.
        assert_eq!(bucket.take(MS(60_000), 225), MS(100));
    }

    proptest! {
        #[test]
        fn no_more_goes_than_rate_and_burst_allow(rate in 1u64..1 << 40, takes in prop::collection::vec((0u64..5_000, 0u64..10 << 20), 1..50)) {
            let mut bucket = Bucket::new(rate);
            let (mut now, mut gone, mut first) = (Duration::ZERO, 0u128, None);
            for (pause, bytes) in takes {
                now += MS(pause);
                let wait = bucket.take(now, bytes);
                let from = *first.get_or_insert(now);
                now += wait;
                gone += u128::from(bytes);
                let allowed = (now - from).as_nanos() * u128::from(rate) / SECOND + u128::from(rate / 8);
                // Rounding of each take loses less than a byte's time.
                prop_assert!(gone <= allowed + 50 + u128::from(rate) * 50 / SECOND, "{gone} > {allowed}");
            }
        }
    }

    #[test]
    fn limits_add_up_to_the_tightest() {
        assert!(Pace::new(None).is_free() && Pace::new(Some(0)).is_free());
        let run = Pace::new(Some(32 << 20));
        assert_eq!(format!("{:?}", run.and(Some(64 << 10))), format!("[{}, {}]", 32 << 20, 64 << 10));
        assert_eq!((run.slice(), run.and(Some(64 << 10)).slice()), (256 << 10, 2 << 10));
        assert!(Arc::ptr_eq(&run.0[0], &run.and(Some(1)).0[0]), "a node's limit is within the run's own");
    }

    #[tokio::test]
    async fn bytes_are_the_same_in_smaller_pieces() {
        let store = MemoryStore::new();
        let text: Vec<u8> = (0..100_000u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let blob = store.insert("x", text.clone());
        let paced = Paced::source(Arc::new(store), Pace::new(Some(100 << 20)));
        let mut all = Vec::new();
        let mut stream = paced.read(&blob, 10..100_000).await.unwrap();
        while let Some(piece) = stream.next().await {
            all.extend_from_slice(&piece.unwrap());
        }
        assert_eq!(all, text[10..]);
    }
}
