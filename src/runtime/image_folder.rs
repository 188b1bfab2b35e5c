//! An archive per image in a folder, from which k3s and RKE2 take images in when they start (k3s since January 2025
//! also while it runs). Needs no root where the folder is writable.
//!
//! The loader takes all platforms of what it finds, so every archive is complete by itself; blobs that archives on
//! the node already have are taken out of those instead of being sent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::containerd::{NAME_ANNOTATION, index_json};
use super::sections::{self, PRELUDE, Section, Sections, Staged};
use super::shell::{OCI_LAYOUT, imported, in_turn, patience};
use super::{
    ArchivedBlob, Have, ImportFailure, ImportJob, NamedImage, NodeFacts, Readiness, Reversible, Runtime,
    RuntimeError, RuntimeImage,
};
use crate::node::{CommandOutput, RemoteCommand, quote};
use crate::oci::{Algorithm, Descriptor, Digest, ImageIndex};

/// Exit status of the import script when a staged blob is not what its name says.
const DAMAGED: i32 = 93;

/// A folder of archives.
#[derive(Debug, Clone)]
pub struct ImageFolder {
    folder: String,
    root: bool,
}

impl ImageFolder {
    /// `root`: whether the session's user needs root to write there.
    pub fn new(folder: impl Into<String>, root: bool) -> Self {
        let folder: String = folder.into();
        Self { folder: folder.trim_end_matches('/').to_owned(), root }
    }

    fn command(&self, script: String) -> RemoteCommand {
        RemoteCommand { root: self.root, ..RemoteCommand::user(script) }
    }

    /// The archive of an image: readable, and not shared by two names that differ only in their separators.
    fn archive(&self, image: &RuntimeImage) -> String {
        let name = image.label();
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' };
        let readable: String = name.chars().map(plain).take(120).collect();
        format!("{readable}-{}.tar", &Digest::sha256(name.as_bytes()).hex()[..8])
    }
}

impl Runtime for ImageFolder {
    fn label(&self) -> String {
        format!("image folder {}", self.folder)
    }

