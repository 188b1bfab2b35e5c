//! What is proved of each image on a node, and by what. Pure: judged from what the node said.

use serde::Serialize;

use super::Wanted;
use crate::oci::{Descriptor, Digest};
use crate::runtime::{
    Cri, CriImage, Evidence, Hashes, NamedImage, NodeFacts, Readiness, Runtime, RuntimeImage,
};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub check: CheckKind,
    /// With which result.
    pub result: Verdict,
    /// What is wrong, or what the result rests on where that is not plain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What can be proved of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckKind {
    /// Every name is there and stands for the bundle's digest.
    Digest,
    /// The runtime stores every blob.
    Blobs,
    /// It is unpacked for the node's platform.
    Unpacked,
    /// CRI, and so kubelet, finds it by every name.
    Cri,
    /// kubelet's garbage collection leaves it alone.
    Pinned,
    /// The stored bytes hash to what their digests say.
    Content,
}

impl CheckKind {
    /// As reports call it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Digest => "digest",
            Self::Blobs => "blobs",
            Self::Unpacked => "unpacked",
            Self::Cri => "cri",
            Self::Pinned => "pinned",
            Self::Content => "content",
        }
    }
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Proved.
    Passed,
    /// Not refuted, but on weaker evidence than usual, which the detail names.
    Weak,
    /// Refuted.
    Failed,
    /// Nothing can be said here, for the reason in the detail.
    Skipped,
}

impl Check {
    fn new(check: CheckKind, result: Verdict, detail: impl Into<String>) -> Self {
        let detail: String = detail.into();
        Self { check, result, detail: Some(detail).filter(|d| !d.is_empty()) }
    }
}

/// What a node said, and what it is held against.
pub(super) struct Witness<'a> {
    pub(super) runtime: &'a dyn Runtime,
    pub(super) facts: &'a NodeFacts,
    /// `None`: the node was not asked.
    pub(super) evidence: Option<&'a Evidence>,
    /// `None`: not asked for.
    pub(super) hashes: Option<&'a Hashes>,
    pub(super) pinned: bool,
}

