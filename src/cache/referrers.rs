//! Signatures, attestations and SBOMs of cached images: `metadata/signatures/` says what refers to an image, so that
//! a build without registries has them too. Their blobs lie among all others, and stay as long as the image does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::metadata::Metadata;
use super::pull::offload;
use super::{CacheError, ImageCache, rfc3339};
use crate::bundle::about;
use crate::graph::{ImageGraph, Walk};
use crate::oci::media::Kind;
use crate::oci::{Descriptor, Digest, ImageRef};
use crate::registry::Referrer;
use crate::store::{StoreError, write_small};

/// Of the file's form.
const VERSION: u32 = 1;

/// What registries said refers to an image. Written after all of its blobs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answers {
    version: u32,
    /// RFC 3339.
    updated: String,
    /// What was asked about: the image's index and those of its manifests that were taken. Nothing is known of others.
    subjects: BTreeSet<Digest>,
    referrers: Vec<Kept>,
}

/// One thing that refers to an image.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    subject: Digest,
    /// The name under which its registry has it: a tag, or its digest.
    name: ImageRef,
    root: Descriptor,
    /// Children before parents.
    blobs: Vec<Descriptor>,
}

impl Kept {
    fn parts(&self) -> (&Digest, &[Descriptor]) {
        (&self.subject, &self.blobs)
    }
}

/// The index and the manifests of an image: what others refer to.
fn subjects(of: &ImageGraph) -> BTreeSet<Digest> {
    of.blobs.iter().filter(|b| b.kind() != Kind::Blob).map(|b| b.digest().clone()).collect()
}

impl ImageCache {
    /// `None`: nobody asked, or what is there is no answer.
    fn answers(&self, image: &Digest) -> Result<Option<Answers>, CacheError> {
        let Some(bytes) = self.metadata(Metadata::Signatures, image)? else { return Ok(None) };
        Ok(serde_json::from_slice(&bytes).ok().filter(|a: &Answers| a.version == VERSION))
    }

    /// The blobs of all that refers to an image.
    pub(super) fn blobs_about(&self, image: &Digest) -> Result<Vec<Descriptor>, CacheError> {
        let answers = self.answers(image)?;
        Ok(answers.into_iter().flat_map(|a| a.referrers).flat_map(|r| r.blobs).collect())
    }

    /// [`ImageCache::blobs_about`] every image.
    pub(super) fn all_blobs_about(&self) -> Result<BTreeMap<Digest, Vec<Descriptor>>, CacheError> {
        let mut all = BTreeMap::new();
        for digest in self.with_metadata(Metadata::Signatures)? {
            let blobs = self.blobs_about(&digest)?;
            all.insert(digest, blobs);
        }
        Ok(all)
    }

    /// Whether an image was pulled with what refers to it, and something of that is gone or was damaged.
    pub(super) fn lost_referrers(&self, of: &ImageGraph) -> Result<bool, CacheError> {
        let blobs = self.blobs_about(of.root.digest())?;
        Ok(blobs.iter().any(|b| !self.has(b)))
    }

    /// Keeps what refers to an image; all blobs are there. What was known of others of its manifests stays.
    pub(super) async fn keep_referrers(&self, of: &ImageGraph, found: &[Referrer]) -> Result<(), CacheError> {
        let (this, root, asked) = (self.clone(), of.root.digest().clone(), subjects(of));
        let new = found.iter().map(|r| {
            let (image, root) = (&r.graph.image, &r.graph.root);
            let name = if image.tag().is_some() { image.clone() } else { image.at(root.digest().clone()) };
            let bare = Descriptor::new(root.media_type(), root.digest().clone(), root.size());
            Kept { subject: r.subject.clone(), name, root: bare, blobs: r.graph.blobs.clone() }
        });
        let new: Vec<Kept> = new.collect();
        offload(move || {
            let _content = this.content_shared()?;
            let blobs: Vec<Descriptor> = new.iter().flat_map(|r| r.blobs.iter().cloned()).collect();
            if let Some(blob) = this.first_missing(&blobs)? {
                let (digest, store) = (blob.digest().clone(), this.root.display().to_string());
                return Err(StoreError::NotFound { digest, store }.into());
            }
            let _names = this.names_alone()?;
            let earlier = this.answers(&root)?;
            let (mut known, mut referrers) =
                earlier.map_or_else(Default::default, |a| (a.subjects, a.referrers));
            known.retain(|d| !asked.contains(d));
            referrers = about(&known, &referrers, Kept::parts).into_iter().cloned().collect();
            referrers.retain(|r| !new.iter().any(|n| n.name == r.name));
            referrers.extend(new);
            referrers.sort_by(|a, b| a.name.cmp(&b.name));
            known.extend(asked);
            let updated = rfc3339(SystemTime::now());
            let answers = Answers { version: VERSION, updated, subjects: known, referrers };
            let path = this.metadata_path(Metadata::Signatures, &root);
            let text = serde_json::to_vec_pretty(&answers)
                .map_err(|e| StoreError::Remote(format!("cannot write {}: {e}", path.display())))?;
            Ok(write_small(&path, &text)?)
        })
        .await
    }

    /// What refers to an image, read from the cache alone.
    ///
    /// # Errors
    /// [`CacheError::Incomplete`] when that was not asked for when the image was pulled, or part of it is missing;
    /// reading failed.
    pub async fn local_referrers(&self, of: &ImageGraph) -> Result<Vec<Referrer>, CacheError> {
        let (this, image, root) = (self.clone(), of.image.clone(), of.root.digest().clone());
        let wanted = subjects(of);
        offload(move || {
            let incomplete = |reason: String| CacheError::Incomplete {
                image: image.clone(),
                path: this.root.clone(),
                reason,
            };
            let answers = this.answers(&root)?.filter(|a| wanted.is_subset(&a.subjects));
            let Some(answers) = answers else {
                return Err(incomplete("it was pulled without asking what refers to it".to_owned()));
            };
            let _content = this.content_shared()?;
            let mut found = Vec::new();
            for kept in about(&wanted, &answers.referrers, Kept::parts) {
                let walk = Walk::new(kept.name.clone(), kept.root.clone(), &[]).with_foreign();
                let graph = match this.walk_documents(walk)? {
                    Some(Ok(graph)) => graph,
                    Some(Err(error)) => return Err(incomplete(error.to_string())),
                    None => return Err(incomplete(format!("a document of {} is missing", kept.name))),
                };
                if let Some(blob) = this.first_missing(&graph.blobs)? {
                    return Err(incomplete(format!("blob {} of {} is missing", blob.digest(), kept.name)));
                }
                found.push(Referrer { subject: kept.subject.clone(), graph });
            }
            Ok(found)
        })
        .await
    }
}
