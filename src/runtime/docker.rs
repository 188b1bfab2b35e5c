//! Docker through its client, for nodes with `cri-dockerd` and for machines without Kubernetes.
//!
//! `docker load` is given an archive that both of Docker's stores read: `manifest.json` for the classic one, `index.json` for
//! the one of containerd. What is relied upon was measured with 20.10, 26.1 and 28.5:
//!
//! - The classic store asks for a layer by its chain ID before it opens the file, so the archive leaves out layers that images
//!   there have. It names images by their config and by tag; digests of manifests it learns from pulls only, and so `REPO@DIGEST`
//!   is not found after a load.
//! - With containerd's store (`docker info` says `io.containerd.snapshotter.v1`), which cannot be asked what it has, every blob
//!   is sent. It keeps the digest and both names. A layer that is missing or damaged is only complained about: `docker load`
//!   exits 0 and leaves the name, so the script looks for that complaint and takes the name away.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;

use super::containerd::index_json;
use super::sections::{self, PRELUDE, Section, Sections, Staged};
use super::shell::{FAILED, OCI_LAYOUT, import_head, imported, patience, unpacked_size};
use super::{
    Have, ImportFailure, ImportJob, NamedImage, NodeFacts, Readiness, Runtime, RuntimeError, RuntimeImage,
};
use crate::node::{CommandOutput, RemoteCommand, quote};
use crate::oci::{Descriptor, Digest, ImageRef, chain_ids};

/// Images that are taken notice of.
const MAX_IMAGES: u32 = 20_000;

/// What is unusual about images that were loaded.
const BY_TAG: &str = "Docker knows loaded images by tag only: a pod that names this image by digest would have to pull it. Give pods \
     the tag, or use Docker with its containerd image store";

/// Docker on a node.
#[derive(Debug, Clone, Copy, Default)]
pub struct Docker;

/// A line an image; `json` quotes whatever is in it.
const INSPECT: &str = r#"inspect() { docker image ls -aq --no-trunc | sort -u | head -n MAX | xargs -r -n 100 docker image inspect --format \
  '{"id":{{json .Id}},"tags":{{json .RepoTags}},"digests":{{json .RepoDigests}},"layers":{{json .RootFS.Layers}}}'; }
"#;

impl Runtime for Docker {
    fn label(&self) -> String {
        "Docker".to_owned()
    }

