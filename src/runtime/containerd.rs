//! containerd through `ctr`, as kubeadm, k3s, RKE2, MicroK8s and Canonical Kubernetes bring it.
//!
//! What is relied upon was measured on 1.6, 1.7 and 2.1: an archive may leave out blobs that the namespace's content
//! store has, and layers whose chain-ID snapshot is there; a failed import up to 1.7 leaves its names on broken
//! content, so the import script keeps the old targets as [backups](Reversible::backup) of the run and puts them back.
//!
//! A layer that is unpacked (its chain-ID snapshot is there) but not in the content store is not needed to import and
//! run an image. It is left out only where the node evidently wants it so: containerd with `discard_unpacked_layers`
//! drops the layers of what kubelet pulls, and then `images check` calls those images incomplete, with nothing left
//! but their config, and unpacked. When more images are like that than are complete, sending layers would only fill
//! the disk. Everywhere else such a layer is sent, because an image without it cannot be exported or pushed from that
//! node and every check calls it incomplete. An image that has its name and runs is left as it is either way; the
//! report says that its layers are missing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::kubelet::{self, SCRIPT as KUBELET};
use super::sections::{self, PRELUDE, Sections, Staged};
use super::shell::{FAILED, archive_head, import_head, imported, patience, to_unpack, unpacked_size};
use super::{
    Evidence, Hashes, Have, ImportFailure, ImportJob, NodeFacts, Readiness, Reversible, Runtime,
    RuntimeError, RuntimeImage,
};
use crate::node::{CommandOutput, RemoteCommand, quote};
use crate::oci::{Descriptor, Digest, media};
use adopt::Adoption;
use carry::{CARRIER, Carry};
use keep::{Journal, MOVED};
use names::{discards_layers, interrupted, parse_images, parse_snapshots, server_version};
use undo::AWAIT;

/// What is unusual about an image that runs, on a node that seems to discard layers. Why they are gone cannot be seen.
const DISCARDED: &str = "unpacked, but their layers are not in the content store, as where containerd discards them \
     after unpacking: they run; they cannot be exported or pushed from that node. If something else removed the layers, \
     remove the images there (ctr images rm) and run the same command again";
/// The same on a node that keeps layers.
const INCOMPLETE: &str = "unpacked, but not all of their layers are in the content store, though this containerd keeps \
     layers: they run; they cannot be exported or pushed from that node. To have them complete, remove them there \
     (ctr images rm) and run the same command again";

/// The same after a fast import.
const CARRIED: &str = "unpacked, but without their layers in the content store, as --fast-import leaves them: they run; \
     `ctr images check` calls them incomplete, and they cannot be exported or pushed from that node. To have them complete, \
     remove them there (ctr images rm) and run the same command without --fast-import";

/// Where imports of omk before 0.2 kept what a name pointed at.
const BACKUP: &str = "omk.invalid/backup/";

/// The namespace that kubelet's images live in.
const NAMESPACE: &str = "k8s.io";

/// Who ships containerd: the same commands behind another program and socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flavor {
    /// A distribution's or upstream's package.
    Plain,
    /// `k3s ctr`, which knows its socket.
    K3s,
    /// RKE2's own binary and socket.
    Rke2,
    /// `microk8s ctr`, which knows its socket.
    MicroK8s,
    /// Canonical Kubernetes' snap; the socket depends on how it was set up.
    CanonicalK8s {
        /// Path of the socket.
        socket: String,
    },
}

/// containerd on a node.
#[derive(Debug, Clone)]
pub struct Containerd {
    flavor: Flavor,
    namespace: String,
}

impl Containerd {
    /// In namespace `k8s.io`.
    pub fn new(flavor: Flavor) -> Self {
        Self { flavor, namespace: NAMESPACE.to_owned() }
    }

