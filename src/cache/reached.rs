//! How the registries of the cache's images were reached, so that a command that is suggested works as it stands.

use std::collections::BTreeSet;

use super::{CacheError, ImageCache};
use crate::bundle::Upstream;
use crate::oci::{ImageRef, Platform};
use crate::store::{StoreError, write_small};

/// Registries that were spoken to by plain HTTP, one a line.
pub(super) const FILE: &str = "plain-http";
/// Nobody has more registries than fit into this many bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// Those of the images' registries that an upstream speaks plain HTTP to.
pub(super) fn plain<'a>(
    images: impl Iterator<Item = &'a ImageRef>,
    upstream: &dyn Upstream,
) -> BTreeSet<String> {
    let hosts: BTreeSet<&str> = images.map(ImageRef::registry).collect();
    hosts.into_iter().filter(|host| upstream.is_plain(host)).map(str::to_owned).collect()
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

    /// Remembers registries that images came from by plain HTTP. Blocks.
    pub(super) fn remember_plain(&self, hosts: &BTreeSet<String>) -> Result<(), CacheError> {
        if hosts.is_subset(&self.plain_registries()) {
            return Ok(());
        }
        let path = self.root.join(FILE);
        let _index = self.index_alone()?;
        let mut all = self.plain_registries();
        all.extend(hosts.iter().cloned());
        let text: String = all.iter().map(|host| format!("{host}\n")).collect();
        Ok::<_, StoreError>(write_small(&path, text.as_bytes())?).map_err(Into::into)
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
