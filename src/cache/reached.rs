//! How the registries of the cache's images were reached, so that a command that is suggested works as it stands.

use std::collections::{BTreeMap, BTreeSet};

use super::ImageCache;
use crate::bundle::Upstream;
use crate::oci::{ImageRef, Platform};
use crate::store::write_small;

/// Registries that were spoken to by plain HTTP, one a line.
pub(super) const FILE: &str = "plain-http";
/// Nobody has more registries than fit into this many bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// The images' registries, and whether an upstream speaks plain HTTP to each.
pub(super) fn reached<'a>(
    images: impl Iterator<Item = &'a ImageRef>,
    upstream: &dyn Upstream,
) -> BTreeMap<String, bool> {
    images.map(ImageRef::registry).map(|host| (host.to_owned(), upstream.is_plain(host))).collect()
}

impl ImageCache {
    /// Remembered for hints alone: what cannot be read is as good as nothing.
    fn plain_registries(&self) -> BTreeSet<String> {
        use std::io::Read as _;
        let mut text = String::new();
        let Ok(file) = std::fs::File::open(self.root.join(FILE)) else { return BTreeSet::new() };
        let _ = file.take(MAX_BYTES).read_to_string(&mut text);
        text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect()
    }

    /// Remembers whether registries that images came from speak plain HTTP; one that has turned to HTTPS is forgotten. What
    /// cannot be written is left: hints are no reason to fail with a pull that has brought everything. Blocks.
    pub(super) fn remember_reached(&self, hosts: &BTreeMap<String, bool>) {
        let now = |mut known: BTreeSet<String>| {
            known.retain(|host| hosts.get(host) != Some(&false));
            known.extend(hosts.iter().filter(|(_, plain)| **plain).map(|(host, _)| host.clone()));
            known
        };
        let known = self.plain_registries();
        if now(known.clone()) == known {
            return;
        }
        let Ok(_index) = self.index_alone() else { return };
        let text: String = now(self.plain_registries()).iter().map(|host| format!("{host}\n")).collect();
        let _ = write_small(&self.root.join(FILE), text.as_bytes());
    }

    /// The command that brings images, or what is missing of them, where their registries can be reached. `plain`:
    /// registries that are known to speak plain HTTP, beside those that images here came from. Blocks.
    pub fn pull_command(
        &self,
        images: &[ImageRef],
        platforms: Option<&[Platform]>,
        with_referrers: bool,
        plain: &[String],
    ) -> String {
        let mut command = "omk image pull".to_owned();
        if with_referrers {
            command += " --with-referrers";
        }
        match platforms {
            None => {}
            Some([]) => command += " --platform all",
            Some(some) => some.iter().for_each(|p| command += &format!(" --platform {p}")),
        }
        let known = self.plain_registries();
        let hosts: BTreeSet<&str> = images.iter().map(ImageRef::registry).collect();
        for host in hosts {
            if known.contains(host) || plain.iter().any(|p| p == host) {
                command += &format!(" --plain-http {host}");
            }
        }
        images.iter().for_each(|image| command += &format!(" {}", image.familiar()));
        command
    }
}