    /// In another namespace, for what is not run by kubelet.
    #[must_use]
    pub fn in_namespace(self, namespace: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), ..self }
    }

    fn program(&self) -> &str {
        match self.flavor {
            Flavor::Plain => "ctr",
            Flavor::K3s => "k3s",
            Flavor::Rke2 => "/var/lib/rancher/rke2/bin/ctr",
            Flavor::MicroK8s => "microk8s",
            Flavor::CanonicalK8s { .. } => "/snap/k8s/current/bin/ctr",
        }
    }

    fn service(&self) -> &'static str {
        match self.flavor {
            Flavor::Plain => "containerd",
            Flavor::K3s => "k3s k3s-agent",
            Flavor::Rke2 => "rke2-server rke2-agent",
            Flavor::MicroK8s => "snap.microk8s.daemon-containerd",
            Flavor::CanonicalK8s { .. } => "snap.k8s.containerd",
        }
    }

    /// The start of every `ctr` command.
    fn ctr(&self) -> String {
        self.ctr_in(&quote(&self.namespace))
    }

    /// The same in another namespace, a word for the shell.
    fn ctr_in(&self, namespace: &str) -> String {
        let program = self.program();
        match &self.flavor {
            Flavor::Plain => format!("{program} -n {namespace}"),
            Flavor::K3s | Flavor::MicroK8s => format!("{program} ctr -n {namespace}"),
            Flavor::Rke2 => format!("{program} -a /run/k3s/containerd/containerd.sock -n {namespace}"),
            Flavor::CanonicalK8s { socket } => format!("{program} -a {} -n {namespace}", quote(socket)),
        }
    }

    /// Where containerd keeps things when it does not say.
    fn root(&self) -> &'static str {
        match self.flavor {
            Flavor::Plain => "/var/lib/containerd",
            Flavor::K3s => "/var/lib/rancher/k3s/agent/containerd",
            Flavor::Rke2 => "/var/lib/rancher/rke2/agent/containerd",
            Flavor::MicroK8s => "/var/snap/microk8s/common/var/lib/containerd",
            Flavor::CanonicalK8s { .. } => "/var/snap/k8s/common/var/lib/containerd",
        }
    }

    fn missing(&self) -> RuntimeError {
        let hint = match self.flavor {
            Flavor::Plain => {
                "install the containerd package (containerd or containerd.io) or name the node's runtime in the inventory (runtime:)"
            }
            Flavor::K3s => "install k3s on the node or name another runtime in the inventory (runtime:)",
            Flavor::Rke2 => {
                "start RKE2 once, which unpacks it, or name another runtime in the inventory (runtime:)"
            }
            Flavor::MicroK8s | Flavor::CanonicalK8s { .. } => {
                "install the snap or name another runtime in the inventory (runtime:)"
            }
        };
        RuntimeError::Missing { program: self.program().to_owned(), hint: hint.to_owned() }
    }

    fn unavailable(&self, complaint: String) -> RuntimeError {
        if complaint.contains("permission denied") {
            return RuntimeError::Denied { what: "containerd's socket".to_owned(), complaint };
        }
        RuntimeError::NotRunning { runtime: self.label(), service: self.service(), complaint }
    }
}

impl Runtime for Containerd {
    fn label(&self) -> String {
        match self.flavor {
            Flavor::Plain => "containerd",
            Flavor::K3s => "k3s' containerd",
            Flavor::Rke2 => "RKE2's containerd",
            Flavor::MicroK8s => "MicroK8s' containerd",
            Flavor::CanonicalK8s { .. } => "Canonical Kubernetes' containerd",
        }
        .to_owned()
    }

    fn probe(&self, staging: &str, known: &[&Digest]) -> RemoteCommand {
        let (ctr, program, staging) = (self.ctr(), self.program(), quote(staging));
        let script = format!(
            r#"{PRELUDE}{KUBELET}{others}s machine uname -sm
s processors processors
s tar command -v tar
s program command -v {program}
[ "$r" = 0 ] || exit 0
s version {ctr} version
[ "$r" = 0 ] || exit 0
{content}s snapshots {ctr} snapshots ls
s images {ctr} images ls
s check {ctr} images check
s staged staged {staging}
s staging-space space {staging}
plugins=$({ctr} plugins ls -d 2>/dev/null)
root=$(printf '%s\n' "$plugins" | sed -n 's|^ *root  *\(/.*\)/io.containerd.content.v1.content *$|\1|p' | head -n 1)
s runtime-space space "${{root:-{root}}}"
s kubelet kubelet
{crictl}"#,
            root = self.root(),
            others = self.others(),
            content = self.content(!known.is_empty()),
            crictl = self.ask_crictl(),
        );
        let stdin = known.iter().map(|digest| format!("{digest}\n")).collect::<String>().into_bytes();
        RemoteCommand { patience: Some(Duration::from_secs(120)), stdin, ..RemoteCommand::root(script) }
    }

