//! Lists of images: `images.txt`, `k3s-images.txt`, what `kubeadm config images list` prints.

use super::{Documents, Finding, Findings, Origin, Problem, Severity, SourceName, rules};
use crate::oci::ImageRef;

/// Problems of one list that are told one by one.
const MAX_PROBLEMS: usize = 1000;

/// A line that says something, with its number.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let meant = |(n, line): (usize, &'_ str)| {
        let line = line.trim();
        (!line.is_empty() && !line.starts_with('#')).then_some(n + 1)
    };
    text.lines().enumerate().filter_map(move |(n, line)| Some((meant((n, line))?, line.trim())))
}

/// What a line says, without a comment at its end.
fn reference(line: &str) -> &str {
    line.split_once(" #").map_or(line, |(reference, _)| reference.trim_end())
}

/// Whether a line can be nothing but an image: one word with a tag, a digest or a path.
fn is_image(line: &str) -> bool {
    let line = reference(line);
    line.contains([':', '/', '@']) && !line.ends_with(':') && line.parse::<ImageRef>().is_ok()
}

/// Whether a text is a list of images rather than YAML: most of its lines are images, and the first is.
///
/// Logs of the program that made the list may stand between its lines. A list in YAML starts its lines with `-`.
pub(super) fn is_list(text: &str) -> bool {
    let (mut images, mut others) = (0usize, 0usize);
    for (_, line) in lines(text).take(10_000) {
        // A document, or something within one.
        if line.starts_with(['{', '[', '-', '"']) || line == "---" {
            return false;
        }
        if is_image(line) {
            images += 1;
        } else {
            others += 1;
        }
    }
    images > others
}

/// Whether the text of a `.txt` file is a list: nothing in it looks like a document, even if most of its lines are wrong.
pub(super) fn is_list_file(text: &str) -> bool {
    let document = |line: &str| {
        line.contains(": ") || line.ends_with(':') || line.starts_with(['{', '[', '-', '"']) || line == "---"
    };
    is_list(text) || (lines(text).next().is_some() && !lines(text).any(|(_, line)| document(line)))
}

/// The images of a list, one a line.
pub(super) fn read(text: &str, source: &SourceName) -> Findings {
    let mut out = Findings::default();
    let mut left_out = 0usize;
    for (number, line) in lines(text) {
        let number = u32::try_from(number).ok();
        match reference(line).parse::<ImageRef>() {
            Ok(image) => {
                let origin = Origin { line: number, ..Origin::of_source(source.clone()) };
                out.findings.push(Finding::new(image, &rules::IMAGE_LIST, origin));
            }
            Err(_) if out.problems.len() >= MAX_PROBLEMS => left_out += 1,
            Err(error) => {
                let problem = Problem::of_source(Severity::Error, source.clone(), error.to_string());
                out.problems.push(Problem { line: number, ..problem });
            }
        }
    }
    if left_out > 0 {
        let reason = format!("there are {left_out} more lines that are no images");
        out.problems.push(Problem::of_source(Severity::Error, source.clone(), reason));
    }
    let failed = usize::from(!out.problems.is_empty());
    out.documents = Documents { read: 1 - failed, failed, ..Documents::default() };
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KUBEADM: &str = "registry.k8s.io/kube-apiserver:v1.33.4\nregistry.k8s.io/pause:3.10\n";

    fn found(text: &str) -> (Vec<String>, Vec<String>) {
        let found = read(text, &SourceName::File { path: "images.txt".into() });
        (
            found.findings.iter().map(|f| format!("{} {}", f.origin, f.image.familiar())).collect(),
            found.problems.iter().map(ToString::to_string).collect(),
        )
    }

    #[test]
    fn a_list_is_one_image_a_line() {
        let text = "\u{feff}# what we need\r\n\r\nnginx:1.27\r\n  quay.io/a/b@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 # pinned\r\nno image\r\na/Upper:1\r\n";
        let (images, problems) = found(text);
        assert_eq!(images.len(), 2, "{images:?}");
        assert_eq!(images[0], "images.txt:3 nginx:1.27");
        assert!(images[1].starts_with("images.txt:4 quay.io/a/b@sha256:e3b0"));
        assert_eq!(problems.len(), 2);
        assert!(
            problems[0].starts_with("images.txt:5: \"no image\" is not an image reference"),
            "{problems:?}"
        );
        assert!(problems[1].contains("lower case"), "{problems:?}");
    }

    #[test]
    fn lists_are_told_from_documents() {
        assert!(
            is_list(KUBEADM)
                && is_list("# only\ndocker.io/rancher/klipper-helm:v0.9.3\n")
                && is_list("nginx:1.27")
        );
        let log = "I1121 12:00:00.1 1 version.go:256] remote version is much newer: v1.34.1\n";
        assert!(is_list(&format!("{log}{KUBEADM}")));
        for other in [
            "a: 1\nb: c\n",
            "kind: Pod\n",
            "- nginx:1.27\n",
            "{\"a\": 1}",
            "---\nnginx:1.27\n",
            "",
            "just some words\n",
            "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - image: a/b:1\n",
            "flask==1.0\nrequests>=2\n",
            "nginx\n",
        ] {
            assert!(!is_list(other), "{other}");
        }
    }

    #[test]
    fn a_text_file_of_wrong_lines_is_a_list_all_the_same() {
        assert!(is_list_file("nginx 1.27\nUpper:1\nredis\n"));
        assert!(!is_list_file("a: 1\n") && !is_list_file("- a\n") && !is_list_file("# nothing\n"));
    }

    #[test]
    fn a_flood_of_bad_lines_is_cut() {
        let found = read(&"not one\n".repeat(5_000), &SourceName::Stdin);
        assert_eq!(found.problems.len(), MAX_PROBLEMS + 1);
        assert!(
            found.problems[MAX_PROBLEMS].reason.contains("4000 more"),
            "{}",
            found.problems[MAX_PROBLEMS].reason
        );
    }

    proptest! {
        #[test]
        fn every_line_is_an_image_or_a_problem(text in "(\\PC{0,20}|[a-z]{1,3}[:/][a-z0-9]{1,3}|\r?\n|#x\n){0,20}") {
            is_list(&text);
            let found = read(&text, &SourceName::Stdin);
            prop_assert_eq!(found.findings.len() + found.problems.len(), lines(&text).count());
        }
    }
}
