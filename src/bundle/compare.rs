//! A bundle beside what a cluster runs.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;

use super::{InspectedImage, Inspection};
use crate::discover::{Running, RunningImage};
use crate::oci::{Digest, ImageRef};

/// How an image of a cluster and of a bundle stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Asked for in the cluster and not in the bundle.
    Missing,
    /// In both under one name, and a node runs another digest than the bundle holds.
    OtherDigest,
    /// In both; where a node tells the digest, it is the bundle's.
    Same,
    /// In the bundle, and nothing in the cluster asks for it.
    NotRunning,
}

/// One image of a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// Its name.
    pub image: String,
    /// How it stands.
    pub state: State,
    /// Of its index or manifest in the bundle.
    pub bundle: Option<Digest>,
    /// What nodes report.
    pub running: Vec<Digest>,
    /// What asks for it in the cluster.
    pub places: Vec<String>,
}

/// Compares by name, then by digest: that of the index, of a platform's manifest or of its config, since runtimes report
/// one or another. Sorted by state, then by name.
pub fn compare(bundle: &Inspection, running: &Running) -> Vec<Compared> {
    let mut by_name: HashMap<&str, &InspectedImage> = HashMap::new();
    for image in &bundle.images {
        by_name.extend(image.names.iter().map(|n| (n.as_str(), image)));
    }
    let mut used: BTreeSet<&Digest> = BTreeSet::new();
    let mut all = Vec::new();
    for (image, there) in &running.images {
        let found = names(image, there).iter().find_map(|n| by_name.get(n.as_str()).copied());
        let state = match found {
            None => State::Missing,
            Some(found) if there.digests.iter().all(|d| holds(found, d)) => State::Same,
            Some(_) => State::OtherDigest,
        };
        used.extend(found.map(|f| &f.digest));
        all.push(Compared {
            image: image.to_string(),
            state,
            bundle: found.map(|f| f.digest.clone()),
            running: there.digests.iter().cloned().collect(),
            places: there.places.clone(),
        });
    }
    for image in bundle.images.iter().filter(|i| !used.contains(&i.digest)) {
        let tagged = image.names.iter().find(|n| !n.contains('@')).or(image.names.first());
        all.push(Compared {
            image: tagged.cloned().unwrap_or_default(),
            state: State::NotRunning,
            bundle: Some(image.digest.clone()),
            running: Vec::new(),
            places: Vec::new(),
        });
    }
    all.sort_by(|a, b| (a.state, &a.image).cmp(&(b.state, &b.image)));
    all
}

/// The names under which a bundle would hold it. A pinned image is known by its digest, whatever its tag.
fn names(image: &ImageRef, there: &RunningImage) -> Vec<String> {
    match (image.digest(), image.tag()) {
        (Some(digest), _) => vec![format!("{}@{digest}", image.name())],
        (None, Some(tag)) => vec![format!("{}:{tag}", image.name())],
        (None, None) => there.digests.iter().map(|d| format!("{}@{d}", image.name())).collect(),
    }
}

fn holds(image: &InspectedImage, digest: &Digest) -> bool {
    image.digest == *digest || image.variants.iter().any(|v| v.digest == *digest || v.config == *digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Variant;

    fn digest(n: u8) -> Digest {
        Digest::sha256(&[n])
    }

    fn image(name: &str, n: u8) -> InspectedImage {
        let image: ImageRef = name.parse().unwrap();
        InspectedImage {
            label: String::new(),
            names: image.runtime_names(&digest(n)),
            digest: digest(n),
            media_type: String::new(),
            groups: std::collections::BTreeSet::new(),
            size: 0,
            variants: vec![Variant {
                platform: None,
                digest: digest(n + 1),
                config: digest(n + 2),
                layers: Vec::new(),
            }],
        }
    }

    #[test]
    fn every_state_is_told() {
        let bundle = Inspection {
            kind: crate::bundle::Kind::Tar,
            bundle: "b.tar".into(),
            platforms: Vec::new(),
            images: ["index:1", "variant:1", "config:1", "other:1", "quiet:1", "pinned:1", "extra:1"]
                .iter()
                .enumerate()
                .map(|(i, n)| image(n, u8::try_from(i * 10).unwrap()))
                .collect(),
            artifacts: Vec::new(),
            referrers: Vec::new(),
            delta: None,
            blobs: 0,
            size: 0,
            shared: 0,
        };
        let mut running = Running::default();
        let mut run = |name: &str, digests: &[u8]| {
            let image =
                RunningImage { digests: digests.iter().map(|n| digest(*n)).collect(), places: Vec::new() };
            running.images.insert(name.parse().unwrap(), image);
        };
        run("index:1", &[0]);
        run("variant:1", &[11]);
        run("config:1", &[22]);
        run("other:1", &[30, 99]);
        run("quiet:1", &[]);
        run(&format!("pinned@{}", digest(50)), &[50]);
        run("gone:2", &[7]);
        let told: Vec<String> = compare(&bundle, &running)
            .iter()
            .map(|c| {
                let name = c.image.split('@').next().unwrap_or_default();
                format!("{:?} {}", c.state, name.trim_start_matches("docker.io/library/"))
            })
            .collect();
        let expected = [
            "Missing gone:2",
            "OtherDigest other:1",
            "Same config:1",
            "Same index:1",
            "Same pinned",
            "Same quiet:1",
            "Same variant:1",
            "NotRunning extra:1",
        ];
        assert_eq!(told, expected);
    }
}
