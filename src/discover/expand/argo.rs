//! Argo CD's `Application`: charts of repositories, and folders of Git repositories with a chart, a kustomization or
//! plain manifests. Fields: argo-cd.readthedocs.io/en/stable/user-guide/application-specification.

use std::path::{Path, PathBuf};

use super::super::held::{Held, scalar};
use super::super::{Findings, Problem, Severity};
use super::release::{self, Release};
use super::tree::Folder;
use super::values::instead;
use super::{Halt, Here, Step, flux, place};
use crate::chart::fetch::ChartSource;
use crate::chart::{KubeVersion, RenderOptions, Setting, Tree, ValuesInput};
use crate::kustomize::{self, Overlay, tree};
use crate::yaml::Node;

pub(super) fn application(here: &mut Here<'_>, object: &Held, _last: bool) -> Step {
    let sources: Vec<String> = match object.items("spec.sources") {
        many if !many.is_empty() => many.into_iter().map(|(_, path)| path).collect(),
        _ if object.at("spec.source").is_some() => vec!["spec.source".to_owned()],
        _ => return Err(object.gap("spec", "it has neither source nor sources").into()),
    };
    let mut found = Findings::default();
    for path in &sources {
        match source(here, object, path, &sources) {
            Ok(part) => found.merge(part),
            Err(Halt::Problem(problem)) => {
                let at = At { object, path, all: &sources };
                // What else is wrong is told once the chart is there.
                let values = values(here, &at, None, None, &mut Vec::new())?;
                found.merge(instead(object, &at.field("helm.valuesObject"), &values, *problem, here.scope));
            }
            Err(other) => return Err(other),
        }
    }
    Ok(found)
}

/// One of the sources of an application.
struct At<'a> {
    object: &'a Held,
    /// Where it stands in the object.
    path: &'a str,
    /// All of them: one may be there for its files only.
    all: &'a [String],
}

impl At<'_> {
    fn text(&self, key: &str) -> Option<&str> {
        self.object.text(&self.field(key))
    }

    fn field(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    fn flag(&self, key: &str) -> bool {
        self.object.at(&self.field(key)).and_then(Node::as_bool) == Some(true)
    }

    fn texts(&self, key: &str) -> Vec<String> {
        self.object.items(&self.field(key)).into_iter().filter_map(|(n, _)| scalar(n)).collect()
    }
}

fn source(here: &mut Here<'_>, object: &Held, path: &str, all: &[String]) -> Step {
    let at = At { object, path, all };
    if at.object.at(&at.field("plugin")).is_some() {
        let reason = "a plugin makes its manifests, which omk does not run; render them and pipe them in: \
                      argocd app manifests NAME | omk image discover -";
        return Err(object.gap(&at.field("plugin"), reason).into());
    }
    let (url, revision) =
        (at.text("repoURL").unwrap_or_default(), at.text("targetRevision").unwrap_or_default());
    if let Some(chart) = at.text("chart") {
        let wanted = if url.starts_with("http://") || url.starts_with("https://") {
            ChartSource::parse(chart, Some(url), revision)
        } else {
            // A registry, with or without its scheme.
            let host = url.trim_start_matches("oci://").trim_end_matches('/');
            ChartSource::parse(&format!("oci://{host}/{chart}"), None, revision)
        };
        return helm(here, &at, wanted.map_err(|e| object.gap(&at.field("chart"), e.to_string()))?, None);
    }
    let Some(folder) = at.text("path") else {
        // With neither it lends its files to the others.
        return match at.text("ref") {
            Some(_) => Ok(Findings::default()),
            None => Err(object.gap(path, "it has neither chart nor path").into()),
        };
    };
    if url.starts_with("oci://") && folder == "." {
        let wanted = ChartSource::parse(url, None, revision);
        return helm(here, &at, wanted.map_err(|e| object.gap(&at.field("repoURL"), e.to_string()))?, None);
    }
    let (root, folder) = work_tree(here, &at, url, revision, folder)?;
    if place::is_chart(&folder) {
        return helm(here, &at, ChartSource::Path(folder), Some(&root));
    }
    plain(here, &at, &folder)
}

