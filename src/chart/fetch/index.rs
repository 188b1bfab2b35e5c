//! `index.yaml` of a chart repository, and which version of a chart is meant.

use std::cmp::Ordering;

use crate::template::{semver_order, semver_satisfies};
use crate::yaml::{self, Limits, Node};

/// A version of a chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) version: String,
    pub(super) urls: Vec<String>,
    /// Hex digits of SHA-256.
    pub(super) digest: Option<String>,
}

/// The versions of one chart in an index, in its order; none if the index does not have the chart.
///
/// # Errors
///
/// With a reason if it is no index.
pub(super) fn entries(text: &str, name: &str) -> Result<Option<Vec<Entry>>, String> {
    // An index holds all charts with all their versions, some have 20 MB: only the part about this one is parsed.
    if let Some(part) = part(text, name) {
        return read(&format!("entries:\n{part}"), name);
    }
    read(text, name)
}

/// The lines of one chart, where the index is written as Helm writes it.
fn part<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let from = if text.starts_with("entries:\n") { 0 } else { text.find("\nentries:\n")? + 1 };
    let body = &text[from + "entries:\n".len()..];
    let head = format!("  {name}:\n");
    let start = if body.starts_with(&head) { 0 } else { body.find(&format!("\n{head}"))? + 1 };
    let mut end = start + head.len();
    for line in body[end..].split_inclusive('\n') {
        let indent = line.len() - line.trim_start_matches(' ').len();
        let blank = line.trim().is_empty();
        if !blank && (indent < 2 || (indent == 2 && !line[2..].starts_with('-'))) {
            break;
        }
        end += line.len();
    }
    Some(&body[start..end])
}

fn read(text: &str, name: &str) -> Result<Option<Vec<Entry>>, String> {
    let limits = Limits { allow_duplicate_keys: true, ..Limits::default() };
    let node = yaml::parse_one(text, &limits).map_err(|e| e.to_string())?;
    let Some(entries) = node.get("entries").filter(|e| e.as_map().is_some()) else {
        return Err("it has no entries".into());
    };
    let Some(versions) = entries.get(name).and_then(Node::as_seq) else { return Ok(None) };
    let text = |n: Option<&Node>| n.and_then(Node::as_str).map(str::to_owned);
    let entry = |n: &Node| {
        let urls = n.get("urls").and_then(Node::as_seq).unwrap_or_default();
        let version = n.get("version")?;
        // A version such as 1.10 without quotes is a number.
        let version = version.as_str().map_or_else(|| format_number(version), |v| Some(v.to_owned()))?;
        Some(Entry {
            version,
            urls: urls.iter().filter_map(|u| text(Some(u))).collect(),
            digest: text(n.get("digest")).filter(|d| !d.is_empty()),
        })
    };
    Ok(Some(versions.iter().filter_map(entry).collect()))
}

fn format_number(node: &Node) -> Option<String> {
    match node.value {
        yaml::Value::Int(i) => Some(i.to_string()),
        yaml::Value::Float(f) => Some(yaml::format_float(f)),
        _ => None,
    }
}

/// Which of the versions is meant: the same text, else the highest that meets the constraint. An empty one takes the
/// highest that is no pre-release.
pub(super) fn pick<'a>(versions: impl Iterator<Item = &'a str> + Clone, wanted: &str) -> Option<&'a str> {
    let wanted = wanted.trim();
    if let Some(same) = versions.clone().find(|v| *v == wanted) {
        return Some(same);
    }
    let constraint = if wanted.is_empty() { "*" } else { wanted };
    let fit = versions.filter(|v| semver_satisfies(constraint, v));
    fit.reduce(|a, b| if semver_order(b, a) == Some(Ordering::Greater) { b } else { a })
}

/// Whether the version names one and no range.
pub(super) fn is_exact(version: &str) -> bool {
    let whole = version.split(['-', '+']).next().unwrap_or_default();
    semver_order(version, version).is_some() && whole.matches('.').count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "apiVersion: v1\nentries:\n  alpha:\n  - version: 1.0.0\n    urls: [a-1.0.0.tgz]\n  web:\n  - \
                         apiVersion: v2\n    version: 1.2.0\n    description: |\n      text\n\n        web:\n    urls:\n    - \
                         https://x/web-1.2.0.tgz\n    digest: abc\n  - version: 1.10\n    urls: [w]\n  webs:\n  - version: \
                         9.0.0\ngenerated: now\n";

    #[test]
    fn the_part_of_one_chart_says_the_same_as_the_whole() {
        for name in ["alpha", "web", "webs", "other"] {
            assert_eq!(entries(INDEX, name), read(INDEX, name), "{name}");
        }
        let web = entries(INDEX, "web").unwrap().unwrap();
        assert_eq!(web[0].urls, ["https://x/web-1.2.0.tgz"]);
        assert_eq!((web[0].digest.as_deref(), web[1].version.as_str()), (Some("abc"), "1.1"));
        assert!(entries("<html>", "web").is_err());
        let json = r#"{"entries":{"web":[{"version":"1.0.0","urls":["u"]}]}}"#;
        assert_eq!(entries(json, "web").unwrap().unwrap()[0].version, "1.0.0");
    }

    #[test]
    fn versions_are_picked_as_helm_does() {
        let all = ["1.2.0", "2.0.0-rc.1", "1.10.0", "0.9.0", "junk", "1.10.0-beta"];
        for (wanted, want) in [
            ("", Some("1.10.0")),
            ("1.2.0", Some("1.2.0")),
            ("^1.0.0", Some("1.10.0")),
            ("~0.9", Some("0.9.0")),
            (">0.0.0-0", Some("2.0.0-rc.1")),
            ("3.x", None),
            ("junk", Some("junk")),
            ("1.2", Some("1.2.0")),
        ] {
            assert_eq!(pick(all.iter().copied(), wanted), want, "{wanted}");
        }
        assert!(is_exact("1.2.3") && is_exact("v1.2.3-rc.1") && !is_exact("1.2") && !is_exact("^1.2.3"));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "(entries:\n)?( {0,4}[a-c:\\-]{0,5}\n){0,8}") {
            let _ = entries(&text, "a");
        }
    }
}
