//! Zarf packages (`zarf.yaml`): the images, charts and manifests of their components. Fields:
//! github.com/zarf-dev/zarf, `src/api/v1alpha1`. Actions, files, data and repositories hold no images that Zarf would
//! push by itself, and are passed over.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::held::{Held, at, scalar};
use super::super::interpolate::{self, Filled};
use super::super::{Findings, Problem, Severity, SourceName, input, rules, scan};
use super::release::Release;
use super::tree::Folder;
use super::{Halt, Here, Step, hauler, lead, place};
use crate::chart::fetch::ChartSource;
use crate::chart::{RenderOptions, ValuesInput};
use crate::kustomize::Overlay;
use crate::yaml::{self, Limits, Node};

/// Packages that import each other.
const MAX_IMPORTS: usize = 8;

pub(super) fn package(here: &mut Here<'_>, object: &Held, _last: bool) -> Step {
    let mut found = Findings::default();
    let mut work = Package { object, values: variables(here, object), problems: Vec::new(), importing: None };
    let folder = hauler::folder_of(&object.source);
    for (component, path) in object.items("components") {
        work.component(here, component, &path, folder.as_deref(), 0, &mut found)?;
    }
    found.problems.append(&mut work.problems);
    Ok(found)
}

/// What the marks of a package stand for: what was given, then defaults and constants.
fn variables(here: &Here<'_>, object: &Held) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (list, prefix, key) in [("variables", "ZARF_VAR_", "default"), ("constants", "ZARF_CONST_", "value")]
    {
        for (entry, _) in object.items(list) {
            let value = entry.get(key).and_then(scalar);
            if let (Some(name), Some(value)) = (entry.get("name").and_then(Node::as_str), value) {
                all.insert(format!("{prefix}{name}"), value);
            }
        }
    }
    let architecture = object.text("metadata.architecture").unwrap_or("amd64");
    all.insert("ZARF_PKG_ARCH".into(), architecture.to_owned());
    for (name, value) in &here.scope.variables {
        for prefix in ["ZARF_PKG_TMPL_", "ZARF_VAR_", "ZARF_CONST_"] {
            all.insert(format!("{prefix}{name}"), value.clone());
        }
        all.insert(name.clone(), value.clone());
    }
    all
}

struct Package<'a> {
    object: &'a Held,
    values: BTreeMap<String, String>,
    problems: Vec<Problem>,
    /// The component that is being imported, which is what is told of images in other files.
    importing: Option<Node>,
}

