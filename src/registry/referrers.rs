//! What refers to an image: signatures, attestations and SBOMs, by the referrers API of distribution-spec 1.1, by the
//! tag that stands in for it, by cosign's tags, and by the entries that BuildKit puts into an index.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, LINK};
use tokio_util::sync::CancellationToken;

use super::http::Target;
use super::places::Use;
use super::{Ask, Registry, RegistryError, until_cancelled};
use crate::event::Events;
use crate::graph::ImageGraph;
use crate::oci::media::Kind;
use crate::oci::{Digest, ImageRef, MAX_MANIFEST_BYTES, Manifest};

/// Of one image, those of what refers to it counted.
const MAX_REFERRERS: usize = 256;
/// A signature of an SBOM of an image.
const MAX_DEPTH: usize = 3;
/// Pages of one list.
const MAX_PAGES: usize = 32;
/// What cosign puts at the end of a tag.
const COSIGN: [&str; 3] = ["sig", "att", "sbom"];
/// On an attestation that BuildKit puts into an index: what it is about.
const ABOUT: &str = "vnd.docker.reference.digest";

/// Something that refers to an image.
#[derive(Debug, Clone)]
pub struct Referrer {
    /// The manifest or index that it is about.
    pub subject: Digest,
    /// All that belongs to it; `graph.image` is its tag, or its digest.
    pub graph: ImageGraph,
}

impl Registry {
    /// All that refers to an image, to the chosen images of its index, and to what refers to these.
    ///
    /// # Errors
    /// Any [`RegistryError`]: also when something is listed and is not there.
    pub async fn referrers(
        &self,
        of: &ImageGraph,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<Vec<Referrer>, RegistryError> {
        until_cancelled(cancel, self.collect(of, events)).await
    }

    async fn collect(&self, of: &ImageGraph, events: &Events) -> Result<Vec<Referrer>, RegistryError> {
        let image = &of.image;
        let documents = of.blobs.iter().filter(|b| b.kind() != Kind::Blob);
        let mut queue: VecDeque<(Digest, usize)> = documents.map(|d| (d.digest().clone(), 0)).collect();
        let mut seen: BTreeSet<Digest> = queue.iter().map(|(digest, _)| digest.clone()).collect();
        let (mut found, mut inside) = (Vec::new(), attestations(of, &seen));
        while let Some((subject, depth)) = queue.pop_front() {
            let mut names: Vec<(ImageRef, bool)> = Vec::new();
            inside
                .iter()
                .filter(|(about, _)| *about == subject)
                .for_each(|(_, d)| names.push((image.at(d.clone()), true)));
            inside.retain(|(about, _)| *about != subject);
            let base = subject.to_string().replace(':', "-");
            let tag = |tag: String| format!("{}:{tag}", image.name()).parse::<ImageRef>().ok();
            match self.listed(image, &subject, events).await? {
                Some(digests) => names.extend(digests.into_iter().map(|d| (image.at(d), true))),
                None => names.extend(tag(base.clone()).map(|t| (t, false))),
            }
            names.extend(COSIGN.iter().filter_map(|end| Some((tag(format!("{base}.{end}"))?, false))));
            for (name, promised) in names {
                if name.digest().is_some_and(|d| seen.contains(d)) {
                    continue;
                }
                // A tag that might be there need not be; what it lists must.
                let root = match self.root(&name, events).await {
                    Ok(root) => root,
                    Err(RegistryError::NotFound { .. }) if !promised => continue,
                    Err(error) => return Err(error),
                };
                let graph = self.walk_from(&name, root, &[], events).await?;
                if !seen.insert(graph.root.digest().clone()) {
                    continue;
                }
                if found.len() >= MAX_REFERRERS {
                    let (what, registry) = (format!("what refers to {image}"), image.registry().to_owned());
                    let limit = format!("{MAX_REFERRERS} signatures, attestations and SBOMs of one image");
                    return Err(RegistryError::TooLarge { what, registry, limit });
                }
                if depth + 1 < MAX_DEPTH {
                    // Behind an index of referrers are manifests that may be signed themselves.
                    let inner =
                        graph.blobs.iter().filter(|b| b.kind() != Kind::Blob).map(|b| b.digest().clone());
                    queue.extend(
                        inner
                            .filter(|d| seen.insert(d.clone()) || d == graph.root.digest())
                            .map(|d| (d, depth + 1)),
                    );
                }
                found.push(Referrer { subject: subject.clone(), graph });
            }
        }
        Ok(found)
    }

    /// What the referrers API lists; nothing where a registry does not have it.
    async fn listed(
        &self,
        image: &ImageRef,
        subject: &Digest,
        events: &Events,
    ) -> Result<Option<Vec<Digest>>, RegistryError> {
        #[derive(serde::Deserialize)]
        struct Page {
            #[serde(default)]
            manifests: Vec<Entry>,
        }
        #[derive(serde::Deserialize)]
        struct Entry {
            digest: Digest,
        }
        let what = format!("what refers to {}@{subject}", image.name());
        let (mut all, mut path) = (Vec::new(), format!("referrers/{subject}"));
        for _ in 0..MAX_PAGES {
            let ask = Ask { image, what: &what, path, limit: MAX_MANIFEST_BYTES, purpose: Use::Resolve };
            let read = |target: &Target<'_>, headers: &HeaderMap, bytes: Bytes| {
                let page: Page = serde_json::from_slice(&bytes)
                    .map_err(|e| target.protocol(format!("a list of referrers that is none: {e}")))?;
                Ok((page.manifests, next(headers)))
            };
            let (page, more) = match self.fetch(ask, events, read).await {
                Ok(done) => done,
                // Not every registry that lacks the API says 404.
                Err(RegistryError::NotFound { .. }) => return Ok(None),
                Err(RegistryError::Status {
                    status:
                        StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_ACCEPTABLE,
                    ..
                }) => return Ok(None),
                Err(error) => return Err(error),
            };
            all.extend(page.into_iter().map(|entry| entry.digest));
            match more {
                Some(query) if all.len() <= MAX_REFERRERS => path = format!("referrers/{subject}?{query}"),
                _ => return Ok(Some(all)),
            }
        }
        Ok(Some(all))
    }
}

