//! What a schema refers to.

use std::collections::HashSet;

use reqwest::Url;

use crate::chart::values::Tree;

/// Keywords whose members have names of their own: a property may be called `$ref`.
pub(super) const NAMED: [&str; 6] =
    ["properties", "patternProperties", "dependentSchemas", "dependencies", "$defs", "definitions"];
/// Keywords that hold data, not schemas.
const DATA: [&str; 4] = ["enum", "const", "default", "examples"];

/// Without an `$id`, a schema is at this place.
pub(super) const HERE: &str = "omk:///values.schema.json";

/// `reference` as seen from `base`, without and with its fragment apart.
pub(super) fn resolve(base: &str, reference: &str) -> Option<(String, String)> {
    let mut url = Url::parse(base).ok()?.join(reference).ok()?;
    let fragment = url.fragment().unwrap_or_default().to_owned();
    url.set_fragment(None);
    Some((url.to_string(), fragment))
}

/// The base below `schema`, which has the base `base` itself.
pub(super) fn base_of(schema: &Tree, base: &str) -> String {
    let id = schema.get("$id").or_else(|| schema.get("id")).and_then(Tree::as_str);
    match id.filter(|id| !id.starts_with('#')).and_then(|id| resolve(base, id)) {
        Some((url, _)) => url,
        None => base.to_owned(),
    }
}

/// Whether the crate brings this document along.
pub(super) fn is_standard(url: &str) -> bool {
    let path = url.trim_start_matches("https://").trim_start_matches("http://");
    path.starts_with("json-schema.org/draft-0") || path.starts_with("json-schema.org/draft/20")
}

/// Calls `f` for every schema in `schema`, with its base.
fn each(schema: &mut Tree, base: &str, f: &mut dyn FnMut(&mut Tree, &str)) {
    let base = base_of(schema, base);
    f(schema, &base);
    match schema {
        Tree::Object(m) => {
            for (key, below) in m.iter_mut() {
                if DATA.contains(&key.as_str()) {
                    continue;
                }
                match below {
                    Tree::Object(named) if NAMED.contains(&key.as_str()) => {
                        named.values_mut().for_each(|s| each(s, &base, f));
                    }
                    Tree::Object(_) | Tree::Array(_) => each(below, &base, f),
                    _ => {}
                }
            }
        }
        Tree::Array(items) => items.iter_mut().for_each(|s| each(s, &base, f)),
        _ => {}
    }
}

/// Takes out every reference to another document and gives their URLs, each once.
///
/// # Errors
///
/// For a reference to a file, which is never read.
pub(super) fn cut_remote(schema: &mut Tree) -> Result<Vec<String>, String> {
    let mut known = HashSet::from([HERE.to_owned()]);
    each(schema, HERE, &mut |_, base| {
        known.insert(base.to_owned());
    });
    let (mut remote, mut file) = (Vec::new(), None);
    each(schema, HERE, &mut |s, base| {
        let Tree::Object(m) = s else { return };
        // A dialect of one's own would have to be fetched too.
        let dialect = m.get("$schema").and_then(Tree::as_str).filter(|d| !is_standard(d)).map(str::to_owned);
        if let Some(url) = dialect {
            m.remove("$schema");
            let latest = url.contains("://json-schema.org/schema");
            if !latest && !known.contains(url.trim_end_matches('#')) {
                remote.push(url);
            }
        }
        for key in ["$ref", "$dynamicRef", "$recursiveRef"] {
            let Some(text) = m.get(key).and_then(Tree::as_str) else { continue };
            let Some((url, _)) = resolve(base, text) else { continue };
            if known.contains(&url) || is_standard(&url) {
                continue;
            }
            if ["http://", "https://", "urn:"].iter().any(|scheme| url.starts_with(scheme)) {
                remote.push(url);
                m.remove(key);
            } else {
                file = Some(text.to_owned());
            }
        }
    });
    if let Some(file) = file {
        return Err(format!("schema refers to {file:?}, which is outside of it and is not read"));
    }
    remote.sort();
    remote.dedup();
    Ok(remote)
}