    fn probe(&self, staging: &str, _: &[&Digest]) -> RemoteCommand {
        let (staging, inspect) = (quote(staging), INSPECT.replace("MAX", &MAX_IMAGES.to_string()));
        let script = format!(
            r#"{PRELUDE}{inspect}s machine uname -sm
s tar command -v tar
s program command -v docker
[ "$r" = 0 ] || exit 0
s version docker version --format '{{{{.Server.Version}}}}'
[ "$r" = 0 ] || exit 0
s store docker info --format '{{{{json .DriverStatus}}}}'
s images inspect
s staged staged {staging}
s staging-space space {staging}
root=$(docker info --format '{{{{.DockerRootDir}}}}' 2>/dev/null)
s runtime-space space "${{root:-/var/lib/docker}}"
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
        for (part, program, hint) in [
            ("tar", "tar", "install tar on the node"),
            ("program", "docker", "install Docker or name another runtime in the inventory (runtime:)"),
        ] {
            if missing(part) {
                return Err(RuntimeError::Missing { program: program.to_owned(), hint: hint.to_owned() });
            }
        }
        let version = all.get("version").filter(|s| s.ok()).and_then(|s| s.lines.last());
        let Some(version) = version else {
            let complaint = all.get("version").map(Section::complaint).unwrap_or_default();
            return Err(if complaint.contains("permission denied") {
                RuntimeError::Denied { what: "Docker's socket".to_owned(), complaint }
            } else {
                RuntimeError::NotRunning { runtime: self.label(), service: "docker", complaint }
            });
        };
        let version: String = version.chars().filter(char::is_ascii_graphic).take(64).collect();
        let store = all.need("store", "docker info")?;
        let classic = !store.lines.iter().any(|l| l.contains("io.containerd.snapshotter"));
        let images = all.get("images").map(|s| s.lines.as_slice()).unwrap_or_default();
        let mut facts = NodeFacts { runtime: format!("Docker {version}"), ..NodeFacts::empty(platform) };
        for image in images.iter().filter_map(|l| serde_json::from_str::<Image>(l).ok()) {
            image.note(&mut facts, classic);
        }
        let Staged { blobs, partial, partials, .. } =
            all.get("staged").map(|s| sections::staged(&s.lines)).unwrap_or_default();
        (facts.staged, facts.partial, facts.partials) = (blobs, partial, partials);
        facts.runtime_disk = all.get("runtime-space").and_then(|s| sections::disk(&s.lines));
        facts.staging_disk = all.get("staging-space").and_then(|s| sections::disk(&s.lines));
        Ok(facts)
    }

    fn has(&self, facts: &NodeFacts, image: &RuntimeImage, blob: &Descriptor) -> Option<Have> {
        image.unpacked(facts, blob).then_some(Have::Unpacked)
    }

    fn readiness(&self, facts: &NodeFacts, image: &RuntimeImage) -> Readiness {
        let mut note = None;
        let tagged = image.names.iter().any(|n| !n.contains('@'));
        let it = [&image.root, &image.image.manifest, &image.image.config];
        for name in &image.names {
            match facts.names.get(name) {
                Some(found) if it.into_iter().any(|d| facts.points(found, d.digest())) => {}
                Some(found) => {
                    let config = image.image.config.digest();
                    let text = format!("{name} is {} on the node, not {config}", found.digest);
                    return Readiness::Missing(text);
                }
                None if name.contains('@') && tagged => note = Some(BY_TAG.to_owned()),
                None if name.contains('@') => {
                    let text =
                        format!("`docker load` gives no name such as {name}: bundle the image with a tag");
                    return Readiness::Missing(text);
                }
                None => return Readiness::Missing(format!("Docker does not know the name {name}")),
            }
        }
        Readiness::Ready(note)
    }

    fn import(&self, job: &ImportJob<'_>) -> RemoteCommand {
        let head = import_head(job, 1);
        let names = job.image.names.iter().map(|n| quote(n)).collect::<Vec<_>>().join(" ");
        let script = format!(
            r#"{head}rm -f index.json oci-layout manifest.json docker.log
set -C
IFS= read -r index || exit 97
IFS= read -r manifest || exit 97
printf '%s\n' "$index" >index.json || exit 96
printf '%s\n' "$manifest" >manifest.json || exit 96
printf '%s\n' '{OCI_LAYOUT}' >oci-layout || exit 96
was=$(for n in {names}; do i=$(docker image inspect -f '{{{{.Id}}}}' "$n" 2>/dev/null) && echo "$i $n"; done)
t=$( {{ {{ tar -cf - -T -; echo "$?" >&3; }} | docker load >docker.log 2>&1; }} 3>&1 ) && c=0 || c=$?
cat docker.log >&2
if grep -q '^Error unpacking' docker.log; then
for n in {names}; do
i=$(printf '%s\n' "$was" | while read -r i x; do if [ "$x" = "$n" ]; then echo "$i"; fi; done)
if [ -n "$i" ]; then docker tag "$i" "$n"; else docker image rm "$n"; fi >/dev/null 2>&1
done
c=93
fi
rm -f index.json oci-layout manifest.json docker.log
if [ "$c" = 0 ] && [ "$t" = 0 ]; then
echo ==imported
exit 0
fi
{FAILED}"#
        );
        let mut list = String::from("oci-layout\nindex.json\nmanifest.json\n");
        let mut bytes = 0;
        let wanted =
            |b: &&Descriptor| job.staged.contains(b.digest()) && self.has(job.facts, job.image, b).is_none();
        for blob in job.image.blobs.iter().filter(wanted) {
            list += &format!("{}\n", blob.digest().layout_path());
            bytes += blob.size();
        }
        let stdin = format!("{}\n{}\n{list}", index_json(job.image), manifest_json(job.image)).into_bytes();
        RemoteCommand { stdin, patience: Some(patience(bytes)), ..RemoteCommand::root(script) }
    }

    fn parse_import(&self, output: &CommandOutput) -> Result<(), ImportFailure> {
        if imported(output) {
            return Ok(());
        }
        let mut reason = output.complaint();
        let path = reason.find("blobs/").map(|at| &reason[at..]);
        let digest =
            path.and_then(|p| p.split_once(": no such file")).and_then(|(p, _)| sections::layout_digest(p));
        let damaged: Vec<Digest> = digest.into_iter().collect();
        if reason.contains("no space left on device") {
            reason += "; make room on the node's disk";
        } else if reason.contains("invalid tar header") {
            reason += "; Docker before 23 does not read zstd layers";
        }
        Err(ImportFailure { reason, content_missing: !damaged.is_empty(), damaged })
    }

    fn disk_need(&self, facts: &NodeFacts, image: &RuntimeImage) -> u64 {
        // `docker load` unpacks the archive into a temporary folder below its root first.
        let new = image.image.layers.iter().filter(|l| self.has(facts, image, l).is_none());
        new.fold(0, |n, l| n.saturating_add(unpacked_size(l)).saturating_add(l.size()))
    }

    fn vouches(&self) -> bool {
        true
    }

    fn keeps_shared_blobs_staged(&self) -> bool {
        true
    }

    fn leftovers(&self, _: &str, _: &NodeFacts) -> Option<RemoteCommand> {
        None
    }
}

#[derive(Deserialize)]
struct Image {
    id: Digest,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    digests: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<Digest>>,
}

impl Image {
    fn note(self, facts: &mut NodeFacts, classic: bool) {
        if classic {
            facts.snapshots.extend(chain_ids(&self.layers.unwrap_or_default()));
        }
        let aliases: &mut BTreeSet<Digest> = facts.aliases.entry(self.id.clone()).or_default();
        for name in self.tags.into_iter().chain(self.digests).flatten() {
            // Docker leaves out `docker.io/library/`; `<none>` is no name.
            let Ok(full) = name.parse::<ImageRef>() else { continue };
            aliases.extend(full.digest().cloned());
            let named = NamedImage { digest: self.id.clone(), complete: true, unpacked: true, archive: None };
            facts.names.insert(full.to_string(), named);
        }
    }
}

/// What `docker load` reads: where in the archive the config and the layers are.
fn manifest_json(image: &RuntimeImage) -> String {
    let tags: Vec<&String> = image.names.iter().filter(|n| !n.contains('@')).collect();
    let layers: Vec<String> = image.image.layers.iter().map(|l| l.digest().layout_path()).collect();
    let entry = BTreeMap::from([
        ("Config", serde_json::json!(image.image.config.digest().layout_path())),
        ("RepoTags", serde_json::json!(tags)),
        ("Layers", serde_json::json!(layers)),
    ]);
    serde_json::json!([entry]).to_string()
}

#[cfg(test)]
#[path = "docker_tests.rs"]
mod tests;
