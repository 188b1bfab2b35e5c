//! The manifests of a push, and what becomes of an index that lists what is not at hand.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::destination::Destination;
use super::{PushError, PushImage, PushOptions, PushState, PushedImage};
use crate::event::{Event, Events};
use crate::oci::media::{self, Kind};
use crate::oci::{Descriptor, Digest, MAX_MANIFEST_BYTES, Manifest};
use crate::registry::RegistryError;
use crate::store::read_verified;

/// Manifests, then the tag.
pub(super) async fn finish(
    image: &PushImage,
    place: Option<Destination>,
    options: PushOptions,
    events: &Events,
) -> Result<PushedImage, PushError> {
    let root = &image.graph.root;
    let Some(place) = place else { return Err(PushError::Cancelled) };
    let reduced = reduced(image, root).await?;
    let pushed = |digest: &Digest, state| PushedImage {
        name: image.name.clone(),
        target: image.target.clone(),
        digest: digest.clone(),
        source_digest: root.digest().clone(),
        state,
        partial: reduced.is_some(),
    };
    let there = match image.target.tag() {
        Some(tag) => place.tagged(tag).await?,
        None => place.has("manifests", root.digest()).await?.then(|| root.digest().clone()),
    };
    // What an earlier push had to make of it is there as well, unless that is not wanted.
    let made = reduced.as_deref().map(Digest::sha256).filter(|_| !options.keep_digests);
    if let Some(there) = there.filter(|d| d == root.digest() || made.as_ref() == Some(d)) {
        return Ok(pushed(&there, PushState::Present));
    }
    if options.dry_run {
        return Ok(pushed(root.digest(), PushState::Pushed));
    }
    for document in image.graph.blobs.iter().filter(|b| b.kind() != Kind::Blob && b.digest() != root.digest())
    {
        if !place.has("manifests", document.digest()).await? {
            let bytes = bytes_of(image, document).await?;
            put(&place, &document.digest().to_string(), document, &bytes).await?;
        }
    }
    let bytes = bytes_of(image, root).await?;
    // By its digest first: a tag is what makes it visible.
    match put(&place, &root.digest().to_string(), root, &bytes).await {
        Ok(()) => {
            if let Some(tag) = image.target.tag() {
                place.put_manifest(tag, root.media_type(), &bytes).await?;
            }
            Ok(pushed(root.digest(), PushState::Pushed))
        }
        Err(PushError::Registry(refusal)) if about_entries(&refusal) => {
            let Some(reduced) = &reduced else { return Err(refusal.into()) };
            let (Some(tag), false) = (image.target.tag(), options.keep_digests) else {
                let advice = "it takes no index whose other platforms are missing: build the bundle with --platform all";
                let (what, registry) = (image.target.to_string(), image.target.registry().to_owned());
                let reason = format!("{advice} ({refusal})");
                return Err(RegistryError::Protocol { what, registry, reason }.into());
            };
            let digest = Digest::sha256(reduced);
            place.put_manifest(tag, root.media_type(), reduced).await?;
            let message = format!(
                "{}: the registry takes no index with platforms missing, and was given one of those that are there: its digest is {digest}, not {}; --platform all takes every platform, and the digest stays",
                image.target,
                root.digest()
            );
            events.emit(Event::Warning { message });
            Ok(pushed(&digest, PushState::Reduced))
        }
        Err(other) => Err(other),
    }
}

async fn bytes_of(image: &PushImage, document: &Descriptor) -> Result<Bytes, PushError> {
    if let Some(bytes) = image.graph.documents.get(document.digest()) {
        return Ok(bytes.clone());
    }
    Ok(read_verified(image.source.as_ref(), document, MAX_MANIFEST_BYTES).await?)
}

/// Puts a manifest, and lists it among its subject's referrers where the registry does not do so itself.
async fn put(
    place: &Destination,
    reference: &str,
    document: &Descriptor,
    bytes: &Bytes,
) -> Result<(), PushError> {
    let headers = place.put_manifest(reference, document.media_type(), bytes).await?;
    let Ok(Manifest::Image(manifest)) = Manifest::parse(document, bytes) else { return Ok(()) };
    let Some(subject) = &manifest.subject else { return Ok(()) };
    if !headers.contains_key("oci-subject") {
        place.list_referrer(subject.digest(), document, bytes).await?;
    }
    Ok(())
}

/// Whether a refusal of an index can be about what it lists.
fn about_entries(refusal: &RegistryError) -> bool {
    match refusal {
        RegistryError::NotFound { .. } => true,
        RegistryError::Status { status, .. } => matches!(status.as_u16(), 400 | 412 | 422),
        _ => false,
    }
}

/// The same index with those entries alone that are at hand; nothing where it has all, or is none.
async fn reduced(image: &PushImage, root: &Descriptor) -> Result<Option<Bytes>, PushError> {
    if media::kind(root.media_type()) != Kind::Index {
        return Ok(None);
    }
    Ok(without_missing(image, &bytes_of(image, root).await?))
}

fn without_missing(image: &PushImage, bytes: &[u8]) -> Option<Bytes> {
    let have: BTreeSet<String> = image.graph.blobs.iter().map(|b| b.digest().to_string()).collect();
    let mut index: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let entries = index.get_mut("manifests")?.as_array_mut()?;
    let before = entries.len();
    entries.retain(|e| e.get("digest").and_then(|d| d.as_str()).is_some_and(|d| have.contains(d)));
    let shrunk = !entries.is_empty() && entries.len() < before;
    shrunk.then(|| serde_json::to_vec(&index).ok().map(Bytes::from)).flatten()
}
