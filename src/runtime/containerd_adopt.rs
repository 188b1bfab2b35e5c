//! Content that containerd stores for another namespace (`default`, where somebody forgot `-n k8s.io`; `moby`, Docker's; that
//! of another tool) and that need not be sent.
//!
//! Namespaces share one store of bytes; what a namespace may see are records. An ingest whose digest the store has asks for
//! no bytes and makes the record; that it asks for none was measured on 1.6, 1.7 and 2.1, with an empty file as its input,
//! so that nothing but the store's own bytes can get that digest. Where the store is divided (`content_sharing_policy`) or the
//! blob went away meanwhile the ingest fails, and the blob is sent. A record that no image refers to is the next garbage
//! collection's, hence the label until the import is over.

use super::Containerd;
use crate::node::quote;
use crate::oci::{Descriptor, Digest};
use crate::runtime::sections::ADOPTING;
use crate::runtime::{Have, ImportJob, NodeFacts, Runtime as _, RuntimeImage};

/// Smaller blobs are sent: an adoption is three calls of `ctr`, each some 30 ms on an idle node.
const WORTH: u64 = 64 << 10;
/// Other namespaces that are looked into.
const NAMESPACES: u32 = 16;
/// Blobs that are taken notice of in each.
const BLOBS: u32 = 100_000;
/// The value of `containerd.io/gc.root` on blobs that are being adopted.
const LABEL: &str = "omk";

/// The parts of an import that take over content.
#[derive(Default)]
pub(super) struct Adoption {
    pub(super) adopt: String,
    /// What `adopt` reads: `SIZE=DIGEST` of every blob, on one line.
    pub(super) wanted: String,
}

/// Whether this blob can be had from another namespace. Not what a carrier is made of: nobody else has that.
pub(super) fn can(facts: &NodeFacts, image: &RuntimeImage, blob: &Descriptor) -> bool {
    blob.size() >= WORTH
        && facts.elsewhere.contains(blob.digest())
        && image.kept().any(|b| b.digest() == blob.digest())
}

/// Blobs that could not be adopted.
pub(super) fn lost(said: &str) -> Vec<Digest> {
    said.lines().filter_map(|l| l.strip_prefix("==lost ")?.trim().parse().ok()).collect()
}

impl Containerd {
    /// Defines `others` for a probe script: what other namespaces store.
    pub(super) fn others(&self) -> String {
        format!(
            r#"others() {{ {all} namespaces ls -q | grep -vxF {own} | head -n {NAMESPACES} | while IFS= read -r n; do
  {other} content ls -q </dev/null | head -n {BLOBS}
done; }}
"#,
            all = self.ctr(),
            own = quote(&self.namespace),
            other = self.ctr_in("\"$n\""),
        )
    }

    /// The parts of a probe that say what is stored, here and for others. `unless`: not for others where all is here that
    /// standard input names, a digest a line; a `ctr` takes some 30 ms of a processor.
    pub(super) fn content(&self, unless: bool) -> String {
        let ctr = self.ctr();
        if !unless {
            return format!("s content {ctr} content ls -q\ns others others\n");
        }
        format!(
            r#"known=$(cat)
list=$({ctr} content ls -q 2>&1) && c=0 || c=$?
content() {{ printf '%s\n' "$list"; return "$c"; }}
s content content
{{ content; printf '==\n%s\n' "$known"; }} |
  awk '$0 == "==" {{ asked = 1; next }} !asked {{ here[$0]; next }} !($0 in here) {{ exit 1 }}' || s others others
"#
        )
    }

    /// What goes before an import that needs content of other namespaces.
    pub(super) fn adopt(&self, job: &ImportJob<'_>) -> Option<Adoption> {
        let adopted = |b: &&Descriptor| {
            !job.staged.contains(b.digest()) && self.has(job.facts, job.image, b) == Some(Have::Adopted)
        };
        let wanted: Vec<String> =
            job.image.kept().filter(adopted).map(|b| format!("{}={}", b.size(), b.digest())).collect();
        if wanted.is_empty() {
            return None;
        }
        let (ctr, release) = (self.ctr(), self.unlabel());
        // The mark is what an ingest reads as well: an empty file, from which it can get nothing.
        let adopt = format!(
            r#"IFS= read -r wanted || exit 97
rm -f {ADOPTING}
: >{ADOPTING} || exit 96
release() {{
{release}}}
trap release EXIT
trap 'exit 129' HUP
trap 'exit 143' TERM
for b in $wanted; do
  d=${{b#*=}}
  {ctr} content ingest --expected-digest "$d" --expected-size "${{b%%=*}}" "omk-adopt-$d" <{ADOPTING} >&2 &&
    {ctr} content label "$d" containerd.io/gc.root={LABEL} >/dev/null || {{
    for b in $wanted; do echo "==lost ${{b#*=}}"; done
    echo "$d is stored for another namespace but cannot be taken over" >&2
    exit 91
  }}
done
"#
        );
        Some(Adoption { adopt, wanted: format!("{}\n", wanted.join(" ")) })
    }

    /// Ends an adoption in the current folder: the image refers to the blobs now, or nobody needs them.
    fn unlabel(&self) -> String {
        let ctr = self.ctr();
        format!(
            r#"  {ctr} content ls -q 'labels."containerd.io/gc.root"=={LABEL}' | while IFS= read -r d; do
    {ctr} content label "$d" containerd.io/gc.root= </dev/null
  done >/dev/null 2>&1
  rm -f {ADOPTING}
"#
        )
    }

    /// The same for one that was interrupted.
    pub(super) fn release(&self, staging: &str) -> String {
        format!("cd {} && {{\n{}}}\n", quote(staging), self.unlabel())
    }
}
