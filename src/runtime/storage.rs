//! The storage that CRI-O and Podman share (containers-storage), filled by `skopeo`, or by `podman` where there is no skopeo.
//!
//! What is relied upon was measured with skopeo 1.9 and Podman 4.3: a copy from an OCI layout (and `podman load` of one) asks
//! the storage for each layer by its digest before it opens the file, so the layout may leave out layers that are there; a
//! name moves only when all of its image is stored; the digest of the manifest or index stays what it is, and is found by every
//! name of its repository.
//!
//! No client lists layers, so the storage's own records are read (`overlay-images/images.json` and
//! `overlay-layers/layers.json`, since 2017): an image is there when its record has the name and the digest, and the chain of
//! its layers is committed. A config or manifest never counts as there by itself: other images' are not reused.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;

use super::kubelet::{self, SCRIPT as KUBELET};
use super::sections::{self, PRELUDE, Section, Sections, Staged};
use super::shell::{OCI_LAYOUT, import_head, imported, patience, unpacked_size};
use super::{
    Have, ImportFailure, ImportJob, NamedImage, NodeFacts, Readiness, Runtime, RuntimeError, RuntimeImage,
};
use crate::node::{CommandOutput, RemoteCommand, quote};
use crate::oci::{Descriptor, Digest, chain_ids, media};

/// Images and layers that are taken notice of.
const MAX_RECORDS: usize = 100_000;
/// Layers of one image: no driver takes as many.
const MAX_DEPTH: usize = 512;

/// Whose storage it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageUser {
    /// CRI-O: kubelet looks after the images.
    Crio,
    /// Podman.
    Podman,
}

/// containers-storage on a node, root's.
#[derive(Debug, Clone)]
pub struct ContainersStorage {
    user: StorageUser,
}

impl ContainersStorage {
    /// Where its configuration says, else `/var/lib/containers/storage`.
    pub fn new(user: StorageUser) -> Self {
        Self { user }
    }

    fn program(&self) -> &'static str {
        match self.user {
            StorageUser::Crio => "crio",
            StorageUser::Podman => "podman",
        }
    }
}

/// Which tool copies, and where the storage is: the last of its configurations that says so.
const FUNCTIONS: &str = r#"copier() { command -v skopeo || command -v podman; }
json() { for f in "$root"/$1; do [ -f "$f" ] && { cat "$f"; return; }; done; echo '[]'; }
root=
for f in /usr/share/containers/storage.conf /etc/containers/storage.conf "${CONTAINERS_STORAGE_CONF:-}"; do
  [ -f "$f" ] || continue
  r=$(sed -n 's/^[[:space:]]*graphroot[[:space:]]*=[[:space:]]*"\(.*\)".*/\1/p' "$f" | tail -n 1)
  root=${r:-$root}
done
root=${root:-/var/lib/containers/storage}
"#;

impl Runtime for ContainersStorage {
    fn label(&self) -> String {
        match self.user {
            StorageUser::Crio => "CRI-O",
            StorageUser::Podman => "Podman",
        }
        .to_owned()
    }

    fn probe(&self, staging: &str, _: &[&Digest]) -> RemoteCommand {
        let (program, staging) = (self.program(), quote(staging));
        let script = format!(
            r#"{PRELUDE}{KUBELET}{FUNCTIONS}s machine uname -sm
s program command -v {program}
s copier copier
[ "$r" = 0 ] || exit 0
s version {program} --version
s images json '*-images/images.json'
s layers json '*-layers/layers.json'
s staged staged {staging}
s staging-space space {staging}
s runtime-space space "$root"
s kubelet kubelet
"#
        );
        RemoteCommand { patience: Some(Duration::from_secs(120)), ..RemoteCommand::root(script) }
    }

    fn parse_probe(&self, output: &CommandOutput) -> Result<NodeFacts, RuntimeError> {
        let text = sections::text(output)?;
        let all = Sections::parse(&text);
        let machine = all.need("machine", "uname")?;
        let platform = sections::platform(machine.lines.first().copied().unwrap_or_default())?;
        let missing = |part: &str| all.get(part).is_none_or(|s| !s.ok());
        if missing("program") {
            let hint =
                format!("install {} or name another runtime in the inventory (runtime:)", self.label());
            return Err(RuntimeError::Missing { program: self.program().to_owned(), hint });
        }
        if missing("copier") {
            let hint =
                "install skopeo or podman on the node: one of them fills the storage of CRI-O".to_owned();
            return Err(RuntimeError::Missing { program: "skopeo".to_owned(), hint });
        }
        let version = all.get("version").and_then(|s| s.lines.first()?.split_whitespace().nth(2));
        let version: String = version.unwrap_or("of unknown version").chars().take(64).collect();
        let layers = Layers::read(all.need("layers", "the storage's layers.json")?)?;
        let Named { names, aliases, documents } =
            named(all.need("images", "the storage's images.json")?, &layers)?;
        let Staged { blobs: staged, partial, partials, .. } =
            all.get("staged").map(|s| sections::staged(&s.lines)).unwrap_or_default();
        let disk = |part: &str| all.get(part).and_then(|s| sections::disk(&s.lines));
        let kubelet = all.get("kubelet").and_then(|s| kubelet::parse(&s.lines));
        Ok(NodeFacts {
            runtime: format!("{} {version}", self.label()),
            content: layers.digests.into_iter().chain(documents).collect(),
            snapshots: layers.chains.into_values().collect(),
            names,
            aliases,
            staged,
            partial,
            partials,
            kubelet,
            runtime_disk: disk("runtime-space"),
            staging_disk: disk("staging-space"),
            ..NodeFacts::empty(platform)
        })
    }

