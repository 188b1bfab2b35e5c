//! What a node says about images beyond its answer to the probe: what kubelet would find through CRI, the labels of names,
//! what stored blobs hash to. Every proof says which of these it rests on.
//!
//! CRI is asked with `crictl`, which kubeadm wants on every node and which k3s and RKE2 bring: `crictl images` is CRI's
//! `ListImages`, whose tags and digests are the references that `ImageStatus`, kubelet's own question, resolves. A node without
//! it still has the label that containerd's CRI plugin gives every image it knows; that is weaker evidence, because the
//! label outlives the plugin.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{RuntimeError, RuntimeImage};
use crate::oci::{Descriptor, Digest};

/// The label that containerd's CRI plugin gives images that it knows (containerd, `internal/cri/labels`).
pub(super) const MANAGED: (&str, &str) = ("io.cri-containerd.image", "managed");
/// The label that keeps kubelet's garbage collection away, from containerd 1.7 on (same place).
pub(super) const PINNED: (&str, &str) = ("io.cri-containerd.pinned", "pinned");

/// What a node says of its images when it is asked for a proof.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// What kubelet would find.
    pub cri: Cri,
    /// Labels of every name.
    pub labels: BTreeMap<String, BTreeMap<String, String>>,
    /// The runtime does not know the label that pins.
    pub ignores_pins: bool,
}

/// What kubelet would find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cri {
    /// All that CRI lists.
    Asked(Vec<CriImage>),
    /// CRI could not be asked, for this reason: its label on names stands in.
    Labels(String),
    /// Nothing can be said, for this reason.
    Unknown(String),
}

impl Default for Cri {
    fn default() -> Self {
        Self::Unknown("this runtime is not asked through CRI".to_owned())
    }
}

/// An image as CRI lists it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CriImage {
    /// The digest of its config.
    pub id: String,
    /// `repository:tag`.
    #[serde(default)]
    pub repo_tags: Vec<String>,
    /// `repository@digest`.
    #[serde(default)]
    pub repo_digests: Vec<String>,
    /// Whether kubelet leaves it alone; `None`: CRI is too old to say.
    #[serde(default)]
    pub pinned: Option<bool>,
}

impl CriImage {
    /// Whether it is found under this name.
    pub fn is_called(&self, name: &str) -> bool {
        self.repo_tags.iter().chain(&self.repo_digests).any(|n| n == name)
    }
}

/// `crictl images -o json`.
#[derive(Deserialize)]
struct Listing {
    #[serde(default)]
    images: Vec<CriImage>,
}

/// Reads what `crictl images -o json` prints.
///
/// # Errors
/// When it is something else.
pub(super) fn crictl(text: &str) -> Result<Vec<CriImage>, RuntimeError> {
    // Warnings about its configuration may stand before it.
    let json = text.find('{').map_or("", |at| &text[at..]);
    let listing: Listing = serde_json::from_str(json)
        .map_err(|e| RuntimeError::Garbled { what: "crictl images".to_owned(), why: e.to_string() })?;
    Ok(listing.images)
}

impl Evidence {
    /// Whether a name has the label that pins.
    pub fn is_pinned(&self, name: &str) -> bool {
        self.has(name, PINNED)
    }

    /// Whether CRI's label is on a name.
    pub fn is_managed(&self, name: &str) -> bool {
        self.has(name, MANAGED)
    }

    /// Whether CRI says of an image that has just been pinned that it is not: it takes notice of labels later, too.
    pub fn unheeded<'a>(&self, mut images: impl Iterator<Item = &'a RuntimeImage>) -> bool {
        let Cri::Asked(all) = &self.cri else { return false };
        let loose = |image: &RuntimeImage| {
            let id = image.image.config.digest().to_string();
            all.iter().any(|i| i.id == id && i.pinned == Some(false))
        };
        !self.ignores_pins && images.any(loose)
    }

    fn has(&self, name: &str, (key, value): (&str, &str)) -> bool {
        self.labels.get(name).and_then(|l| l.get(key)).is_some_and(|v| v == value)
    }

    /// Names that CRI does not know yet, as far as it was asked: it takes notice of new images up to a second later.
    pub fn unseen<'a>(&self, images: impl Iterator<Item = &'a RuntimeImage>) -> Vec<&'a str> {
        let unseen = |image: &RuntimeImage, name: &str| match &self.cri {
            Cri::Asked(all) => {
                let id = image.image.config.digest().to_string();
                !all.iter().any(|i| i.id == id && i.is_called(name))
            }
            Cri::Labels(_) => !self.is_managed(name),
            Cri::Unknown(_) => false,
        };
        let names = images.flat_map(|i| i.names.iter().map(move |n| (i, n.as_str())));
        names.filter(|(image, name)| unseen(image, name)).map(|(_, name)| name).collect()
    }
}

/// What stored blobs hash to: nothing for one that could not be read.
pub type Hashes = BTreeMap<Digest, Option<Digest>>;

impl RuntimeImage {
    /// All that the image itself is made of, each once, whatever travels in its place: layers lowest first, config, manifest,
    /// indexes.
    pub fn own(&self) -> impl Iterator<Item = &Descriptor> {
        let mut seen = BTreeSet::new();
        self.image.layers.iter().chain(self.kept()).filter(move |b| seen.insert(b.digest().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::fixtures::image;
    use crate::store::MemoryStore;

    #[test]
    fn crictls_list_is_read_whatever_is_missing_in_it() {
        let text = r#"WARN[0000] config file not found
{"images":[{"id":"sha256:ab","repoTags":["a/b:1"],"repoDigests":["a/b@sha256:cd"],"size":"7","uid":null,"spec":null,"pinned":true},
 {"id":"sha256:ef"}]}"#;
        let all = crictl(text).unwrap();
        assert!(all[0].is_called("a/b:1") && all[0].is_called("a/b@sha256:cd") && !all[0].is_called("a/b"));
        assert_eq!((all[0].pinned, all[1].pinned), (Some(true), None));
        for bad in ["", "FATA[0000] connect: no such file", "{\"images\": 7}", "{"] {
            assert!(crictl(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_is_seen_when_it_leads_to_this_images_config() {
        let store = MemoryStore::new();
        let image = image(&store, "a", &["base"]);
        let listed = |id: &Digest, names: &[String]| CriImage {
            id: id.to_string(),
            repo_tags: names.iter().filter(|n| !n.contains('@')).cloned().collect(),
            repo_digests: names.iter().filter(|n| n.contains('@')).cloned().collect(),
            pinned: None,
        };
        let unseen = |cri: Cri| {
            let evidence = Evidence { cri, ..Evidence::default() };
            evidence.unseen([&image].into_iter()).len()
        };
        let config = image.image.config.digest();
        assert_eq!(unseen(Cri::Asked(vec![listed(config, &image.names)])), 0);
        assert_eq!(unseen(Cri::Asked(vec![listed(config, &image.names[..1])])), 1);
        assert_eq!(unseen(Cri::Asked(vec![listed(&Digest::sha256(b"other"), &image.names)])), 2);
        assert_eq!(unseen(Cri::Labels(String::new())), 2);
        assert_eq!(unseen(Cri::default()), 0);
    }
}
