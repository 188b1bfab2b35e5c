//! What a cluster runs: a dump such as `kubectl get pods,deployments -A -o json`, with the digests that its nodes report.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{Confidence, Findings, Scope, SourceError, SourceName, input, json, scan};
use crate::oci::{Digest, ImageRef};
use crate::yaml::{self, Node};

/// Lists within lists.
const MAX_DEPTH: usize = 8;

/// What a dump says.
#[derive(Debug, Clone, Default)]
pub struct Running {
    /// Every image that a pod or a controller of pods asks for, with the digests under which nodes run it: none where no
    /// pod has started it, several where nodes differ.
    pub images: BTreeMap<ImageRef, RunningImage>,
    /// What could not be read, and how much was.
    pub found: Findings,
}

/// One image of a dump.
#[derive(Debug, Clone, Default)]
pub struct RunningImage {
    /// `imageID` of containers: the digest of an index, a manifest or, of old runtimes, a config.
    pub digests: BTreeSet<Digest>,
    /// The places that ask for it, in words.
    pub places: Vec<String>,
}

/// Reads a dump from a file, or from standard input if `path` is `-`.
///
/// # Errors
/// When it cannot be read; what is wrong with a part of it is in [`Running::found`].
pub fn read_running(path: &Path, scope: &Scope) -> Result<Running, SourceError> {
    if path.as_os_str() == "-" {
        return Ok(running(&input::read_stdin(scope)?, &SourceName::Stdin));
    }
    Ok(running(&input::read_file(path, scope)?, &SourceName::File { path: path.into() }))
}

/// Reads a dump.
pub fn running(text: &str, source: &SourceName) -> Running {
    let mut found = scan(text, source);
    found.sort();
    let mut images: BTreeMap<ImageRef, RunningImage> = BTreeMap::new();
    for finding in found.findings.iter().filter(|f| f.confidence == Confidence::Certain) {
        images.entry(finding.image.clone()).or_default().places.push(finding.origin.to_string());
    }
    let limits = yaml::Limits { allow_duplicate_keys: true, ..yaml::Limits::default() };
    for piece in json::pieces(text) {
        for document in yaml::documents(&piece.text, &limits) {
            if let Ok(root) = &document.result {
                object(root, None, 0, &mut |image, digest| {
                    if let Some(known) = images.get_mut(&image) {
                        known.digests.insert(digest);
                    }
                });
            }
        }
    }
    Running { images, found }
}

fn object(node: &Node, list_of: Option<&str>, depth: usize, told: &mut impl FnMut(ImageRef, Digest)) {
    let kind = node.get("kind").and_then(Node::as_str).or(list_of).unwrap_or_default();
    if let (Some(item), Some(items)) = (kind.strip_suffix("List"), node.get("items").and_then(Node::as_seq)) {
        if depth < MAX_DEPTH {
            let item = Some(item).filter(|i| !i.is_empty());
            items.iter().for_each(|i| object(i, item, depth + 1, told));
        }
        return;
    }
    if kind == "Pod" {
        statuses(node, &mut |image, digest, _, _| told(image, digest));
    }
}

/// The containers of a pod that a node has started: image, digest, field and node of the digest.
fn statuses<'n>(node: &'n Node, told: &mut impl FnMut(ImageRef, Digest, String, &'n Node)) {
    let part = |of: &str, list: &str| {
        node.get(of).and_then(|n| n.get(list)).and_then(Node::as_seq).unwrap_or_default()
    };
    let text = |n: &Node, key: &str| n.get(key).and_then(Node::as_str).unwrap_or_default().to_owned();
    for (containers, statuses) in [
        ("containers", "containerStatuses"),
        ("initContainers", "initContainerStatuses"),
        ("ephemeralContainers", "ephemeralContainerStatuses"),
    ] {
        for (index, status) in part("status", statuses).iter().enumerate() {
            let Some(id) = status.get("imageID") else { continue };
            let named = part("spec", containers).iter().find(|c| text(c, "name") == text(status, "name"));
            let image = named.and_then(|c| text(c, "image").parse::<ImageRef>().ok());
            if let (Some(image), Some(digest)) = (image, digest_of(&text(status, "imageID"))) {
                told(image, digest, format!("status.{statuses}[{index}].imageID"), id);
            }
        }
    }
}

/// Images that a pod names by tag, with the digests that its status reports: the image, its field and its node.
pub(super) fn digests(pod: &Node) -> Vec<(ImageRef, String, &Node)> {
    let mut found = Vec::new();
    statuses(pod, &mut |image, digest, field, node| {
        // An old runtime reports the digest of a config, which is no name of an image.
        let repository = node.as_str().is_some_and(|t| t.contains('@'));
        if image.digest().is_none()
            && repository
            && let Ok(pinned) = format!("{image}@{digest}").parse()
        {
            found.push((pinned, field, node));
        }
    });
    found
}

/// `docker.io/library/nginx@sha256:…`, `docker-pullable://nginx@sha256:…`, `sha256:…`.
fn digest_of(image_id: &str) -> Option<Digest> {
    let text = image_id.rsplit(['@', '/']).next()?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn image_ids_are_read_as_runtimes_write_them() {
        for id in [
            format!("docker.io/library/nginx@{DIGEST}"),
            format!("docker-pullable://nginx@{DIGEST}"),
            format!("docker://{DIGEST}"),
            DIGEST.to_owned(),
        ] {
            assert_eq!(digest_of(&id).map(|d| d.to_string()).as_deref(), Some(DIGEST), "{id}");
        }
        assert_eq!(digest_of(""), None);
        assert_eq!(digest_of("docker.io/library/nginx:1.27"), None);
    }

    #[test]
    fn pods_say_which_digest_they_run() {
        let text = format!(
            r#"{{"apiVersion":"v1","kind":"List","items":[
              {{"apiVersion":"apps/v1","kind":"Deployment","metadata":{{"name":"web"}},
                "spec":{{"template":{{"spec":{{"containers":[{{"name":"web","image":"nginx:1.27"}}]}}}}}}}},
              {{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"web-1"}},
                "spec":{{"containers":[{{"name":"web","image":"nginx:1.27"}},{{"name":"new","image":"a:1"}}]}},
                "status":{{"containerStatuses":[{{"name":"web","image":"docker.io/library/nginx:1.27",
                  "imageID":"docker.io/library/nginx@{DIGEST}"}},{{"name":"new","imageID":""}}]}}}}]}}"#
        );
        let running = running(&text, &SourceName::Stdin);
        let of = |name: &str| &running.images[&name.parse().unwrap()];
        assert_eq!(of("nginx:1.27").digests.iter().map(ToString::to_string).collect::<Vec<_>>(), [DIGEST]);
        assert_eq!(of("nginx:1.27").places.len(), 2);
        assert!(of("a:1").digests.is_empty());
    }
}