/// Top and place of a folder of a Git repository.
fn work_tree(
    here: &mut Here<'_>,
    at: &At<'_>,
    url: &str,
    revision: &str,
    folder: &str,
) -> Result<(PathBuf, PathBuf), Halt> {
    let keys = [url.to_owned()];
    match here.places.tree(&keys, url, folder, &at.object.source) {
        Ok(found) => {
            if found.assumed {
                let reason = format!(
                    "{} is taken for {url}, since it has {folder}; another folder: --source-path {}",
                    found.root.display(),
                    place::word(&format!("{url}=DIR"))
                );
                here.notes.push(at.object.problem(Severity::Warning, &at.field("path"), reason));
            }
            Ok((found.root, found.path))
        }
        Err(reason) => {
            let branch = Some(revision).filter(|r| !r.is_empty() && *r != "HEAD");
            let clone = flux::clone_command(url, branch);
            let flag = place::word(&format!("{url}=work"));
            let reason =
                format!("{reason}; where it can be reached: {clone}; then here: --source-path {flag}");
            Err(at.object.gap(&at.field("repoURL"), reason).into())
        }
    }
}

fn helm(here: &mut Here<'_>, at: &At<'_>, wanted: ChartSource, root: Option<&Path>) -> Step {
    let object = at.object;
    let mut problems = Vec::new();
    let url = at.text("repoURL").unwrap_or_default();
    let (chart, shown) = here.chart(object, &at.field("chart"), &wanted, &[url.to_owned()])?;
    if root.is_some() {
        here.covered.add(&shown);
    }
    let values = values(here, at, root.map(|_| shown.as_path()), root, &mut problems)?;
    let name = at.text("helm.releaseName").unwrap_or(object.name());
    let namespace =
        at.text("helm.namespace").or(object.text("spec.destination.namespace")).unwrap_or("default");
    let kube_version = at.text("helm.kubeVersion").and_then(KubeVersion::parse);
    let mut api_versions = here.options.api_versions.clone();
    api_versions.extend(at.texts("helm.apiVersions"));
    let release = Release {
        chart: &chart,
        place: &shown,
        options: RenderOptions {
            release_name: name.to_owned(),
            namespace: namespace.to_owned(),
            kube_version: kube_version.unwrap_or_else(|| here.options.kube_version.clone()),
            api_versions,
            skip_tests: at.flag("helm.skipTests") || here.options.skip_tests,
            values,
            ..here.options.clone()
        },
        overlays: Vec::new(),
    };
    let mut found = here.read(&release, object)?;
    found.problems.extend(problems);
    Ok(found)
}

/// Values in Argo CD's order: files, then those of the application, then single ones.
fn values(
    here: &mut Here<'_>,
    at: &At<'_>,
    folder: Option<&Path>,
    root: Option<&Path>,
    problems: &mut Vec<Problem>,
) -> Result<ValuesInput, Halt> {
    let object = at.object;
    let mut values =
        ValuesInput { skip_schema: at.flag("helm.skipSchemaValidation"), ..ValuesInput::default() };
    let ignore = at.flag("helm.ignoreMissingValueFiles");
    for (node, path) in object.items(&at.field("helm.valueFiles")) {
        let Some(name) = node.as_str() else { continue };
        match value_file(here, at, name, folder, root) {
            Ok(text) => values.files.push((name.to_owned(), text)),
            Err(_) if ignore => {}
            Err(Halt::Problem(problem)) => {
                problems.push(Problem { field: Some(object.field(&path)), ..*problem });
            }
            Err(other) => return Err(other),
        }
    }
    if let Some(own) = object.at(&at.field("helm.valuesObject")) {
        values.files.push(("helm.valuesObject".into(), tree(own).to_string()));
    } else if let Some(own) = at.text("helm.values") {
        values.files.push(("helm.values".into(), own.to_owned()));
    }
    let parameter = |node: &Node, key: &str| node.get(key).and_then(scalar).unwrap_or_default();
    for (node, _) in object.items(&at.field("helm.parameters")) {
        let as_text = node.get("forceString").and_then(Node::as_bool) == Some(true);
        values.settings.push(release::set(&parameter(node, "name"), &parameter(node, "value"), as_text));
    }
    for (node, path) in object.items(&at.field("helm.fileParameters")) {
        match value_file(here, at, &parameter(node, "path"), folder, root) {
            Ok(text) => values.settings.push(Setting::File(parameter(node, "name"), text)),
            Err(Halt::Problem(problem)) => {
                problems.push(Problem { field: Some(object.field(&path)), ..*problem });
            }
            Err(other) => return Err(other),
        }
    }
    Ok(values)
}