    fn has(&self, facts: &NodeFacts, image: &RuntimeImage, blob: &Descriptor) -> Option<Have> {
        let layer = image.image.layers.iter().any(|l| l.digest() == blob.digest());
        let there = facts.content.contains(blob.digest()) && !facts.distrusted.contains(blob.digest());
        (layer && there).then_some(Have::Stored)
    }

    fn readiness(&self, facts: &NodeFacts, image: &RuntimeImage) -> Readiness {
        for name in &image.names {
            let Some(found) = facts.names.get(name) else {
                return Readiness::Missing(format!("{} does not know the name {name}", self.label()));
            };
            if !facts.points(found, image.root.digest()) {
                let text = format!("{name} is {} on the node, not {}", found.digest, image.root.digest());
                return Readiness::Missing(text);
            }
            if let Some(top) = image.image.chain_ids.last()
                && !facts.snapshots.contains(top)
            {
                return Readiness::Missing(format!("{name} is stored without its layers"));
            }
        }
        Readiness::Ready(None)
    }

    fn import(&self, job: &ImportJob<'_>) -> RemoteCommand {
        let head = import_head(job, 1);
        // Two indexes that differ in how they name the image, as each tool reads it; then one name a line.
        let script = format!(
            r#"{head}rm -f index.json oci-layout
set -C
IFS= read -r index || exit 97
IFS= read -r named || exit 97
printf '%s\n' '{OCI_LAYOUT}' >oci-layout || exit 96
trap 'rm -f index.json oci-layout' EXIT
if command -v skopeo >/dev/null 2>&1; then
  printf '%s\n' "$index" >index.json || exit 96
  while IFS= read -r name; do
    skopeo copy --quiet oci:.:omk "containers-storage:$name" </dev/null >&2 || exit 1
  done
else
  printf '%s\n' "$named" >index.json || exit 96
  loaded=
  while IFS= read -r name; do
    case $name in *@*) echo "podman cannot give the name $name: install skopeo on the node" >&2; exit 1 ;; esac
    if [ "$loaded" ]; then
      podman tag "$loaded" "$name" </dev/null >&2 || exit 1
    else
      tar -cf - oci-layout index.json blobs | podman load --quiet >&2 || exit 1
      loaded=$name
    fi
  done
fi
echo ==imported
"#
        );
        let root = &job.image.root;
        let index = |name: &str| {
            let entry = Descriptor::new(root.media_type(), root.digest().clone(), root.size())
                .with_annotations([("org.opencontainers.image.ref.name", name)]);
            serde_json::json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [entry]})
        };
        let (tagged, by_digest): (Vec<&String>, Vec<&String>) =
            job.image.names.iter().partition(|n| !n.contains('@'));
        let covered = |n: &&String| tagged.iter().any(|t| repository_of(t) == repository_of(n));
        let names: String = tagged
            .iter()
            .copied()
            .chain(by_digest.into_iter().filter(|n| !covered(n)))
            .map(|n| format!("{n}\n"))
            .collect();
        let bytes = job.image.blobs.iter().map(Descriptor::size).sum();
        let first = names.lines().next().unwrap_or_default();
        let stdin = format!("{}\n{}\n{names}", index("omk"), index(first)).into_bytes();
        RemoteCommand { stdin, patience: Some(patience(bytes)), ..RemoteCommand::root(script) }
    }

    fn parse_import(&self, output: &CommandOutput) -> Result<(), ImportFailure> {
        if imported(output) {
            return Ok(());
        }
        let mut reason = output.complaint();
        let damaged: Vec<Digest> = lacking(&reason).into_iter().collect();
        if reason.contains("no space left on device") {
            reason += "; make room on the node's disk (blobs are unpacked by way of /var/tmp)";
        }
        Err(ImportFailure { reason, content_missing: !damaged.is_empty(), damaged })
    }

    fn disk_need(&self, facts: &NodeFacts, image: &RuntimeImage) -> u64 {
        // A blob is copied to a temporary file, from which it is unpacked.
        let new = image.image.layers.iter().filter(|l| self.has(facts, image, l).is_none());
        new.fold(0, |n, l| n.saturating_add(unpacked_size(l)).saturating_add(l.size()))
    }

    fn feeds_kubelet(&self) -> bool {
        self.user == StorageUser::Crio
    }

    fn keeps_shared_blobs_staged(&self) -> bool {
        true
    }

    fn leftovers(&self, _: &str, _: &NodeFacts) -> Option<RemoteCommand> {
        None
    }
}