    fn parse_probe(&self, output: &CommandOutput) -> Result<NodeFacts, RuntimeError> {
        let text = sections::text(output)?;
        let all = Sections::parse(&text);
        let machine = all.need("machine", "uname")?;
        let platform = sections::platform(machine.lines.first().copied().unwrap_or_default())?;
        if all.get("tar").is_some_and(|s| !s.ok()) {
            let hint = "install tar on the node".to_owned();
            return Err(RuntimeError::Missing { program: "tar".to_owned(), hint });
        }
        if all.get("program").is_some_and(|s| !s.ok()) {
            return Err(self.missing());
        }
        let version = all.get("version").ok_or_else(|| RuntimeError::Garbled {
            what: "ctr version".into(),
            why: "nothing came".into(),
        })?;
        let server = server_version(&version.lines);
        let Some(server) = server.filter(|_| version.ok()) else {
            return Err(self.unavailable(version.complaint()));
        };
        let content = all.need("content", "ctr content ls")?;
        let snapshots = all.need("snapshots", "ctr snapshots ls")?;
        let images = all.need("images", "ctr images ls")?;
        let checked = all.need("check", "ctr images check")?;
        let Staged { blobs: staged, partial, partials, adopting } =
            all.get("staged").map(|s| sections::staged(&s.lines)).unwrap_or_default();
        let others = all.get("others").map(|s| s.lines.as_slice()).unwrap_or_default();
        let names = parse_images(&images.lines, &checked.lines);
        let discards_layers = discards_layers(&names, &images.lines, &checked.lines);
        Ok(NodeFacts {
            platform,
            runtime: format!("{} {server}", self.label()),
            content: content.lines.iter().filter_map(|l| l.trim().parse().ok()).collect(),
            elsewhere_unknown: all.get("others").is_none(),
            elsewhere: others.iter().filter_map(|l| l.trim().parse().ok()).collect(),
            snapshots: parse_snapshots(&snapshots.lines),
            names,
            aliases: BTreeMap::new(),
            archives: BTreeMap::new(),
            staged,
            partial,
            partials,
            discards_layers,
            adopting,
            distrusted: BTreeSet::new(),
            kubelet: all.get("kubelet").and_then(|s| kubelet::parse(&s.lines)),
            runtime_disk: all.get("runtime-space").and_then(|s| sections::disk(&s.lines)),
            staging_disk: all.get("staging-space").and_then(|s| sections::disk(&s.lines)),
            processors: all.get("processors").map_or(1, |s| sections::processors(&s.lines)),
            evidence: self.probed(&all, &images.lines, &server),
        })
    }

    fn has(&self, facts: &NodeFacts, image: &RuntimeImage, blob: &Descriptor) -> Option<Have> {
        if facts.content.contains(blob.digest()) {
            return Some(Have::Stored);
        }
        if adopt::can(facts, image, blob) {
            return Some(Have::Adopted);
        }
        let without = facts.discards_layers || image.carrier.is_some();
        (without && image.unpacked(facts, blob)).then_some(Have::Unpacked)
    }

    fn readiness(&self, facts: &NodeFacts, image: &RuntimeImage) -> Readiness {
        let mut note = None;
        let damaged =
            |b: &Descriptor| facts.distrusted.contains(b.digest()) && !facts.content.contains(b.digest());
        if let Some(bad) = image.own().find(|b| damaged(b)) {
            return Readiness::Missing(format!("{} is damaged on the node, or cannot be read", bad.digest()));
        }
        for name in &image.names {
            let Some(found) = facts.names.get(name) else {
                return Readiness::Missing(format!("containerd does not know the name {name}"));
            };
            if found.digest != *image.root.digest() {
                let text = format!("{name} is {} on the node, not {}", found.digest, image.root.digest());
                return Readiness::Missing(text);
            }
            let top = image.image.chain_ids.last();
            let unpacked = found.unpacked || top.is_some_and(|c| facts.snapshots.contains(c));
            if !unpacked {
                return Readiness::Missing(format!("{name} is stored but not unpacked"));
            }
            if found.complete {
                continue;
            }
            // Layers may be gone after unpacking (discard_unpacked_layers, or never sent because the snapshot was
            // there): such an image runs, though `images check` calls it incomplete.
            let documents = [&image.root, &image.image.manifest, &image.image.config];
            if let Some(gone) = documents.into_iter().find(|d| !facts.content.contains(d.digest())) {
                return Readiness::Missing(format!("{name}: {} is not in the content store", gone.digest()));
            }
            if top.is_some_and(|c| !facts.snapshots.contains(c)) {
                return Readiness::Missing(format!("{name}: layers and their snapshot are missing"));
            }
            let text = match &image.carrier {
                Some(_) => CARRIED,
                None if facts.discards_layers => DISCARDED,
                None => INCOMPLETE,
            };
            note = Some(text.to_owned());
        }
        Readiness::Ready(note)
    }