impl Package<'_> {
    fn fill(&self, text: &str) -> Filled {
        // A constant may be made of a template of the package.
        let once = interpolate::fill_marks(text, &|name| self.values.get(name).cloned());
        if once.text == text {
            once
        } else {
            interpolate::fill_marks(&once.text, &|name| self.values.get(name).cloned())
        }
    }

    /// Marks that nothing stands for.
    fn unset(&self, path: &str, text: &str, unset: &[String]) -> Problem {
        let name = unset.first().map(String::as_str).unwrap_or_default();
        let short = ["ZARF_PKG_TMPL_", "ZARF_VAR_", "ZARF_CONST_"].iter().find_map(|p| name.strip_prefix(p));
        let reason =
            format!("{text:?}: {name} has no value; give it: --variable {}=VALUE", short.unwrap_or(name));
        self.object.gap(path, reason)
    }

    /// `path` is that of the component in the package that was given, whichever package it is imported from.
    fn component(
        &mut self,
        here: &mut Here<'_>,
        component: &Node,
        path: &str,
        folder: Option<&Path>,
        depth: usize,
        found: &mut Findings,
    ) -> Result<(), Halt> {
        if let Some(import) = component.get("import").filter(|n| n.as_map().is_some_and(|m| !m.is_empty())) {
            self.import(here, component, import, path, folder, depth, found)?;
        }
        let mut lists = vec![("images".to_owned(), component.get("images"))];
        let archives = component.get("imageArchives").and_then(Node::as_seq).unwrap_or_default();
        lists.extend(
            archives.iter().enumerate().map(|(i, a)| (format!("imageArchives[{i}].images"), a.get("images"))),
        );
        let mut listed = false;
        for (key, list) in lists {
            for (i, node) in list.and_then(Node::as_seq).unwrap_or_default().iter().enumerate() {
                listed = true;
                self.image(node, &format!("{path}.{key}[{i}]"), found);
            }
        }
        // Zarf pushes what is listed: what else a chart would ask for is news, but the list stands for itself.
        let severity = if listed { Severity::Warning } else { Severity::Error };
        let mut parts = Vec::new();
        for (i, chart) in
            component.get("charts").and_then(Node::as_seq).unwrap_or_default().iter().enumerate()
        {
            let path = format!("{path}.charts[{i}]");
            parts.push(self.chart(here, chart, &path, folder));
        }
        for (i, set) in
            component.get("manifests").and_then(Node::as_seq).unwrap_or_default().iter().enumerate()
        {
            let texts = |key: &str| -> Vec<String> {
                set.get(key).and_then(Node::as_seq).into_iter().flatten().filter_map(scalar).collect()
            };
            let path = format!("{path}.manifests[{i}]");
            for file in texts("files") {
                parts.push(self.manifest(here, &file, &path, folder));
            }
            for kustomization in texts("kustomizations") {
                parts.push(self.kustomization(here, &kustomization, &path, folder));
            }
        }
        for part in parts {
            match part {
                Ok(part) => found.merge(part),
                Err(Halt::Problem(problem)) => self.problems.push(Problem { severity, ..*problem }),
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }

    fn image(&mut self, node: &Node, path: &str, found: &mut Findings) {
        let text = node.as_str().unwrap_or_default();
        let filled = self.fill(text);
        if !filled.unset.is_empty() {
            let problem = self.unset(path, text, &filled.unset);
            return self.problems.push(problem);
        }
        // Signatures and attestations are listed like images, under tags that name what they are about.
        let tag = filled.text.rsplit(':').next().unwrap_or_default();
        if tag.starts_with("sha256-") && (tag.ends_with(".sig") || tag.ends_with(".att")) {
            return;
        }
        let node = self.importing.as_ref().unwrap_or(node);
        match self.object.image(&filled.text, node, path, &rules::ZARF_IMAGE) {
            Ok(finding) => found.findings.push(finding),
            Err(problem) => self.problems.push(*problem),
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn import(
        &mut self,
        here: &mut Here<'_>,
        component: &Node,
        import: &Node,
        path: &str,
        folder: Option<&Path>,
        depth: usize,
        found: &mut Findings,
    ) -> Result<(), Halt> {
        let field = format!("{path}.import");
        if depth >= MAX_IMPORTS {
            let reason = format!("more than {MAX_IMPORTS} packages import each other");
            self.problems.push(self.object.gap(&field, reason));
            return Ok(());
        }
        let text = |key: &str| import.get(key).and_then(Node::as_str).filter(|s| !s.is_empty());
        let Some((below, folder)) = text("path").zip(folder) else {
            let url = text("url").unwrap_or_default();
            let reason = format!(
                "{url:?} is not fetched; where it can be reached: zarf dev find-images, or pull it, and name its images with \
                 --image"
            );
            self.problems.push(self.object.gap(&field, reason));
            return Ok(());
        };
        let filled = self.fill(below).text;
        let (folder, file) = if filled.ends_with(".yaml") || filled.ends_with(".yml") {
            let file = folder.join(&filled);
            (file.parent().map(Path::to_path_buf).unwrap_or_default(), file)
        } else {
            (folder.join(&filled), folder.join(&filled).join("zarf.yaml"))
        };
        let read = input::read_file(&file, here.scope).map_err(|e| e.to_string()).and_then(|text| {
            let limits = Limits { allow_duplicate_keys: true, ..Limits::default() };
            yaml::parse_one(&text, &limits).map_err(|e| format!("{}: {e}", file.display()))
        });
        let other = match read {
            Ok(other) => other,
            Err(reason) => {
                self.problems.push(self.object.gap(&field, reason));
                return Ok(());
            }
        };
        let name = text("name").or(component.get("name").and_then(Node::as_str)).unwrap_or_default();
        let flavor = at(component, "only.flavor").and_then(Node::as_str);
        let all = other.get("components").and_then(Node::as_seq).unwrap_or_default();
        let named = all.iter().filter(|c| c.get("name").and_then(Node::as_str) == Some(name));
        // A component may be there once for each flavour.
        let fitting: Vec<&Node> = named
            .filter(|c| {
                let own = at(c, "only.flavor").and_then(Node::as_str);
                flavor.is_none() || own.is_none() || own == flavor
            })
            .collect();
        if fitting.is_empty() {
            let reason = format!("{} has no component {name}", file.display());
            self.problems.push(self.object.gap(&field, reason));
        }
        let outermost = self.importing.is_none();
        if outermost {
            self.importing = Some(import.clone());
        }
        for component in fitting {
            self.component(here, component, path, Some(&folder), depth + 1, found)?;
        }
        if outermost {
            self.importing = None;
        }
        Ok(())
    }

    fn gap(&self, path: &str, reason: impl Into<String>) -> Halt {
        self.object.gap(path, reason).into()
    }

    fn chart(&self, here: &mut Here<'_>, chart: &Node, path: &str, folder: Option<&Path>) -> Step {
        let text =
            |key: &str| chart.get(key).and_then(scalar).map(|t| self.fill(&t).text).unwrap_or_default();
        let (name, version, url) = (text("name"), text("version"), text("url"));
        let repo_name = Some(text("repoName")).filter(|n| !n.is_empty()).unwrap_or_else(|| name.clone());
        let local = text("localPath");
        let wanted = if !local.is_empty() {
            ChartSource::Path(self.beside(folder, &local, path)?)
        } else if url.starts_with("oci://") {
            ChartSource::parse(&url, None, &version).map_err(|e| self.gap(path, e.to_string()))?
        } else if !text("gitPath").is_empty() || url.ends_with(".git") || url.contains(".git@") {
            let (repository, revision) = url.split_once('@').unwrap_or((&url, &version));
            let git_path = text("gitPath");
            let git_path = if git_path.is_empty() { "." } else { git_path.as_str() };
            let found = here.places.tree(&[repository.to_owned()], repository, git_path, &SourceName::Stdin);
            let found = found.map_err(|reason| {
                let clone = super::flux::clone_command(repository, Some(revision).filter(|r| !r.is_empty()));
                let flag = place::word(&format!("{repository}=work"));
                self.gap(
                    path,
                    format!("{reason}; where it can be reached: {clone}; then here: --source-path {flag}"),
                )
            })?;
            ChartSource::Path(found.path)
        } else {
            ChartSource::parse(&repo_name, Some(&url), &version).map_err(|e| self.gap(path, e.to_string()))?
        };
        let (loaded, shown) = here.chart(self.object, path, &wanted, &[url, name.clone()])?;
        let mut values = ValuesInput::default();
        for file in chart.get("valuesFiles").and_then(Node::as_seq).into_iter().flatten().filter_map(scalar) {
            let place = self.beside(folder, &file, path)?;
            let text = place::read(&place).map_err(|reason| self.gap(path, reason))?;
            values.files.push((file, self.fill(&text).text));
        }
        let namespace = Some(text("namespace")).filter(|n| !n.is_empty()).unwrap_or_else(|| "default".into());
        let release = Some(text("releaseName")).filter(|n| !n.is_empty()).unwrap_or(name);
        let release = Release {
            chart: &loaded,
            place: &shown,
            options: RenderOptions { release_name: release, namespace, values, ..here.options.clone() },
            overlays: Vec::new(),
        };
        here.read(&release, self.object)
    }

    /// A file or folder beside the package.
    fn beside(&self, folder: Option<&Path>, name: &str, path: &str) -> Result<PathBuf, Halt> {
        let name = self.fill(name).text;
        if name.contains("://") {
            let command = format!("curl -fLO {}", place::word(&name));
            return Err(self.gap(
                path,
                format!(
                    "{name} is not fetched; where it can be reached: {command}; then name it as a source"
                ),
            ));
        }
        folder
            .map(|f| f.join(&name))
            .ok_or_else(|| self.gap(path, format!("{name} is beside a file, and this is none")))
    }

    fn manifest(&self, here: &mut Here<'_>, file: &str, path: &str, folder: Option<&Path>) -> Step {
        let place = self.beside(folder, file, path)?;
        let text = input::read_file(&place, here.scope).map_err(|e| self.gap(path, e.to_string()))?;
        here.covered.add(&place);
        let mut found = scan(&self.fill(&text).text, &SourceName::File { path: place });
        lead(&mut found, &self.object.chain());
        Ok(found)
    }

    fn kustomization(&self, here: &mut Here<'_>, name: &str, path: &str, folder: Option<&Path>) -> Step {
        let place = self.beside(folder, name, path)?;
        if !place.is_dir() {
            return Err(self.gap(path, format!("{} is no folder", place.display())));
        }
        let tree = Folder { path: &place, overlay: Overlay::default(), variables: None, takes: &|_| true };
        let found = here.read(&tree, self.object)?;
        here.cover_folder(&place, true);
        Ok(found)
    }
}
