//! What `ctr` prints about names, snapshots and versions, and what it says when containerd goes away.

use std::collections::{BTreeMap, BTreeSet};

use super::carry::FAST;
use crate::oci::Digest;
use crate::runtime::NamedImage;

/// Whether more images are unpacked with all of their layers gone than are complete; see the module's documentation.
/// `incomplete (1/5)` counts config and layers.
pub(super) fn discards_layers(names: &BTreeMap<String, NamedImage>, ls: &[&str], check: &[&str]) -> bool {
    let complete: BTreeSet<&Digest> =
        names.values().filter(|i| i.complete && i.unpacked).map(|i| &i.digest).collect();
    let bare = |line: &&str| -> Option<Digest> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (have, all) = fields.get(4)?.strip_prefix('(')?.strip_suffix(')')?.split_once('/')?;
        let bare = fields.get(3) == Some(&"incomplete")
            && fields.last() == Some(&"true")
            && have == "1"
            && all.parse::<u32>().is_ok_and(|all| all > 1);
        names.get(fields[0]).filter(|_| bare).map(|i| i.digest.clone())
    };
    // What omk itself left without layers says nothing about the node.
    let fast = |line: &&str| {
        let fast = line.split_whitespace().any(|f| f.split(',').any(|label| label.starts_with(FAST)));
        line.split_whitespace().nth(2).filter(|_| fast)?.parse::<Digest>().ok()
    };
    let fast: BTreeSet<Digest> = ls.iter().filter_map(fast).collect();
    let bare: BTreeSet<Digest> = check.iter().filter_map(bare).filter(|d| !fast.contains(d)).collect();
    bare.len() > complete.len()
}

pub(super) fn server_version(lines: &[&str]) -> Option<String> {
    let at = lines.iter().position(|l| l.starts_with("Server:"))?;
    let version = lines[at..].iter().find_map(|l| l.trim().strip_prefix("Version:"))?.trim();
    let version: String = version.chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
    (!version.is_empty()).then_some(version)
}

/// `KEY [PARENT] KIND`: only committed snapshots can be built upon.
pub(super) fn parse_snapshots(lines: &[&str]) -> BTreeSet<Digest> {
    let committed = lines.iter().filter(|l| l.split_whitespace().next_back() == Some("Committed"));
    committed.filter_map(|l| l.split_whitespace().next()?.parse().ok()).collect()
}

/// `REF TYPE DIGEST …` of `images ls` with what `images check` says of the same names.
pub(super) fn parse_images(ls: &[&str], check: &[&str]) -> BTreeMap<String, NamedImage> {
    fn head(line: &str) -> Option<(&str, Digest, Vec<&str>)> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let digest = fields.get(2)?.parse().ok()?;
        Some((fields[0], digest, fields))
    }
    let mut names = BTreeMap::new();
    for (name, digest, _) in ls.iter().filter_map(|l| head(l)) {
        let image = NamedImage { digest, complete: false, unpacked: false, archive: None };
        names.insert(name.to_owned(), image);
    }
    for (name, digest, fields) in check.iter().filter_map(|l| head(l)) {
        if let Some(image) = names.get_mut(name)
            && image.digest == digest
        {
            image.complete = fields.get(3) == Some(&"complete");
            image.unpacked = fields.last() == Some(&"true");
        }
    }
    names
}

/// Whether containerd went away while it was at work, in words of gRPC and of 1.6, 1.7 and 2.1: it may be back by now.
pub(super) fn interrupted(stderr: &str) -> bool {
    let words = [
        "transport is closing",
        "error reading from server: EOF",
        "failed to send write: EOF",
        "connection error: desc = ",
        "code = Unavailable",
    ];
    words.iter().any(|w| stderr.contains(w))
}