    fn import(&self, job: &ImportJob<'_>) -> RemoteCommand {
        let (ctr, head) = (self.ctr(), import_head(job, job.at_once));
        let Journal { before, after_failure } = self.journal(job);
        let rollback = if after_failure.is_empty() {
            String::new()
        } else {
            format!("{AWAIT}await {ctr}\n{{\n{after_failure}}} >/dev/null 2>&1\n")
        };
        let Carry { carry, carried, first } = self.carry(job).unwrap_or_default();
        let Adoption { adopt, wanted } = self.adopt(job).unwrap_or_default();
        let damaged =
            |b: &&Descriptor| job.staged.contains(b.digest()) && job.facts.distrusted.contains(b.digest());
        let mend = self.mend(job.image.kept().filter(damaged));
        // Standard input has the beginning of the archive, after its length, then the list of files for tar: no import writes a file
        // that another one could. `set -C` so that root writes through no link that somebody put there. POSIX sh has no pipefail:
        // tar's status takes its own way.
        // busybox's tar makes no archive of nothing: then the beginning is all of it.
        let sends = job.image.kept().any(|b| job.staged.contains(b.digest()));
        let (pack, end) = if sends { ("tar -cf - -T -; ", 0) } else { ("", END_OF_ARCHIVE) };
        let script = format!(
            r#"{head}set -C
{OPENING}{mend}{carry}{adopt}IFS= read -r size || exit 97
{before}t=$( {{ {{ opening; {pack}echo "$?" >&3; }} | {ctr} images import - >&2; }} 3>&1 ) && c=0 || c=$?
{carried}if [ "$c" = 0 ] && [ "$t" = 0 ]; then
echo ==imported
exit 0
fi
{rollback}{FAILED}"#
        );
        let mut list = String::new();
        for blob in job.image.kept().filter(|b| job.staged.contains(b.digest())) {
            list += &blob.digest().layout_path();
            list.push('\n');
        }
        let staged = job.image.blobs.iter().filter(|b| job.staged.contains(b.digest()));
        let bytes: u64 = staged.map(Descriptor::size).sum();
        let bytes = bytes.saturating_mul(job.at_once as u64);
        let stdin =
            [first, wanted.into_bytes(), sized(&index_json(job.image), end), list.into_bytes()].concat();
        RemoteCommand { stdin, patience: Some(patience(bytes)), ..RemoteCommand::root(script) }
    }

