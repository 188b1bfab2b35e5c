//! Images of a list that do not agree with each other.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::oci::ImageRef;

/// One name for several images.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Conflict {
    /// `registry/repository` when the tags differ, `registry/repository:tag` when the digests do.
    pub name: String,
    /// The tags, or the digests, sorted.
    pub versions: Vec<String>,
    /// Several tags are usual, though often not meant; several digests of one tag cannot all be on a node under it.
    pub kind: ConflictKind,
}

/// What differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConflictKind {
    /// One repository is wanted with several tags.
    Tags,
    /// One tag is wanted with several digests.
    Digests,
}

impl std::fmt::Display for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.kind {
            ConflictKind::Tags => "tags",
            ConflictKind::Digests => "digests",
        };
        write!(f, "{} is wanted with {} {what}: {}", self.name, self.versions.len(), self.versions.join(", "))
    }
}

/// Every conflict among `images`, sorted.
pub fn conflicts<'a>(images: impl IntoIterator<Item = &'a ImageRef>) -> Vec<Conflict> {
    let mut tags: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut digests: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for image in images {
        let Some(tag) = image.tag() else { continue };
        tags.entry(image.name()).or_default().insert(tag.to_owned());
        if let Some(digest) = image.digest() {
            digests.entry(format!("{}:{tag}", image.name())).or_default().insert(digest.to_string());
        }
    }
    let conflict = |kind| {
        move |(name, versions): (String, BTreeSet<String>)| Conflict {
            name,
            versions: versions.into_iter().collect(),
            kind,
        }
    };
    let many = |(_, versions): &(String, BTreeSet<String>)| versions.len() > 1;
    let mut all: Vec<Conflict> =
        digests.into_iter().filter(many).map(conflict(ConflictKind::Digests)).collect();
    all.extend(tags.into_iter().filter(many).map(conflict(ConflictKind::Tags)));
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_digests_that_differ_are_told() {
        let digest = |c: &str| format!("sha256:{}", c.repeat(64));
        let images: Vec<ImageRef> = [
            "a:1".to_owned(),
            "a:2".to_owned(),
            "b:1".to_owned(),
            format!("c:1@{}", digest("1")),
            format!("c:1@{}", digest("2")),
            format!("d@{}", digest("1")),
            format!("d@{}", digest("2")),
        ]
        .iter()
        .map(|i| i.parse().unwrap())
        .collect();
        let told: Vec<String> = conflicts(&images).iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(told[0], "docker.io/library/a is wanted with 2 tags: 1, 2");
        assert!(
            told[1].starts_with("docker.io/library/c:1 is wanted with 2 digests: sha256:111"),
            "{}",
            told[1]
        );
    }
}