impl Witness<'_> {
    /// Every check of one image, in the order in which reports have them.
    pub(super) fn checks(&self, image: &RuntimeImage) -> Vec<Check> {
        if self.runtime.vouches() {
            let (verdict, text) = match self.runtime.readiness(self.facts, image) {
                Readiness::Ready(_) => {
                    (Verdict::Weak, "the runtime says so of the image as a whole".to_owned())
                }
                Readiness::Missing(why) => (Verdict::Failed, why),
            };
            let kinds = [CheckKind::Digest, CheckKind::Blobs, CheckKind::Unpacked];
            return kinds.map(|kind| Check::new(kind, verdict, text.clone())).into();
        }
        let mut checks =
            vec![self.digest(&image.names, image.root.digest()), self.blobs(image), self.unpacked(image)];
        checks.extend(self.evidence.map(|e| self.cri(image, e)));
        if self.pinned {
            checks.push(self.pin(&image.names, Some(image.image.config.digest())));
        }
        checks.extend(self.hashes.map(|h| content(image, h)));
        checks
    }

    /// The same for an image of which only names and digest are known.
    pub(super) fn named(&self, wanted: &Wanted) -> Vec<Check> {
        let found = |name: &String| self.facts.names.get(name).filter(|f| f.digest == wanted.digest);
        let found: Vec<&NamedImage> = wanted.names.iter().filter_map(found).collect();
        let word = |kind, good: bool, bad: &str| match good {
            true => Check::new(kind, Verdict::Weak, "the runtime says so; a lock lists no blobs"),
            false => Check::new(kind, Verdict::Failed, bad),
        };
        let unpacked = !found.is_empty() && found.iter().all(|f| f.unpacked);
        let complete = !found.is_empty() && found.iter().all(|f| f.complete);
        // As with a bundle: what is unpacked runs, though its layers are not kept. Which blobs lack is not known here, and of what is
        // unpacked only layers can go without anybody noticing.
        let blobs = match (complete, unpacked) {
            (false, true) => {
                let text = "unpacked, without all of its layers in the content store, as --fast-import and \
                            discard_unpacked_layers leave it";
                Check::new(CheckKind::Blobs, Verdict::Weak, text)
            }
            _ => word(CheckKind::Blobs, complete, "the runtime says that it is incomplete"),
        };
        let mut checks = vec![
            self.digest(&wanted.names, &wanted.digest),
            blobs,
            word(CheckKind::Unpacked, unpacked, "the runtime says that it is not unpacked"),
        ];
        if let Some(evidence) = self.evidence {
            checks.push(match &evidence.cri {
                Cri::Asked(all) => match wanted.names.iter().find(|n| !all.iter().any(|i| i.is_called(n))) {
                    None => Check::new(CheckKind::Cri, Verdict::Passed, ""),
                    Some(n) => Check::new(CheckKind::Cri, Verdict::Failed, format!("CRI does not find {n}")),
                },
                Cri::Labels(why) if wanted.names.iter().all(|n| evidence.is_managed(n)) => {
                    Check::new(CheckKind::Cri, Verdict::Weak, format!("by CRI's label on its names: {why}"))
                }
                Cri::Labels(why) | Cri::Unknown(why) => {
                    Check::new(CheckKind::Cri, Verdict::Skipped, why.clone())
                }
            });
        }
        if self.pinned {
            checks.push(self.pin(&wanted.names, None));
        }
        checks
    }

    fn digest(&self, names: &[String], digest: &Digest) -> Check {
        let wrong = names.iter().find_map(|name| match self.facts.names.get(name) {
            None => Some(format!("{name} is gone: removed, or garbage-collected")),
            Some(found) if found.digest != *digest => Some(format!("{name} stands for {} now", found.digest)),
            Some(_) => None,
        });
        match wrong {
            Some(why) => Check::new(CheckKind::Digest, Verdict::Failed, why),
            None => Check::new(CheckKind::Digest, Verdict::Passed, ""),
        }
    }

    fn blobs(&self, image: &RuntimeImage) -> Check {
        let own: Vec<&Descriptor> = image.own().collect();
        let lacks: Vec<&Descriptor> =
            own.iter().copied().filter(|b| !self.facts.content.contains(b.digest())).collect();
        let Some(first) = lacks.first() else {
            return Check::new(CheckKind::Blobs, Verdict::Passed, "");
        };
        let ready = matches!(self.runtime.readiness(self.facts, image), Readiness::Ready(_));
        let layer = |b: &&Descriptor| image.image.layers.iter().any(|l| l.digest() == b.digest());
        if ready && lacks.iter().all(layer) {
            let text = format!("{} of {} layers only as unpacked", lacks.len(), image.image.layers.len());
            return Check::new(CheckKind::Blobs, Verdict::Weak, text);
        }
        let text = format!("{} of {} are missing or damaged: {}", lacks.len(), own.len(), first.digest());
        Check::new(CheckKind::Blobs, Verdict::Failed, text)
    }

    fn unpacked(&self, image: &RuntimeImage) -> Check {
        let at = |name: &String| self.facts.names.get(name).filter(|f| f.digest == *image.root.digest());
        let found: Vec<_> = image.names.iter().filter_map(at).collect();
        if found.iter().any(|f| f.archive.is_some()) {
            let text = "the archive is unpacked when its runtime takes it in";
            return Check::new(CheckKind::Unpacked, Verdict::Skipped, text);
        }
        let top = image.image.chain_ids.last().is_some_and(|c| self.facts.snapshots.contains(c));
        if top || (!found.is_empty() && found.iter().all(|f| f.unpacked)) {
            return Check::new(CheckKind::Unpacked, Verdict::Passed, "");
        }
        let text = format!("not unpacked for {}", self.facts.platform);
        Check::new(CheckKind::Unpacked, Verdict::Failed, text)
    }

    fn cri(&self, image: &RuntimeImage, evidence: &Evidence) -> Check {
        let unseen = evidence.unseen(std::iter::once(image));
        match (&evidence.cri, unseen.first()) {
            (Cri::Asked(_), None) => Check::new(CheckKind::Cri, Verdict::Passed, ""),
            (Cri::Asked(all), Some(name)) => {
                let other = all.iter().find(|i| i.is_called(name));
                let text = other.map_or_else(
                    || format!("CRI does not find {name}"),
                    |i| format!("CRI finds the image {} as {name}", i.id),
                );
                Check::new(CheckKind::Cri, Verdict::Failed, text)
            }
            (Cri::Labels(why), None) => {
                Check::new(CheckKind::Cri, Verdict::Weak, format!("by CRI's label on its names: {why}"))
            }
            (Cri::Labels(why), Some(name)) => {
                let text = format!("{name} lacks CRI's label, and CRI cannot be asked: {why}");
                Check::new(CheckKind::Cri, Verdict::Skipped, text)
            }
            (Cri::Unknown(why), _) => Check::new(CheckKind::Cri, Verdict::Skipped, why.clone()),
        }
    }

    /// `config`: of the image, by which CRI knows it.
    fn pin(&self, names: &[String], config: Option<&Digest>) -> Check {
        let check = |result, text: &str| Check::new(CheckKind::Pinned, result, text);
        let Some(evidence) = self.evidence.filter(|_| self.runtime.pin(&[]).is_some()) else {
            return check(Verdict::Skipped, "this runtime knows no pins");
        };
        if let Some(name) = names.iter().find(|n| !evidence.is_pinned(n)) {
            return check(Verdict::Failed, &format!("{name} is not pinned"));
        }
        if evidence.ignores_pins {
            let text = "labelled, but containerd before 1.7 does not tell kubelet";
            return check(Verdict::Weak, text);
        }
        if let Cri::Asked(all) = &evidence.cri {
            let id = config.map(Digest::to_string);
            let this = |i: &&CriImage| match &id {
                Some(id) => i.id == *id,
                None => names.iter().any(|n| i.is_called(n)),
            };
            return match all.iter().find(this).and_then(|i| i.pinned) {
                Some(true) => check(Verdict::Passed, ""),
                Some(false) => check(Verdict::Failed, "labelled, but CRI does not tell kubelet"),
                None => check(Verdict::Weak, "labelled; CRI here does not say whether it heeds that"),
            };
        }
        check(Verdict::Weak, "labelled; CRI cannot be asked whether it heeds that")
    }
}

