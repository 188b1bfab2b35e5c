//! One kustomization: what it accumulates, and what it does to that.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::add::{self, ValueAdd};
use super::file::{self, Configuration, FieldSpec, Kustomization, PatchEntry, ReplacementEntry};
use super::load::{self, Loader, Resource};
use super::object::{Id, Object};
use super::patch::{self, Patch};
use super::vars::Vars;
use super::{KustomizeError, generate, helm, images, metadata, replace};
use crate::chart::Tree;

/// What a kustomization is told by those that name it.
#[derive(Debug, Clone, Default)]
pub(super) struct Parent {
    /// The namespace of the nearest one that sets it: charts are rendered for it.
    namespace: String,
}

/// Builds the kustomization in `folder`. `objects` is what it works on: a base gets an empty list, a component that of
/// the one that names it.
pub(super) fn run(
    loader: &mut Loader<'_>,
    folder: &Path,
    parent: Parent,
    objects: &mut Vec<Object>,
    vars: &mut Vec<Vars>,
) -> Result<(), KustomizeError> {
    let (file, k) = loader.enter(folder)?;
    let target = Target { folder, file, parent };
    target.accumulate(loader, &k, objects, vars)?;
    target.transform(loader, &k, objects, vars)?;
    loader.leave();
    Ok(())
}

/// Does to `objects` what a kustomization without resources says.
pub(super) fn overlay(
    loader: &mut Loader<'_>,
    text: &str,
    objects: &mut Vec<Object>,
) -> Result<(), KustomizeError> {
    let file = PathBuf::new();
    let k = Kustomization::parse(&file, text)?;
    // A folder that is not there: an overlay that names files is refused.
    let target = Target { folder: Path::new(""), file, parent: Parent::default() };
    target.transform(loader, &k, objects, &mut Vec::new())
}

struct Target<'a> {
    folder: &'a Path,
    file: PathBuf,
    parent: Parent,
}