/// `registry/path` of `registry/path:tag` and `registry/path@digest`.
fn repository_of(name: &str) -> Option<&str> {
    if let Some((repository, _)) = name.split_once('@') {
        return Some(repository);
    }
    name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map(|(repository, _)| repository)
}

/// The blob that a copy missed, or found to be another one: `open …/blobs/sha256/HEX: no such file`, `Digest did not match,
/// expected sha256:…, got sha256:…`.
fn lacking(complaint: &str) -> Option<Digest> {
    if let Some((before, _)) = complaint.split_once(": no such file") {
        return sections::layout_digest(&before[before.rfind("blobs/")?..]);
    }
    let (_, rest) = complaint.split_once("did not match, expected ")?;
    rest.split([',', ' ', '"']).next()?.parse().ok()
}

#[derive(Deserialize)]
struct LayerRecord {
    id: String,
    #[serde(default)]
    parent: String,
    #[serde(default, rename = "compressed-diff-digest")]
    packed: String,
    #[serde(default, rename = "diff-digest")]
    diff: String,
    #[serde(default)]
    flags: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct ImageRecord {
    #[serde(default)]
    digest: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    layer: String,
    #[serde(default, rename = "big-data-digests")]
    documents: BTreeMap<String, String>,
}

/// What `layers.json` says.
struct Layers {
    /// Of layers, packed and unpacked.
    digests: BTreeSet<Digest>,
    /// The chain ID of a layer and those below it, by the layer's id.
    chains: BTreeMap<String, Digest>,
}

impl Layers {
    fn read(section: &Section<'_>) -> Result<Self, RuntimeError> {
        let records: Vec<LayerRecord> = json(section, "layers.json")?;
        // A layer that is still being unpacked says so.
        let whole = |l: &LayerRecord| l.flags.get("incomplete") != Some(&serde_json::Value::Bool(true));
        let records: BTreeMap<&str, &LayerRecord> =
            records.iter().filter(|l| whole(l)).map(|l| (l.id.as_str(), l)).collect();
        let digests =
            records.values().flat_map(|l| [&l.packed, &l.diff]).filter_map(|d| d.parse().ok()).collect();
        let mut chains = BTreeMap::new();
        for id in records.keys() {
            let mut diffs = Vec::new();
            let mut at = *id;
            while let Some(layer) = records.get(at).filter(|_| diffs.len() < MAX_DEPTH)
                && let Ok(diff) = layer.diff.parse::<Digest>()
            {
                diffs.push(diff);
                at = &layer.parent;
                if at.is_empty() {
                    break;
                }
            }
            diffs.reverse();
            if at.is_empty()
                && let Some(top) = chain_ids(&diffs).pop()
            {
                chains.insert((*id).to_owned(), top);
            }
        }
        Ok(Self { digests, chains })
    }
}

struct Named {
    names: BTreeMap<String, NamedImage>,
    aliases: BTreeMap<Digest, BTreeSet<Digest>>,
    /// Configs, manifests and indexes.
    documents: BTreeSet<Digest>,
}

/// An image is known by the digests of its manifest and of the index it came from.
fn named(section: &Section<'_>, layers: &Layers) -> Result<Named, RuntimeError> {
    let mut all = Named { names: BTreeMap::new(), aliases: BTreeMap::new(), documents: BTreeSet::new() };
    for image in json::<ImageRecord>(section, "images.json")? {
        let Ok(digest) = image.digest.parse::<Digest>() else { continue };
        let manifest = |(key, digest): (&String, &String)| {
            key.starts_with("manifest").then(|| digest.parse::<Digest>().ok()).flatten()
        };
        let others = image.documents.iter().filter_map(manifest);
        all.aliases.entry(digest.clone()).or_default().extend(others);
        let own = |key: &str| key.starts_with("manifest") || key.starts_with("sha256:");
        let documents = image.documents.iter().filter(|(key, _)| own(key));
        all.documents.extend(documents.filter_map(|(_, digest)| digest.parse::<Digest>().ok()));
        let unpacked = image.layer.is_empty() || layers.chains.contains_key(&image.layer);
        let named = |digest: Digest| NamedImage { digest, complete: unpacked, unpacked, archive: None };
        for name in image.names.unwrap_or_default() {
            // A digest is found by every name of its repository that has it.
            for own in all.aliases.get(&digest).into_iter().flatten().chain([&digest]) {
                if let Some(repository) = repository_of(&name) {
                    all.names.insert(format!("{repository}@{own}"), named(own.clone()));
                }
            }
            all.names.insert(name, named(digest.clone()));
        }
    }
    Ok(all)
}

fn json<T: for<'de> Deserialize<'de>>(section: &Section<'_>, what: &str) -> Result<Vec<T>, RuntimeError> {
    let garbled = |why: String| RuntimeError::Garbled { what: format!("the storage's {what}"), why };
    let records: Vec<T> =
        serde_json::from_str(&section.lines.join("\n")).map_err(|e| garbled(e.to_string()))?;
    if records.len() > MAX_RECORDS {
        return Err(garbled(format!("it has more than {MAX_RECORDS} records")));
    }
    Ok(records)
}

#[cfg(test)]
#[path = "storage_tests.rs"]
mod tests;
