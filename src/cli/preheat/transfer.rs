//! Options about how the bytes travel.

use std::path::PathBuf;

use clap::Args;

use crate::cli::CliError;
use crate::push::PushOptions;
use crate::units;

/// What a node in use is sent at most in the background, where nothing else is said, in bytes a second.
const BACKGROUND: u64 = 20_000_000;

/// How fast, and in which form.
#[derive(Debug, Args)]
#[command(next_help_heading = "Transfer")]
pub(super) struct TransferArgs {
    /// Blobs at the same time to one node: more than one pays on links with latency
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(super) streams: u8,
    /// Send no more than this to all nodes together: 20MB/s, 2.5MiB/s, 200Mbit/s
    #[arg(long, value_name = "RATE", value_parser = units::parse_rate)]
    bandwidth: Option<u64>,
    /// Send no more than this to any one node
    #[arg(long, value_name = "RATE", value_parser = units::parse_rate)]
    node_bandwidth: Option<u64>,
    /// For nodes in use: commands there run with the least priority, one blob at a time is sent, one image at a time imported, and
    /// no more than 20 MB/s sent to a node unless a rate is given. What containerd does itself, such as unpacking, runs as it always does
    #[arg(long)]
    background: bool,
    /// Send layers as zstd, packed here once for all nodes: containerd unpacks them in less time. Digests stay what they are and
    /// images run; but the layers are not kept on the node: `ctr images check` calls such an image incomplete, and it cannot be
    /// exported or pushed from that node. Only for containerd; others get what they always get
    #[arg(long)]
    fast_import: bool,
}

impl TransferArgs {
    /// The options of a push, `ignore_disk` left as it is by default.
    ///
    /// # Errors
    /// When there is nowhere to keep packed layers.
    pub(super) fn options(&self) -> Result<PushOptions, CliError> {
        let unlimited = self.bandwidth.is_none() && self.node_bandwidth.is_none();
        Ok(PushOptions {
            bandwidth: self.bandwidth,
            node_bandwidth: self.node_bandwidth.or((self.background && unlimited).then_some(BACKGROUND)),
            background: self.background,
            fast_import: if self.fast_import { Some(packed(|n| std::env::var_os(n))?) } else { None },
            ..PushOptions::default()
        })
    }
}

/// Where packed layers are kept, beside the other caches.
fn packed(env: impl Fn(&str) -> Option<std::ffi::OsString>) -> Result<PathBuf, CliError> {
    let env = |name: &str| env(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(home) = env("OMYKUBE_HOME").or_else(|| env("OMK_HOME")) {
        return Ok(home.join("cache/fast-import"));
    }
    let cache = env("XDG_CACHE_HOME").filter(|p| p.is_absolute());
    let cache = cache.or_else(|| env("HOME").map(|home| home.join(".cache")));
    cache.map(|c| c.join("omk/fast-import")).ok_or_else(|| {
        CliError::usage("there is nowhere to keep packed layers: set OMK_HOME or HOME to a folder")
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        transfer: TransferArgs,
    }

    fn options(args: &[&str]) -> PushOptions {
        let all = ["omk"].iter().chain(args);
        Cli::try_parse_from(all).unwrap().transfer.options().unwrap()
    }

    #[test]
    fn rates_are_bytes_a_second() {
        let free = options(&[]);
        assert_eq!((free.bandwidth, free.node_bandwidth, free.background), (None, None, false));
        assert_eq!(options(&["--bandwidth", "200Mbit/s"]).bandwidth, Some(25_000_000));
        assert!(Cli::try_parse_from(["omk", "--bandwidth", "fast"]).is_err());
        let gentle = options(&["--background"]);
        assert_eq!((gentle.node_bandwidth, gentle.background), (Some(BACKGROUND), true));
        let told = options(&["--background", "--bandwidth", "1GB/s"]);
        assert_eq!((told.bandwidth, told.node_bandwidth), (Some(1_000_000_000), None));
    }

    #[test]
    fn packed_layers_are_kept_beside_the_other_caches() {
        let at = |set: &'static str, to: &'static str| {
            packed(move |n| (n == set).then(|| to.into())).map(|p| p.display().to_string())
        };
        assert_eq!(at("OMK_HOME", "/o").unwrap(), "/o/cache/fast-import");
        assert_eq!(at("HOME", "/h").unwrap(), "/h/.cache/omk/fast-import");
        assert!(at("OMK_HOME", "").is_err());
    }
}