/// The query of the next page (RFC 8288): the path is known.
fn next(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(LINK)?.to_str().ok()?;
    let (address, relation) = text.strip_prefix('<')?.split_once('>')?;
    let query = address.split_once('?')?.1;
    let plain = query.bytes().all(|b| b.is_ascii_graphic() && b != b'#') && query.len() < 2000;
    (plain && relation.contains("next")).then(|| query.to_owned())
}

/// The attestations in an image's indexes that are about what was taken of them.
fn attestations(of: &ImageGraph, taken: &BTreeSet<Digest>) -> Vec<(Digest, Digest)> {
    let mut all = Vec::new();
    for index in of.blobs.iter().filter(|b| b.kind() == Kind::Index) {
        let Some(bytes) = of.documents.get(index.digest()) else { continue };
        let Ok(Manifest::Index(parsed)) = Manifest::parse(index, bytes) else { continue };
        for entry in parsed.manifests.iter().filter(|e| e.is_attestation()) {
            let about = entry.annotations().get(ABOUT).and_then(|d| d.parse::<Digest>().ok());
            if let Some(about) = about.filter(|about| taken.contains(about)) {
                all.push((about, entry.digest().clone()));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    #[test]
    fn only_the_query_of_a_link_is_used() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(LINK, HeaderValue::from_str(text).unwrap());
            next(&headers)
        };
        assert_eq!(read("</v2/a/referrers/x?last=1&n=2>; rel=\"next\"").as_deref(), Some("last=1&n=2"));
        assert_eq!(read("<https://other.host/v2/a?n=2>; rel=next").as_deref(), Some("n=2"));
        for none in ["", "</v2/a>; rel=next", "</v2/a?n=1>; rel=prev", "</v2/a?n=1#x>; rel=next", "x"] {
            assert_eq!(read(none), None, "{none}");
        }
    }
}