impl Target<'_> {
    fn fail(&self, reason: impl Into<String>) -> KustomizeError {
        KustomizeError::new(&self.file, reason)
    }

    fn below(&self, k: &Kustomization) -> Parent {
        if k.namespace.is_empty() { self.parent.clone() } else { Parent { namespace: k.namespace.clone() } }
    }

    fn accumulate(
        &self,
        loader: &mut Loader<'_>,
        k: &Kustomization,
        objects: &mut Vec<Object>,
        vars: &mut Vec<Vars>,
    ) -> Result<(), KustomizeError> {
        // A component adds to what is there already.
        let mut known: HashMap<String, PathBuf> =
            objects.iter().map(|o| (o.id().key(), o.origin.clone())).collect();
        for entry in &k.resources {
            let before = objects.len();
            self.resource(loader, k, entry, objects, vars)?;
            for object in &objects[before..] {
                let id = object.id();
                if let Some(first) =
                    known.insert(id.key(), object.origin.clone()).filter(|_| !id.name.is_empty())
                {
                    return Err(self.fail(twice(&id, &first, &object.origin)));
                }
            }
        }
        for (args, kind) in k
            .config_map_generator
            .iter()
            .map(|a| (a, "ConfigMap"))
            .chain(k.secret_generator.iter().map(|a| (a, "Secret")))
        {
            let made = generate::data(loader, self.folder, args, kind).map_err(|e| self.about(e))?;
            generate::absorb(objects, made, &args.behavior, &self.file).map_err(|r| self.fail(r))?;
        }
        let namespace = self.below(k).namespace;
        let home = k.helm_globals.as_ref().and_then(|g| g.chart_home.clone());
        for chart in &k.helm_charts {
            objects.extend(helm::inflate(
                loader,
                self.folder,
                &self.file,
                chart,
                home.as_deref(),
                &namespace,
            )?);
        }
        for entry in &k.generators {
            self.generator(loader, entry, &namespace, objects)?;
        }
        for entry in &k.components {
            match loader.resource(self.folder, &self.file, entry)? {
                Some(Resource::Folder(path)) => run(loader, &path, self.below(k), objects, vars)?,
                Some(Resource::File(path)) => {
                    return Err(self.fail(format!("component {}: a component is a folder", path.display())));
                }
                None => loader.gap(&self.file, remote(entry)),
            }
        }
        Ok(())
    }

    fn about(&self, error: KustomizeError) -> KustomizeError {
        if error.file.as_os_str().is_empty() { self.fail(error.reason) } else { error }
    }

    fn resource(
        &self,
        loader: &mut Loader<'_>,
        k: &Kustomization,
        entry: &str,
        objects: &mut Vec<Object>,
        vars: &mut Vec<Vars>,
    ) -> Result<(), KustomizeError> {
        match loader.resource(self.folder, &self.file, entry)? {
            Some(Resource::File(path)) => objects.extend(loader.objects(self.folder, &path)?),
            Some(Resource::Folder(path)) => {
                let mut below = Vec::new();
                run(loader, &path, self.below(k), &mut below, vars)?;
                objects.extend(below);
            }
            None => loader.gap(&self.file, remote(entry)),
        }
        Ok(())
    }

    /// The documents that an entry of `generators` or `transformers` stands for: inline, a file, or a kustomization.
    fn plugins(&self, loader: &mut Loader<'_>, entry: &str) -> Result<Vec<Object>, KustomizeError> {
        if entry.contains('\n') {
            return load::objects(entry, &self.file);
        }
        match loader.resource(self.folder, &self.file, entry)? {
            Some(Resource::File(path)) => loader.objects(self.folder, &path),
            Some(Resource::Folder(path)) => {
                let (mut found, mut vars) = (Vec::new(), Vec::new());
                run(loader, &path, Parent::default(), &mut found, &mut vars)?;
                Ok(found)
            }
            None => {
                loader.gap(&self.file, remote(entry));
                Ok(Vec::new())
            }
        }
    }

    fn generator(
        &self,
        loader: &mut Loader<'_>,
        entry: &str,
        namespace: &str,
        objects: &mut Vec<Object>,
    ) -> Result<(), KustomizeError> {
        for plugin in self.plugins(loader, entry)? {
            let id = plugin.id();
            match (is_builtin(&plugin), id.kind.as_str()) {
                (true, kind @ ("ConfigMapGenerator" | "SecretGenerator")) => {
                    let mut args: file::DataArgs = self.typed(&plugin)?;
                    args.name.clone_from(&id.name);
                    let kind = kind.trim_end_matches("Generator");
                    let made = generate::data(loader, self.folder, &args, kind).map_err(|e| self.about(e))?;
                    generate::absorb(objects, made, &args.behavior, &self.file).map_err(|r| self.fail(r))?;
                }
                (true, "HelmChartInflationGenerator") => {
                    let chart: file::HelmChart = self.typed(&plugin)?;
                    let home = plugin
                        .value
                        .get("helmGlobals")
                        .and_then(|g| g.get("chartHome"))
                        .and_then(Tree::as_str);
                    objects.extend(helm::inflate(loader, self.folder, &self.file, &chart, home, namespace)?);
                }
                // It makes no pods.
                (true, "IAMPolicyGenerator") => {}
                _ => loader.gap(&self.file, not_run("generator", &plugin)),
            }
        }
        Ok(())
    }

    fn typed<T: serde::de::DeserializeOwned>(&self, plugin: &Object) -> Result<T, KustomizeError> {
        let mut value = plugin.value.clone();
        if let Tree::Object(map) = &mut value {
            for common in ["apiVersion", "kind", "metadata"] {
                map.remove(common);
            }
        }
        serde_json::from_value(value).map_err(|e| {
            KustomizeError::new(&plugin.origin, format!("{} {}: {e}", plugin.id().kind, plugin.id().name))
        })
    }

    fn transform(
        &self,
        loader: &mut Loader<'_>,
        k: &Kustomization,
        objects: &mut Vec<Object>,
        vars: &mut Vec<Vars>,
    ) -> Result<(), KustomizeError> {
        let mut specs = Configuration::default();
        for path in &k.configurations {
            let path = self.folder.join(path);
            let text = loader.text(self.folder, &path)?;
            let more: Configuration = file::parse(&path, &text)?;
            specs.images.extend(more.images);
            specs.var_reference.extend(more.var_reference);
        }
        for entry in &k.patches_strategic_merge {
            // A file, or the patch itself.
            let path = self.folder.join(entry);
            let (text, origin) = if !entry.contains('\n') && path.is_file() {
                (loader.text(self.folder, &path)?, path)
            } else {
                (entry.clone(), self.file.clone())
            };
            self.apply(objects, &Patch::merges(&text, &origin)?)?;
        }
        for entry in &k.patches {
            self.apply_entry(loader, entry, objects)?;
        }
        metadata::set_namespace(objects, &k.namespace);
        metadata::set_names(objects, &k.name_prefix, &k.name_suffix);
        for labels in &k.labels {
            let within = labels.include_selectors || labels.include_templates;
            metadata::add(objects, "labels", &labels.pairs, within);
        }
        metadata::add(objects, "labels", &k.common_labels, true);
        metadata::add(objects, "annotations", &k.common_annotations, true);
        for entry in &k.patches_json6902 {
            self.apply_entry(loader, entry, objects)?;
        }
        self.images(objects, &k.images, &specs.images)?;
        for entry in &k.replacements {
            for replacement in self.replacements(loader, entry)? {
                replace::apply(objects, &replacement).map_err(|r| self.fail(format!("replacements: {r}")))?;
            }
        }
        for entry in &k.transformers {
            for plugin in self.plugins(loader, entry)? {
                self.transformer(loader, &plugin, objects)?;
            }
        }
        if !k.vars.is_empty() || !specs.var_reference.is_empty() {
            vars.push(Vars { file: self.file.clone(), vars: k.vars.clone(), places: specs.var_reference });
        }
        Ok(())
    }

    fn images(
        &self,
        objects: &mut [Object],
        images: &[file::ImageEntry],
        places: &[FieldSpec],
    ) -> Result<(), KustomizeError> {
        images.iter().try_for_each(|image| images::apply(objects, image, places).map_err(|r| self.fail(r)))
    }

    fn replacements(
        &self,
        loader: &mut Loader<'_>,
        entry: &ReplacementEntry,
    ) -> Result<Vec<file::Replacement>, KustomizeError> {
        let file = match entry {
            ReplacementEntry::Here(replacement) => return Ok(vec![replacement.as_ref().clone()]),
            ReplacementEntry::File(file) => self.folder.join(&file.path),
        };
        let text = loader.text(self.folder, &file)?;
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum OneOrMore {
            More(Vec<file::Replacement>),
            One(Box<file::Replacement>),
        }
        impl Default for OneOrMore {
            fn default() -> Self {
                Self::More(Vec::new())
            }
        }
        Ok(match file::parse(&file, &text)? {
            OneOrMore::More(all) => all,
            OneOrMore::One(one) => vec![*one],
        })
    }

    fn apply_entry(
        &self,
        loader: &mut Loader<'_>,
        entry: &PatchEntry,
        objects: &mut Vec<Object>,
    ) -> Result<(), KustomizeError> {
        if let Some(path) = &entry.path
            && loader.resource(self.folder, &self.file, path)?.is_none()
        {
            loader.gap(&self.file, remote(path));
            return Ok(());
        }
        let patch = self.patch(loader, entry)?;
        self.apply(objects, &patch)
    }

    fn patch(&self, loader: &mut Loader<'_>, entry: &PatchEntry) -> Result<Patch, KustomizeError> {
        let (text, origin) = match (&entry.path, &entry.patch) {
            (Some(path), None) => {
                let path = self.folder.join(path);
                (loader.text(self.folder, &path)?, path)
            }
            (None, Some(text)) => (text.clone(), self.file.clone()),
            _ => return Err(self.fail("a patch has either path or patch")),
        };
        Patch::parse(&text, &origin, entry)
    }

    fn apply(&self, objects: &mut Vec<Object>, patch: &Patch) -> Result<(), KustomizeError> {
        patch::apply(objects, patch).map_err(|r| KustomizeError::new(&patch.origin, r))
    }

    /// A transformer that is written out instead of standing as a field.
    fn transformer(
        &self,
        loader: &mut Loader<'_>,
        plugin: &Object,
        objects: &mut Vec<Object>,
    ) -> Result<(), KustomizeError> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct ImageArgs {
            #[serde(rename = "imageTag")]
            image: file::ImageEntry,
            #[serde(default, rename = "fieldSpecs")]
            places: Vec<FieldSpec>,
        }
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Replacements {
            replacements: Vec<ReplacementEntry>,
        }
        #[derive(serde::Deserialize)]
        struct Merges {
            #[serde(default)]
            paths: Vec<String>,
            #[serde(default)]
            patches: String,
        }
        if !is_builtin(plugin) {
            loader.gap(&self.file, not_run("transformer", plugin));
            return Ok(());
        }
        match plugin.id().kind.as_str() {
            "ImageTagTransformer" => {
                let args: ImageArgs = self.typed(plugin)?;
                self.images(objects, &[args.image], &args.places)
            }
            "PatchTransformer" => {
                let patch = self.patch(loader, &self.typed(plugin)?)?;
                self.apply(objects, &patch)
            }
            "PatchJson6902Transformer" => {
                let mut value = plugin.clone();
                if let Tree::Object(map) = &mut value.value
                    && let Some(ops) = map.remove("jsonOp")
                {
                    map.insert("patch".into(), ops);
                }
                let patch = self.patch(loader, &self.typed(&value)?)?;
                self.apply(objects, &patch)
            }
            "PatchStrategicMergeTransformer" => {
                let args: Merges = self.typed(plugin)?;
                for path in args.paths {
                    let path = self.folder.join(path);
                    let text = loader.text(self.folder, &path)?;
                    self.apply(objects, &Patch::merges(&text, &path)?)?;
                }
                self.apply(objects, &Patch::merges(&args.patches, &plugin.origin)?)
            }
            "ReplacementTransformer" => {
                let args: Replacements = self.typed(plugin)?;
                for entry in &args.replacements {
                    for replacement in self.replacements(loader, entry)? {
                        replace::apply(objects, &replacement).map_err(|r| self.fail(r))?;
                    }
                }
                Ok(())
            }
            "NamespaceTransformer" => {
                metadata::set_namespace(objects, &plugin.id().namespace);
                Ok(())
            }
            "PrefixTransformer" | "SuffixTransformer" | "PrefixSuffixTransformer" => {
                let text = |field: &str| {
                    plugin.value.get(field).and_then(Tree::as_str).unwrap_or_default().to_owned()
                };
                metadata::set_names(objects, &text("prefix"), &text("suffix"));
                Ok(())
            }
            "LabelTransformer" | "AnnotationsTransformer" => {
                let field = if plugin.id().kind.starts_with('L') { "labels" } else { "annotations" };
                if let Some(Tree::Object(pairs)) = plugin.value.get(field) {
                    let pairs = pairs.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
                    // Which of the places else are meant it says itself, and no image depends on it.
                    metadata::add(objects, field, &pairs, false);
                }
                Ok(())
            }
            "ValueAddTransformer" => {
                let mut args: ValueAdd = self.typed(plugin)?;
                if let Some(path) = args.target_file_path.take() {
                    let path = self.folder.join(path);
                    let more: ValueAdd = file::parse(&path, &loader.text(self.folder, &path)?)?;
                    args.targets.extend(more.targets);
                }
                add::apply(objects, &args, self.folder).map_err(|r| self.fail(r))
            }
            // What they change is no image.
            "ReplicaCountTransformer"
            | "HashTransformer"
            | "NamePrefixTransformer"
            | "SortOrderTransformer" => Ok(()),
            _ => {
                loader.gap(&self.file, not_run("transformer", plugin));
                Ok(())
            }
        }
    }
}

fn twice(id: &Id, first: &Path, second: &Path) -> String {
    let Id { kind, name, .. } = id;
    let (first, second) = (first.display(), second.display());
    format!(
        "{kind} {name} is added twice, by {first} and by {second}; Kustomize refuses that too: take one out"
    )
}

fn is_builtin(plugin: &Object) -> bool {
    plugin.id().group.is_empty() && plugin.id().version == "builtin"
}

fn not_run(what: &str, plugin: &Object) -> String {
    let id = plugin.id();
    format!(
        "the {what} {} {} is a plugin, which omk does not run: build with it where it can run, and pipe that in: \
         kubectl kustomize FOLDER | omk image discover -",
        id.kind, id.name
    )
}

fn remote(entry: &str) -> String {
    format!(
        "{entry} is not on this machine and is not fetched: render where it can be reached, and pipe that in: \
         kubectl kustomize FOLDER | omk image discover -"
    )
}