    fn probe(&self, staging: &str, _: &[&Digest]) -> RemoteCommand {
        let (folder, staging) = (quote(&self.folder), quote(staging));
        let script = format!(
            r#"{PRELUDE}index() {{ tar -xOf "$1" index.json 2>/dev/null || tar -xOf "$1" ./index.json 2>/dev/null; }}
s machine uname -sm
s tar command -v tar
s sum command -v sha256sum
for a in {folder}/*.tar; do
  [ -f "$a" ] || continue
  s "archive $a" tar -tvf "$a"
  s "index $a" index "$a"
done
for a in {folder}/.*.bak; do
  [ -f "$a" ] && s "backup $a" true
done
s staged staged {staging}
s staging-space space {staging}
s runtime-space space {folder}
"#
        );
        RemoteCommand { patience: Some(Duration::from_secs(300)), ..self.command(script) }
    }

    fn parse_probe(&self, output: &CommandOutput) -> Result<NodeFacts, RuntimeError> {
        let text = sections::text(output)?;
        let all = Sections::parse(&text);
        let machine = all.need("machine", "uname")?;
        let platform = sections::platform(machine.lines.first().copied().unwrap_or_default())?;
        for (part, program) in [("tar", "tar"), ("sum", "sha256sum")] {
            if all.get(part).is_none_or(|s| !s.ok()) {
                let hint = format!("install {program} on the node (coreutils or busybox bring it)");
                return Err(RuntimeError::Missing { program: program.to_owned(), hint });
            }
        }
        let mut archives = BTreeMap::new();
        let mut names = BTreeMap::new();
        for (path, section) in all.each("archive") {
            // An archive that tar cannot read to its end is damaged: nothing in it counts.
            if !section.ok() || path.chars().any(char::is_control) {
                continue;
            }
            archives.insert(path.to_owned(), parse_listing(section));
            let index = all.get(&format!("index {path}")).filter(|s| s.ok());
            for (name, digest) in index.map(parse_index).unwrap_or_default() {
                let archive = Some(path.to_owned());
                names.insert(name, NamedImage { digest, complete: true, unpacked: true, archive });
            }
        }
        // What runs have kept is there, but nothing is taken out of it: it goes when its run is undone or old.
        let kept = all.each("backup").filter(|(path, _)| !path.chars().any(char::is_control));
        archives.extend(kept.map(|(path, _)| (path.to_owned(), BTreeMap::new())));
        let Staged { blobs: staged, partial, partials, .. } =
            all.get("staged").map(|s| sections::staged(&s.lines)).unwrap_or_default();
        Ok(NodeFacts {
            platform,
            runtime: self.label(),
            content: archives.values().flat_map(|a: &BTreeMap<_, _>| a.keys().cloned()).collect(),
            elsewhere: BTreeSet::new(),
            elsewhere_unknown: false,
            snapshots: BTreeSet::new(),
            names,
            aliases: BTreeMap::new(),
            archives,
            staged,
            partial,
            partials,
            discards_layers: false,
            adopting: false,
            distrusted: BTreeSet::new(),
            kubelet: None,
            runtime_disk: all.get("runtime-space").and_then(|s| sections::disk(&s.lines)),
            staging_disk: all.get("staging-space").and_then(|s| sections::disk(&s.lines)),
            processors: 1,
            evidence: None,
        })
    }

    fn has(&self, facts: &NodeFacts, _: &RuntimeImage, blob: &Descriptor) -> Option<Have> {
        find(facts, blob).map(|_| Have::Archived)
    }

    fn readiness(&self, facts: &NodeFacts, image: &RuntimeImage) -> Readiness {
        for name in &image.names {
            let Some(found) = facts.names.get(name) else {
                return Readiness::Missing(format!("no archive in {} has the name {name}", self.folder));
            };
            let archive = found.archive.as_deref().unwrap_or_default();
            if found.digest != *image.root.digest() {
                let wanted = image.root.digest();
                return Readiness::Missing(format!("{name} is {} in {archive}, not {wanted}", found.digest));
            }
            let has = |b: &Descriptor| {
                facts
                    .archives
                    .get(archive)
                    .and_then(|a| a.get(b.digest()))
                    .is_some_and(|f| f.size == b.size())
            };
            if let Some(gone) = image.blobs.iter().find(|b| !has(b)) {
                return Readiness::Missing(format!("{archive} lacks {}", gone.digest()));
            }
        }
        Readiness::Ready(None)
    }

    fn import(&self, job: &ImportJob<'_>) -> RemoteCommand {
        let (staging, folder) = (quote(job.staging), quote(&self.folder));
        let name = self.archive(job.image);
        let (part, target) =
            (quote(&format!("{}/.{name}.partial", self.folder)), quote(&format!("{}/{name}", self.folder)));
        let mut reuse: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut algorithms: BTreeSet<&str> = BTreeSet::new();
        let mut list = String::new();
        let mut bytes = 0u64;
        for blob in &job.image.blobs {
            bytes = bytes.saturating_add(blob.size());
            let (digest, path) = (blob.digest(), blob.digest().layout_path());
            list += &format!("{path}\n");
            let program = sections::sum_program(digest.algorithm());
            algorithms.insert(program);
            if !job.staged.contains(digest)
                && let Some((archive, found)) = find(job.facts, blob)
            {
                reuse.entry(archive).or_default().push(quote(&found.member));
            }
        }
        let mut take = String::new();
        for (archive, members) in &reuse {
            // Many members at a time, but never an argument list that the kernel refuses.
            for some in members.chunks(500) {
                let complaint = quote(&format!("cannot read {archive}"));
                take +=
                    &format!("tar -xf {} -C import {} || fail {complaint}\n", quote(archive), some.join(" "));
            }
        }
        let sums: String = algorithms
            .iter()
            .map(|program| {
                let kind = program.trim_end_matches("sum");
                format!(
                    "sed -n 's|^blobs/{kind}/\\([0-9a-f]*\\)$|\\1  &|p' import/list >import/sums\n\
                     {program} -c import/sums >import/check 2>/dev/null || damaged\n"
                )
            })
            .collect();
        let target_path = format!("{}/{name}", self.folder);
        let old = job.facts.names.values().find(|n| n.archive.as_ref() == Some(&target_path));
        let keep = match old {
            Some(old) if old.digest == *job.image.root.digest() => String::new(),
            None if !job.facts.archives.contains_key(&target_path) => String::new(),
            _ => {
                let bak = quote(&self.kept(job.run, &name));
                format!(
                    "rm -f {bak}; ln {target} {bak} 2>/dev/null || cp -p {target} {bak} || {{ rm -f {bak}; fail \"cannot keep the old archive\"; }}\n"
                )
            }
        };
        let kinds = [Algorithm::Sha256, Algorithm::Sha512].map(|a| a.as_str()).join(" ");
        let turn = in_turn(job.turn, 1);
        let script = format!(
            r#"set -u
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C; export PATH LC_ALL
umask 022
part={part}
cd {staging} || exit 98
fail() {{ echo "$1" >&2; rm -rf import index.json oci-layout; rm -f "$part"; exit "${{2:-1}}"; }}
damaged() {{
  sed -n 's/^\(blobs\/[^:]*\): FAILED.*/\1/p' import/check >import/bad
  while IFS= read -r f; do rm -f -- "$f"; echo "==damaged $f"; done <import/bad
  fail "missing or damaged in the staging folder: $(head -n 1 import/bad)" {DAMAGED}
}}
{turn}rm -rf import index.json oci-layout
mkdir import || exit 98
set -C
IFS= read -r index || exit 97
printf '%s\n' "$index" >index.json || fail "cannot write to the staging folder"
printf '%s\n' '{OCI_LAYOUT}' >oci-layout || fail "cannot write to the staging folder"
cat >import/list || fail "cannot write to the staging folder"
{{ printf 'oci-layout\nindex.json\n'; cat import/list; }} >import/all || fail "cannot write to the staging folder"
set +C
{take}for k in {kinds}; do
  [ -d "import/blobs/$k" ] || continue
  mkdir -p "blobs/$k"
  for f in import/blobs/"$k"/*; do mv -f "$f" "blobs/$k/" || fail "cannot move $f"; done
done
{sums}mkdir -p {folder} || fail "cannot make the image folder"
rm -f "$part"
tar -cf "$part" -T import/all || fail "cannot write $part"
tar -cf - -T import/all | cmp -s - "$part" || fail "$part differs from what was staged; is the disk full or failing?"
sync "$part" 2>/dev/null || sync
{keep}mv -f "$part" {target} || fail "cannot put the archive in place"
sync {folder} 2>/dev/null || sync
rm -rf import index.json oci-layout
echo ==imported
"#
        );
        let stdin = format!("{}\n{list}", index_json(job.image)).into_bytes();
        RemoteCommand { stdin, patience: Some(patience(bytes)), ..self.command(script) }
    }

    fn parse_import(&self, output: &CommandOutput) -> Result<(), ImportFailure> {
        if imported(output) {
            return Ok(());
        }
        let text = output.text();
        let paths = text.lines().filter_map(|l| l.strip_prefix("==damaged "));
        let damaged = paths.filter_map(sections::layout_digest).collect();
        let content_missing = output.status == DAMAGED;
        Err(ImportFailure { reason: output.complaint(), content_missing, damaged })
    }

    fn disk_need(&self, facts: &NodeFacts, image: &RuntimeImage) -> u64 {
        // A complete archive, beside the old one until it is renamed; what is taken out of archives is staged too.
        let reused = image.blobs.iter().filter(|b| find(facts, b).is_some());
        let tar_header = 1024 * (image.blobs.len() as u64 + 4);
        image.blobs.iter().chain(reused).fold(tar_header, |n, b| n.saturating_add(b.size()))
    }

    fn disk_least(&self, facts: &NodeFacts, image: &RuntimeImage) -> u64 {
        // An archive that takes the place of another may need less than the other had.
        match facts.archives.is_empty() {
            true => image.blobs.iter().fold(0, |n, b| n.saturating_add(b.size())),
            false => 0,
        }
    }

    fn keeps_shared_blobs_staged(&self) -> bool {
        true
    }

    fn leftovers(&self, _: &str, _: &NodeFacts) -> Option<RemoteCommand> {
        None
    }

    fn reversible(&self) -> Option<&dyn Reversible> {
        Some(self)
    }
}

/// An archive that has the blob, with the right size.
fn find<'a>(facts: &'a NodeFacts, blob: &Descriptor) -> Option<(&'a str, &'a ArchivedBlob)> {
    facts.archives.iter().find_map(|(path, blobs)| {
        blobs.get(blob.digest()).filter(|b| b.size == blob.size()).map(|b| (path.as_str(), b))
    })
}

/// `tar -tvf`: mode, owner, size, date, time, name, in GNU tar and busybox alike.
fn parse_listing(section: &Section<'_>) -> BTreeMap<Digest, ArchivedBlob> {
    let mut blobs = BTreeMap::new();
    for line in section.lines.iter().filter(|l| l.starts_with('-')) {
        let mut fields = line.split_whitespace();
        let (Some(size), Some(member)) = (fields.nth(2), fields.next_back()) else { continue };
        if let (Ok(size), Some(digest)) = (size.parse(), sections::layout_digest(member)) {
            blobs.insert(digest, ArchivedBlob { member: member.to_owned(), size });
        }
    }
    blobs
}

/// The names in an archive's index.
fn parse_index(section: &Section<'_>) -> Vec<(String, Digest)> {
    let text = section.lines.join("\n");
    let Ok(index) = serde_json::from_str::<ImageIndex>(&text) else { return Vec::new() };
    let named = index.manifests.iter().filter_map(|m| {
        let name = m.annotations().get(NAME_ANNOTATION)?;
        Some((name.clone(), m.digest().clone()))
    });
    named.take(10_000).collect()
}

#[path = "image_folder_undo.rs"]
mod undo;

#[cfg(test)]
#[path = "image_folder_tests.rs"]
mod tests;
