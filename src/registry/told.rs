//! What is told of hosts, and remembered of them: each thing once.

use std::sync::PoisonError;

use reqwest::header::HeaderMap;

use super::RegistryError;
use super::http::{Http, Target};
use super::places::Place;
use crate::event::{Event, Events};
use crate::oci::{Digest, ImageRef};

impl Http {
    /// True the first time.
    pub(super) fn first_time(&self, what: String) -> bool {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(what)
    }

    /// Remembers who gives the bytes of a blob, if that is not the registry itself.
    pub(super) fn serves(&self, digest: &Digest, place: &Place) {
        if !place.upstream {
            let mut all = self.mirrored.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry((digest.clone(), place.name.clone())).or_insert(false);
        }
    }

    /// Holds a mirror responsible for the bytes of a blob and says which one; nothing when none gave any.
    pub(super) fn blame(&self, digest: &Digest) -> Option<String> {
        let mut all = self.mirrored.lock().unwrap_or_else(PoisonError::into_inner);
        let (key, wrong) = all.iter_mut().find(|((of, _), wrong)| of == digest && !**wrong)?;
        *wrong = true;
        Some(key.1.clone())
    }

    pub(super) fn is_blamed(&self, digest: &Digest, place: &Place) -> bool {
        let all = self.mirrored.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&(digest.clone(), place.name.clone())).copied().unwrap_or(false)
    }

    /// Tells that a mirror serves an image, once.
    pub(super) fn served(&self, target: &Target<'_>, image: &ImageRef, events: &Events) {
        if target.place.skip_verify && self.first_time(format!("skip {}", target.registry)) {
            let message = format!(
                "the certificate of {} is not checked, as its configuration says: what a tag stands for is its word alone",
                target.registry
            );
            events.emit(Event::Warning { message });
        }
        if target.place.upstream || !self.first_time(format!("{} {}", target.registry, image.name())) {
            return;
        }
        events.emit(Event::Mirror { image: image.name(), mirror: target.registry.to_owned() });
    }

    /// Tells that a mirror does not have something, once for each image.
    pub(super) fn passed_over(
        &self,
        target: &Target<'_>,
        image: &ImageRef,
        error: &RegistryError,
        events: &Events,
    ) {
        if matches!(
            error,
            RegistryError::Refused { .. }
                | RegistryError::Dns { .. }
                | RegistryError::Tls { .. }
                | RegistryError::PlainHttp { .. }
                | RegistryError::Timeout { .. }
        ) {
            target.place.is_down();
        }
        if self.first_time(format!("not {} {}", target.registry, image.name())) {
            let (mirror, reason) = (target.registry.to_owned(), error.to_string());
            events.emit(Event::MirrorFailed { image: image.name(), mirror, reason });
        }
    }

    /// Tells how many requests a registry says are left, whenever that became half as many.
    pub(super) fn rate(&self, target: &Target<'_>, headers: &HeaderMap, events: &Events) {
        let number = |name: &str| {
            let value = headers.get(name)?.to_str().ok()?;
            let mut parts = value.split(';');
            let n = parts.next()?.trim().parse::<u64>().ok()?;
            let window = parts.find_map(|p| p.trim().strip_prefix("w=")?.parse::<u64>().ok());
            Some((n, window))
        };
        let Some((remaining, window)) = number("ratelimit-remaining") else { return };
        let limit = number("ratelimit-limit");
        {
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            let last = left.get(target.registry).copied();
            if last.is_some_and(|last| remaining > last / 2 && remaining <= last) {
                return;
            }
            left.insert(target.registry.to_owned(), remaining);
        }
        events.emit(Event::RateLimit {
            registry: target.registry.to_owned(),
            remaining,
            limit: limit.map(|(n, _)| n),
            window_s: window.or_else(|| limit.and_then(|(_, w)| w)),
        });
    }
}