/// The text of a file of values: beside the chart, from the top of its repository, or of another source by `$name/`.
fn value_file(
    here: &mut Here<'_>,
    at: &At<'_>,
    name: &str,
    folder: Option<&Path>,
    root: Option<&Path>,
) -> Result<String, Halt> {
    let gap = |reason: String| Halt::from(at.object.gap(at.path, reason));
    if name.contains("://") {
        let command = format!("curl -fLO {}", place::word(name));
        return Err(gap(format!(
            "{name} is not fetched, so that its values are not known and images may be missing; where it can be reached: \
             {command}; then put its content into helm.values"
        )));
    }
    let path = if let Some((other, rest)) = name.strip_prefix('$').and_then(|n| n.split_once('/')) {
        let named = |path: &&String| at.object.text(&format!("{path}.ref")) == Some(other);
        let path = at.all.iter().find(named);
        let path = path.ok_or_else(|| gap(format!("no source has the ref {other:?}")))?;
        let lender = At { object: at.object, path, all: at.all };
        let (url, revision) = (lender.text("repoURL").unwrap_or_default(), lender.text("targetRevision"));
        work_tree(here, &lender, url, revision.unwrap_or_default(), rest)?.1
    } else {
        let (Some(folder), Some(root)) = (folder, root) else {
            return Err(gap(format!(
                "{name}: a chart of a repository has no files beside it; use $ref/{name}"
            )));
        };
        if name.starts_with('/') {
            place::below(root, name).map_err(gap)?
        } else {
            let path = folder.join(name);
            if !place::within(root, &path) {
                return Err(gap(format!("{name} is not in the repository")));
            }
            path
        }
    };
    place::read(&path).map_err(gap)
}

/// A kustomization, or plain manifests.
fn plain(here: &mut Here<'_>, at: &At<'_>, folder: &Path) -> Step {
    let object = at.object;
    let is_kustomization = kustomize::kustomization_file(folder).is_some();
    let mut own = serde_json::Map::new();
    if is_kustomization && let Some(fields) = object.at(&at.field("kustomize")) {
        for key in ["namePrefix", "nameSuffix", "namespace"] {
            if let Some(value) = fields.get(key).and_then(Node::as_str) {
                own.insert(key.to_owned(), Tree::from(value));
            }
        }
        let images = fields.get("images").and_then(Node::as_seq).unwrap_or_default();
        let images: Vec<Tree> = images.iter().filter_map(Node::as_str).map(image).collect();
        own.insert("images".to_owned(), Tree::Array(images));
        if let Some(patches) = fields.get("patches").filter(|p| p.as_seq().is_some_and(inline)) {
            own.insert("patches".to_owned(), tree(patches));
        }
    }
    let components = if is_kustomization { at.texts("kustomize.components") } else { Vec::new() };
    let overlay = Tree::Object(own);
    let takes = Taken::new(object, at, folder);
    let tree = Folder {
        path: folder,
        overlay: Overlay {
            kustomization: Some(&overlay).filter(|o| o.as_object().is_some_and(|m| !m.is_empty())),
            components: components
                .iter()
                .map(|c| folder.join(c))
                .filter(|c| c.is_dir() && folder.parent().is_some_and(|up| place::within(up, c)))
                .collect(),
        },
        variables: None,
        takes: &|path| takes.takes(path),
    };
    let lost = components.len() - tree.overlay.components.len();
    let mut found = here.read(&tree, object)?;
    if lost > 0 {
        let reason = format!("{lost} of the components are no folders of the repository");
        found.problems.push(object.gap(&at.field("kustomize.components"), reason));
    }
    if let Some(file) = takes.jsonnet(here.scope.max_entries).filter(|_| !is_kustomization) {
        let reason = format!(
            "{} is Jsonnet, which omk does not evaluate; render it and pipe it in: argocd app manifests NAME | omk image \
             discover -",
            file.display()
        );
        found.problems.push(object.gap(&at.field("directory"), reason));
    }
    here.cover_folder(folder, takes.recurse);
    Ok(found)
}

/// Whether patches stand in the application itself: files beside it are not where its kustomization is.
fn inline(patches: &[Node]) -> bool {
    patches.iter().all(|p| p.get("path").is_none())
}