    fn parse_import(&self, output: &CommandOutput) -> Result<(), ImportFailure> {
        if imported(output) {
            return Ok(());
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        // `content digest sha256:…: not found`: never there, or collected, or staged with other bytes than its name
        // says, which containerd stores under the digest that they have.
        let missing = |l: &str| {
            let (digest, rest) = l.split_once("content digest ")?.1.split_once(": ")?;
            (rest.trim_end() == "not found").then(|| digest.parse().ok())
        };
        let missing: Vec<Option<Digest>> = stderr.lines().filter_map(missing).collect();
        let lost = adopt::lost(&output.text());
        let content_missing =
            !missing.is_empty() || !lost.is_empty() || output.status == MOVED || interrupted(&stderr);
        let mut reason = output.complaint();
        if reason.contains("no space left on device") {
            reason += "; make room on the node's disk";
        }
        Err(ImportFailure {
            reason,
            content_missing,
            damaged: missing.into_iter().flatten().chain(lost).collect(),
        })
    }

    fn disk_need(&self, facts: &NodeFacts, image: &RuntimeImage) -> u64 {
        let missing = image.blobs.iter().filter(|b| self.has(facts, image, b).is_none());
        missing
            .map(Descriptor::size)
            .chain(to_unpack(facts, image).map(unpacked_size))
            .fold(0, u64::saturating_add)
    }

    fn disk_least(&self, facts: &NodeFacts, image: &RuntimeImage) -> u64 {
        if facts.discards_layers || image.carrier.is_some() {
            return 0;
        }
        let missing = image.kept().filter(|b| self.has(facts, image, b).is_none());
        // What cannot be packed further unpacks to hardly less than it has.
        let unpacked = to_unpack(facts, image).map(|layer| layer.size() / 10 * 9);
        missing.map(Descriptor::size).chain(unpacked).fold(0, u64::saturating_add)
    }

    fn feeds_kubelet(&self) -> bool {
        self.namespace == NAMESPACE
    }

    fn takes_carriers(&self) -> bool {
        true
    }

    /// containerd unpacks an image on one processor (and a half, where it has `unpigz`). With two, two images at a time were measured
    /// to take 0.72 and 0.80 of the time, and no more processor time; what a node has beyond that is left to its pods.
    fn imports_at_once(&self, facts: &NodeFacts) -> usize {
        facts.processors.clamp(1, 2)
    }

    fn keeps_shared_blobs_staged(&self) -> bool {
        false
    }

    fn leftovers(&self, staging: &str, facts: &NodeFacts) -> Option<RemoteCommand> {
        let names: Vec<String> = facts
            .names
            .keys()
            .filter(|n| n.starts_with(BACKUP) || n.starts_with(CARRIER))
            .take(200)
            .map(|n| quote(n))
            .collect();
        let mut script = "PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin\n".to_owned();
        if facts.adopting {
            script += &self.release(staging);
        }
        if !names.is_empty() {
            script += &format!("{} images rm {}", self.ctr(), names.join(" "));
        }
        (facts.adopting || !names.is_empty()).then(|| RemoteCommand::root(script))
    }

    fn evidence(&self) -> Option<RemoteCommand> {
        Some(self.ask_evidence())
    }

    fn parse_evidence(&self, output: &CommandOutput) -> Result<Evidence, RuntimeError> {
        self.read_evidence(output)
    }

    fn pin(&self, names: &[&str]) -> Option<RemoteCommand> {
        Some(self.label_pins(names))
    }

    fn hash(&self, blobs: &[&Descriptor]) -> Option<RemoteCommand> {
        Some(self.hash_blobs(blobs))
    }

    fn parse_hash(&self, blobs: &[&Descriptor], output: &CommandOutput) -> Result<Hashes, RuntimeError> {
        self.read_hashes(blobs, output)
    }

    fn reversible(&self) -> Option<&dyn Reversible> {
        Some(self)
    }
}

/// The index of an archive with one image, on one line: an entry a name, all for the same root. containerd takes
/// the names from this annotation, verbatim.
pub(super) fn index_json(image: &RuntimeImage) -> String {
    let entry = |name: &String| {
        Descriptor::new(image.root.media_type(), image.root.digest().clone(), image.root.size())
            .with_annotations([(NAME_ANNOTATION, name.as_str())])
    };
    let manifests: Vec<Descriptor> = image.names.iter().map(entry).collect();
    index_of(&manifests)
}

/// In an import script: passes on the beginning of an archive from standard input, `$size` bytes and not one more; ends the archive
/// where it cannot, and says so in place of tar.
const OPENING: &str =
    "opening() { dd bs=1 count=\"$size\" 2>/dev/null || { echo \"dd $?\" >&3; exit 1; }; }\n";

/// Zero bytes at the end of an archive.
const END_OF_ARCHIVE: usize = 1024;

/// What `OPENING` passes on, after a line with its length; `end`: zero bytes after it.
fn sized(index: &str, end: usize) -> Vec<u8> {
    let mut head = archive_head(index);
    head.resize(head.len() + end, 0);
    [format!("{}\n", head.len()).into_bytes(), head].concat()
}

fn index_of(manifests: &[Descriptor]) -> String {
    let index =
        serde_json::json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": manifests});
    index.to_string()
}

pub(super) const NAME_ANNOTATION: &str = "io.containerd.image.name";

#[path = "containerd_adopt.rs"]
mod adopt;
#[path = "containerd_carry.rs"]
mod carry;
#[path = "containerd_keep.rs"]
mod keep;
#[path = "containerd_names.rs"]
mod names;
#[path = "containerd_evidence.rs"]
mod proof;
#[path = "containerd_undo.rs"]
mod undo;

#[cfg(test)]
#[path = "containerd_tests.rs"]
mod tests;
