//! The import of an image whose layers come by a [carrier](crate::runtime::Carrier).

use super::{Containerd, NAME_ANNOTATION, index_of, sized};
use crate::node::quote;
use crate::oci::{Descriptor, media};
use crate::runtime::ImportJob;
use crate::runtime::shell::FAILED;

/// The name of a carrier while it is imported. `.invalid` never resolves (RFC 2606).
pub(super) const CARRIER: &str = "omk.invalid/carrier/";

/// The label of names that a fast import gave.
pub(super) const FAST: &str = "omk/fast-import";

impl Containerd {
    /// What goes before the import of an image that comes by a carrier, and after it. Nothing where every layer is unpacked.
    pub(super) fn carry(&self, job: &ImportJob<'_>) -> Option<Carry> {
        let carrier = job.image.carrier.as_ref()?;
        let staged = |b: &&Descriptor| job.staged.contains(b.digest());
        let brought: Vec<String> = std::iter::once(&carrier.manifest)
            .chain(&carrier.layers)
            .filter(staged)
            .map(|b| b.digest().layout_path())
            .collect();
        let layers = carrier.layers.iter().any(|l| staged(&l));
        if !layers || !job.staged.contains(carrier.manifest.digest()) {
            // Not packed: the layers that are staged, if any, are the image's own.
            return None;
        }
        let ctr = self.ctr();
        let config = &job.image.image.config;
        let name = format!("{CARRIER}{}:1", &config.digest().hex()[..32]);
        let entry =
            Descriptor::new(media::OCI_MANIFEST, carrier.manifest.digest().clone(), carrier.manifest.size())
                .with_annotations([(NAME_ANNOTATION, name.as_str())]);
        let mut members: Vec<String> = brought;
        members.extend(Some(config).filter(staged).map(|b| b.digest().layout_path()));
        let remove = format!("{ctr} images rm --sync {} >/dev/null 2>&1\n", quote(&name));
        // The names of the image itself are not touched before its layers are unpacked.
        let carry = format!(
            r#"IFS= read -r members || exit 97
IFS= read -r size || exit 97
t=$( {{ {{ opening; tar -cf - $members; echo "$?" >&3; }} | {ctr} images import - >&2; }} 3>&1 ) && c=0 || c=$?
if [ "$c" != 0 ] || [ "$t" != 0 ]; then
{remove}{FAILED}fi
"#
        );
        // Each takes its time to start, and none is about what another does.
        let labels: String = job
            .image
            .names
            .iter()
            .map(|n| format!("{ctr} images label {} {FAST}=yes >/dev/null 2>&1 &\n", quote(n)))
            .collect();
        let carried = format!("if [ \"$c\" = 0 ] && [ \"$t\" = 0 ]; then\n{labels}fi\n{remove}wait\n");
        let members = format!("{}\n", members.join(" ")).into_bytes();
        let first = [members, sized(&index_of(&[entry]), 0)].concat();
        Some(Carry { carry, carried, first })
    }
}

/// The parts of an import that a carrier adds.
#[derive(Default)]
pub(super) struct Carry {
    /// Imports it.
    pub(super) carry: String,
    /// Marks the image, and removes the carrier.
    pub(super) carried: String,
    /// What `carry` reads: the blobs of its archive on a line, and the beginning of it.
    pub(super) first: Vec<u8>,
}
