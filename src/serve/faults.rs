use std::sync::{Arc, Mutex, PoisonError};

/// Which requests a fault is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// `GET` of a blob.
    Blob,
    /// `GET` of a manifest.
    Manifest,
    /// `HEAD` of either.
    Head,
    /// The token service.
    Token,
}

/// One way to misbehave.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The connection is closed after this many bytes of the body.
    Cut {
        /// Bytes that still come.
        after: u64,
    },
    /// The body stands still after this many bytes, and the connection stays open.
    Stall {
        /// Bytes that still come.
        after: u64,
    },
    /// A status instead of an answer.
    Status {
        /// For example 429.
        code: u16,
        /// The header `Retry-After`.
        retry_after: Option<String>,
    },
    /// The first byte of the body is another one.
    WrongBytes,
    /// The whole blob with status 200, whatever range was asked for.
    IgnoreRange,
    /// A part that starts one byte too late, with the headers of a part that does.
    WrongRange,
    /// More bytes behind the body, which has no stated length then.
    Extra {
        /// How many.
        bytes: u64,
    },
    /// A body without end.
    Endless,
    /// An error status with a body without end.
    EndlessError,
    /// 307 to another place; `/` at its end is followed by the path that was asked for.
    Redirect {
        /// An absolute URL.
        to: String,
    },
    /// 401, as if the token had been withdrawn.
    Refuse,
    /// A `Docker-Content-Digest` of something else.
    WrongDigestHeader,
    /// No `Docker-Content-Digest`.
    NoDigestHeader,
}

/// Faults that wait for their request. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<Vec<(Scope, u32, Fault)>>>);

impl Faults {
    /// None.
    pub fn none() -> Self {
        Self::default()
    }

    /// The next `times` requests of this kind go wrong, after those of faults that were added before.
    pub fn add(&self, scope: Scope, times: u32, fault: Fault) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((scope, times, fault));
    }

    /// Forgets all that still wait.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// How many requests are still to go wrong.
    pub fn waiting(&self) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(_, times, _)| times).sum()
    }

    pub(super) fn take(&self, scope: Scope) -> Option<Fault> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = all.iter().position(|(s, times, _)| *s == scope && *times > 0)?;
        all[at].1 -= 1;
        let fault = all[at].2.clone();
        all.retain(|(_, times, _)| *times > 0);
        Some(fault)
    }
}