fn content(image: &RuntimeImage, hashes: &Hashes) -> Check {
    let own: Vec<&Digest> = image.own().map(Descriptor::digest).collect();
    let hashed: Vec<_> = own.iter().filter_map(|d| Some((*d, hashes.get(*d)?))).collect();
    let bad: Vec<_> = hashed.iter().filter(|(d, found)| found.as_ref() != Some(*d)).collect();
    let check = |result, text: String| Check::new(CheckKind::Content, result, text);
    match bad.first() {
        Some((digest, found)) => {
            let what = found.as_ref().map_or("cannot be read".to_owned(), |f| format!("hashes to {f}"));
            let more = if bad.len() > 1 { format!(", and {} more", bad.len() - 1) } else { String::new() };
            check(Verdict::Failed, format!("{digest} {what}{more}"))
        }
        None if hashed.is_empty() => {
            check(Verdict::Skipped, "no blob of it is stored where it can be hashed".to_owned())
        }
        None if hashed.len() < own.len() => check(
            Verdict::Weak,
            format!("{} of {} blobs are stored and were hashed", hashed.len(), own.len()),
        ),
        None => check(Verdict::Passed, format!("{} blobs", own.len())),
    }
}

/// What keeps an image from being ready that [`Runtime::readiness`] does not see.
pub(super) fn refuted(checks: &[Check]) -> Option<String> {
    let failed = checks.iter().find(|c| c.result == Verdict::Failed)?;
    let detail = failed.detail.as_deref().unwrap_or("not proved");
    Some(format!("{}: {detail}", failed.check.word()))
}

#[cfg(test)]
#[path = "proof_tests.rs"]
mod tests;