/// An image as `kustomize edit set image` takes it: `name:tag`, `name@digest`, `name=new:tag`.
fn image(text: &str) -> Tree {
    let (name, new) = match text.split_once('=') {
        Some((name, new)) => (Some(name), new),
        None => (None, text),
    };
    let (rest, digest) = new.split_once('@').map_or((new, None), |(rest, digest)| (rest, Some(digest)));
    let (new_name, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (rest, None),
    };
    let mut map = serde_json::Map::new();
    map.insert("name".to_owned(), Tree::from(name.unwrap_or(new_name)));
    if name.is_some() {
        map.insert("newName".to_owned(), Tree::from(new_name));
    }
    map.extend(tag.map(|t| ("newTag".to_owned(), Tree::from(t))));
    map.extend(digest.map(|d| ("digest".to_owned(), Tree::from(d))));
    Tree::Object(map)
}

/// Which files of a folder a `directory` source takes.
struct Taken {
    top: PathBuf,
    recurse: bool,
    include: Vec<regex::Regex>,
    exclude: Vec<regex::Regex>,
}

impl Taken {
    fn new(object: &Held, at: &At<'_>, folder: &Path) -> Self {
        let patterns = |key: &str| {
            let text = object.text(&at.field(key)).unwrap_or_default();
            let inner = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
            inner.split(',').map(str::trim).filter(|p| !p.is_empty()).filter_map(glob).collect()
        };
        Self {
            top: folder.to_owned(),
            recurse: at.flag("directory.recurse"),
            include: patterns("directory.include"),
            exclude: patterns("directory.exclude"),
        }
    }

    /// The first file that Argo CD evaluates before it applies what comes of it.
    fn jsonnet(&self, max_entries: usize) -> Option<PathBuf> {
        let mut folders = vec![self.top.clone()];
        let mut left = max_entries;
        let mut found: Vec<PathBuf> = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                left = left.checked_sub(1)?;
                let (path, kind) = (entry.path(), entry.file_type());
                if kind.as_ref().is_ok_and(std::fs::FileType::is_dir) && self.recurse {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "jsonnet") && self.takes(&path) {
                    found.push(path);
                }
            }
        }
        found.into_iter().min()
    }

    fn takes(&self, path: &Path) -> bool {
        let below = path.strip_prefix(&self.top).unwrap_or(path);
        if !self.recurse && below.components().count() > 1 {
            return false;
        }
        let name = below.to_string_lossy();
        let fits = |patterns: &[regex::Regex]| patterns.iter().any(|p| p.is_match(&name));
        (self.include.is_empty() || fits(&self.include)) && !fits(&self.exclude)
    }
}

/// A pattern of `directory.include`: `*` and `?` do not match a slash, `**` does.
fn glob(pattern: &str) -> Option<regex::Regex> {
    let mut out = String::from("^");
    let mut chars = pattern.chars().take(4096).peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.peek() == Some(&'*') => {
                chars.next();
                out.push_str(".*");
                // `**/` fits no folder at all, too.
                if chars.peek() == Some(&'/') {
                    chars.next();
                    out.push_str("(?:^|/)?");
                }
            }
            '*' => out.push_str("[^/]*"),
            '?' => out.push_str("[^/]"),
            c => out.push_str(&regex::escape(&c.to_string())),
        }
    }
    regex::RegexBuilder::new(&format!("{out}$")).size_limit(1 << 20).build().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_read_as_kustomize_edit_does() {
        for (text, json) in [
            ("nginx:1.27", r#"{"name":"nginx","newTag":"1.27"}"#),
            ("web=r.io:5000/a/web:2", r#"{"name":"web","newName":"r.io:5000/a/web","newTag":"2"}"#),
            ("r.io:5000/web@sha256:aa", r#"{"digest":"sha256:aa","name":"r.io:5000/web"}"#),
        ] {
            let expected: Tree = serde_json::from_str(json).unwrap();
            assert_eq!(image(text), expected, "{text}");
        }
    }

    #[test]
    fn patterns_of_files_are_globs() {
        let fits = |pattern: &str, name: &str| glob(pattern).unwrap().is_match(name);
        assert!(fits("*.yaml", "a.yaml") && !fits("*.yaml", "b/a.yaml") && fits("**/*.yaml", "b/a.yaml"));
        assert!(fits("env-?.yaml", "env-1.yaml") && !fits("env-?.yaml", "env-12.yaml"));
        assert!(!fits("a.yaml", "axyaml"));
    }
}
