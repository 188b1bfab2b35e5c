//! From a definition to what has to be fetched: the images that it needs, with the nodes that need them, and the charts,
//! manifests and files that ride along.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{ChartEntry, Definition, FileEntry};
use crate::bundle::artifact::{ArtifactKind, Content, NewFile, PackedArtifact};
use crate::bundle::lock::{Lock, LockedChart, LockedFile};
use crate::catalogue::Catalogue;
use crate::chart::fetch::{ChartSource, Loader, PackedChart};
use crate::chart::{self, ChartError, RenderOptions, Setting, ValuesInput};
use crate::discover::{self, ChartInput, Confidence, Findings, Inputs, Scope};
use crate::event::{Event, Events};
use crate::oci::{Algorithm, Digest, Hasher, ImageRef};
use crate::template::Env;

/// Bytes of a values file.
const MAX_VALUES_BYTES: u64 = 16 << 20;

/// Why a definition cannot be gathered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatherError {
    /// An entry cannot be used.
    #[error("{}: {field}: {reason}", path.display())]
    Entry {
        /// The definition.
        path: PathBuf,
        /// Such as `spec.charts[0]`.
        field: String,
        /// What is wrong.
        reason: String,
    },
    /// Something is not what the lock says.
    #[error("{} is not what {} was locked to:\n  {}\n`omk bundle lock {}` takes what there is now", path.display(), lock.display(), drift.join("\n  "), path.display())]
    Drift {
        /// The definition.
        path: PathBuf,
        /// The lock.
        lock: PathBuf,
        /// A line each.
        drift: Vec<String>,
    },
    /// Stopped.
    #[error("cancelled")]
    Cancelled,
}

/// What a definition asks for.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Every image with its evidence; excluded and unsure ones are out.
    pub findings: Findings,
    /// Images that only some nodes need, with the groups of these.
    pub groups: BTreeMap<ImageRef, BTreeSet<String>>,
    /// What rides along.
    pub artifacts: Vec<PackedArtifact>,
    /// The charts as they are now, by what the definition calls them.
    pub charts: BTreeMap<String, LockedChart>,
    /// The files as they are now, by their path in the bundle.
    pub files: BTreeMap<String, LockedFile>,
}

/// Reads all that a definition names. Blocks; charts and URLs are fetched as `scope` allows.
///
/// `files` are the entries with a URL, fetched already; with a `lock`, its versions of charts are taken.
///
/// # Errors
/// The first entry that cannot be used. What cannot be read in manifests is a problem among the findings.
pub fn gather(
    definition: &Definition,
    fetched: &BTreeMap<String, PathBuf>,
    lock: Option<&Lock>,
    catalogue: &Catalogue,
    scope: &Scope,
    events: &Events,
) -> Result<Gathered, GatherError> {
    let work = Gathering { definition, lock, scope, events };
    let mut all = Gathered::default();
    let mut parts: BTreeMap<BTreeSet<String>, Inputs> = BTreeMap::new();
    for entry in &definition.spec.images {
        work.part(&mut parts, &entry.0.groups).images.push(entry.0.image.clone());
    }
    for (i, entry) in definition.spec.components.iter().enumerate() {
        let picked = catalogue.pick(&entry.0.component);
        let picked = picked.map_err(|e| work.wrong(format!("spec.components[{i}]"), e))?;
        work.part(&mut parts, &entry.0.groups).components.push(picked);
    }
    for (field, entries) in
        [("manifests", &definition.spec.manifests), ("kustomizations", &definition.spec.kustomizations)]
    {
        for (i, entry) in entries.iter().enumerate() {
            let path = definition.folder().join(&entry.0.path);
            let field = format!("spec.{field}[{i}]");
            if !path.exists() {
                return Err(work.wrong(field, format!("{} is not there", path.display())));
            }
            all.artifacts.push(work.manifests(&field, &entry.0.path, &path)?);
            work.part(&mut parts, &entry.0.groups).paths.push(path);
        }
    }
    for (i, entry) in definition.spec.charts.iter().enumerate() {
        let input = work.chart(i, entry, &mut all)?;
        work.part(&mut parts, &entry.groups).releases.push(input);
    }
    work.files(fetched, &mut all)?;
    for (groups, inputs) in parts {
        let found = discover::discover(&inputs, scope).map_err(|_| GatherError::Cancelled)?;
        work.take(groups, found, &mut all);
    }
    all.findings.sort();
    Ok(all)
}

struct Gathering<'a> {
    definition: &'a Definition,
    lock: Option<&'a Lock>,
    scope: &'a Scope,
    events: &'a Events,
}

impl Gathering<'_> {
    fn wrong(&self, field: impl Into<String>, reason: impl std::fmt::Display) -> GatherError {
        let reason = reason.to_string();
        GatherError::Entry { path: self.definition.path.clone(), field: field.into(), reason }
    }

    fn part<'p>(
        &self,
        parts: &'p mut BTreeMap<BTreeSet<String>, Inputs>,
        groups: &BTreeSet<String>,
    ) -> &'p mut Inputs {
        parts.entry(groups.clone()).or_insert_with(|| Inputs { charts: self.options(), ..Inputs::default() })
    }

    fn options(&self) -> RenderOptions {
        let spec = &self.definition.spec;
        RenderOptions {
            kube_version: spec.kube_version.clone().unwrap_or_default(),
            api_versions: spec.api_versions.clone(),
            ..RenderOptions::default()
        }
    }

    /// Adds what was found for these groups. An image that any other entry needs without groups is for all nodes.
    fn take(&self, groups: BTreeSet<String>, mut found: Findings, all: &mut Gathered) {
        found.keep(self.definition.spec.min_confidence.unwrap_or(Confidence::Likely));
        self.definition.spec.exclude.iter().for_each(|pattern| pattern.take_from(&mut found));
        let before: BTreeSet<ImageRef> = all.findings.images().into_iter().collect();
        for image in found.images() {
            match (before.contains(&image), all.groups.get_mut(&image)) {
                (_, _) if groups.is_empty() => drop(all.groups.remove(&image)),
                (true, Some(there)) => there.extend(groups.iter().cloned()),
                // It is there, for all nodes.
                (true, None) => {}
                (false, _) => drop(all.groups.insert(image, groups.clone())),
            }
        }
        all.findings.merge(found);
    }

    /// A file as it is, a folder's files, or what a kustomization builds to.
    fn manifests(&self, field: &str, named: &Path, path: &Path) -> Result<PackedArtifact, GatherError> {
        let name: Vec<String> = named
            .components()
            .filter_map(|c| match c {
                std::path::Component::Normal(n) => Some(n.to_string_lossy().into_owned()),
                _ => None,
            })
            .collect();
        let name = if name.is_empty() { self.definition.name.clone() } else { name.join("-") };
        let files = if path.is_file() {
            vec![(format!("manifests/{name}"), self.bytes(field, path)?, false)]
        } else if crate::kustomize::kustomization_file(path).is_some() {
            self.kustomization(field, &name, path)?
        } else {
            let mut files = Vec::new();
            for file in discover::manifest_files(path, self.scope).map_err(|e| self.wrong(field, e))? {
                let below = file.strip_prefix(path).unwrap_or(&file).to_string_lossy().into_owned();
                files.push((format!("manifests/{name}/{below}"), self.bytes(field, &file)?, false));
            }
            files
        };
        Ok(PackedArtifact::files(ArtifactKind::Manifests, &name, files))
    }

    /// The files of a kustomization as they lie to each other, for `kubectl apply -k`: what omk builds of them is good
    /// for finding images, not for a cluster.
    fn kustomization(&self, field: &str, name: &str, path: &Path) -> Result<Vec<NewFile>, GatherError> {
        let wrong = |reason: &dyn std::fmt::Display| self.wrong(field, reason);
        let built = crate::kustomize::build(path, &self.scope.cancel).map_err(|e| wrong(&e))?;
        for gap in &built.gaps {
            let message = format!("{field}: {}: {}", gap.file.display(), gap.reason);
            self.events.emit(Event::Warning { message });
        }
        let own = crate::kustomize::kustomization_file(path).and_then(|f| f.canonicalize().ok());
        let used: BTreeSet<PathBuf> = built.used.into_iter().filter(|p| p.is_file()).chain(own).collect();
        let mut top = path.canonicalize().map_err(|e| wrong(&e))?;
        while !used.iter().all(|file| file.starts_with(&top)) && top.pop() {}
        let mut files = Vec::new();
        for file in used {
            let below = file.strip_prefix(&top).unwrap_or(&file).to_string_lossy().into_owned();
            files.push((format!("manifests/{name}/{below}"), self.bytes(field, &file)?, false));
        }
        Ok(files)
    }

    fn bytes(&self, field: &str, path: &Path) -> Result<Content, GatherError> {
        let text = read(path, self.scope.max_file_bytes).map_err(|e| self.wrong(field, e))?;
        Ok(Content::Bytes(text.into()))
    }

    fn chart(&self, i: usize, entry: &ChartEntry, all: &mut Gathered) -> Result<ChartInput, GatherError> {
        let field = format!("spec.charts[{i}]");
        let wrong = |reason: &dyn std::fmt::Display| self.wrong(&field, reason);
        let (source, called) = self.chart_source(entry).map_err(|e| wrong(&e))?;
        let mut values = ValuesInput::default();
        for file in &entry.values_files {
            let path = self.definition.folder().join(file);
            let text = read(&path, MAX_VALUES_BYTES).map_err(|e| wrong(&e))?;
            let text =
                String::from_utf8(text).map_err(|_| wrong(&format!("{} is not UTF-8", path.display())))?;
            values.files.push((file.display().to_string(), text));
        }
        if !entry.values.is_empty() {
            values.settings.push(Setting::Json(serde_json::Value::Object(entry.values.clone()).to_string()));
        }
        let packed = self.packed(&source, &field)?;
        let metadata = &packed.chart.metadata;
        let now = LockedChart { version: metadata.version.clone(), digest: packed.digest.clone() };
        let release = entry.name.clone().unwrap_or_else(|| metadata.name.clone());
        let options = RenderOptions {
            release_name: release.clone(),
            namespace: entry.namespace.clone().unwrap_or_else(|| "default".into()),
            include_crds: true,
            values,
            ..self.options()
        };
        let mut files: Vec<NewFile> = Vec::new();
        let merged = options.values.merge().map_err(|e| wrong(&e))?;
        if merged.as_object().is_some_and(|m| !m.is_empty()) {
            let text = serde_yaml::to_string(&merged).map_err(|e| wrong(&e))?;
            files.push((format!("charts/{release}.values.yaml"), Content::Bytes(text.into()), false));
        }
        match rendered(&packed, &options).map_err(|e| wrong(&e))? {
            Some(text) => {
                files.push((format!("manifests/{release}.yaml"), Content::Bytes(text.into()), false));
            }
            None => {
                let message = format!(
                    "{field}: {release} uses random values or the time, so what it renders to differs each time: the chart \
                     rides along, its rendered manifests do not. Install it with helm"
                );
                self.events.emit(Event::Warning { message });
            }
        }
        let chart = PackedArtifact::chart(&metadata.name, &metadata.version, packed.archive.clone());
        if !all.artifacts.iter().any(|a| a.artifact.root == chart.artifact.root) {
            all.artifacts.push(chart);
        }
        if !files.is_empty() {
            all.artifacts.push(PackedArtifact::files(ArtifactKind::Manifests, &release, files));
        }
        all.charts.insert(called, now);
        Ok(ChartInput { chart: source, release_name: Some(release), options })
    }

    /// Where a chart is, and what the lock calls it. With a lock, its version is asked for.
    fn chart_source(
        &self,
        entry: &ChartEntry,
    ) -> Result<(ChartSource, String), crate::chart::fetch::FetchError> {
        let parse = |version: &str| ChartSource::parse(&entry.chart, entry.repo.as_deref(), version);
        Ok(match parse(&entry.version)? {
            ChartSource::Path(path) => {
                (ChartSource::Path(self.definition.folder().join(&path)), path.display().to_string())
            }
            asked => {
                let called = asked.to_string();
                let locked = self.lock.and_then(|l| l.charts.get(&called)).map(|c| c.version.clone());
                let source = match (locked, asked) {
                    (Some(version), ChartSource::Oci { repository, .. }) => {
                        ChartSource::Oci { repository, version }
                    }
                    (Some(version), ChartSource::Repo { url, name, .. }) => {
                        ChartSource::Repo { url, name, version }
                    }
                    (_, asked) => asked,
                };
                (source, called)
            }
        })
    }

    fn packed(&self, source: &ChartSource, field: &str) -> Result<PackedChart, GatherError> {
        let Some(loader) = &self.scope.charts else {
            return Err(self.wrong(field, "nothing is given that fetches charts"));
        };
        Loader::packed(loader, source).map_err(|e| match &e {
            ChartError::Fetch(inner) if matches!(**inner, crate::chart::fetch::FetchError::Cancelled) => {
                GatherError::Cancelled
            }
            _ => self.wrong(field, e),
        })
    }

    fn files(&self, fetched: &BTreeMap<String, PathBuf>, all: &mut Gathered) -> Result<(), GatherError> {
        let mut files: Vec<NewFile> = Vec::new();
        for (i, entry) in self.definition.spec.files.iter().enumerate() {
            let field = format!("spec.files[{i}]");
            let target = entry.target().map_err(|e| self.wrong(&field, e))?;
            let path = match (&entry.path, fetched.get(&target)) {
                (Some(path), _) => self.definition.folder().join(path),
                (None, Some(path)) => path.clone(),
                (None, None) => return Err(self.wrong(field, "it was not fetched")),
            };
            let (digest, size) = self.hash(&path).map_err(|e| self.wrong(&field, e))?;
            if let Some(wanted) = wanted(entry).filter(|w| *w != digest) {
                let reason = format!("{} has SHA-256 {}, not {}", path.display(), digest.hex(), wanted.hex());
                return Err(self.wrong(field, reason));
            }
            all.files.insert(target.clone(), LockedFile { digest: digest.clone(), size });
            files.push((format!("files/{target}"), Content::File(path, digest, size), entry.executable));
        }
        if !files.is_empty() {
            all.artifacts.push(PackedArtifact::files(ArtifactKind::Files, &self.definition.name, files));
        }
        Ok(())
    }

    /// SHA-256 and size of a file that may be large.
    fn hash(&self, path: &Path) -> Result<(Digest, u64), String> {
        let failed = |e: std::io::Error| format!("cannot read {}: {e}", path.display());
        let meta = std::fs::metadata(path).map_err(failed)?;
        if !meta.is_file() {
            return Err(format!("{} is no file; pack a folder with tar first", path.display()));
        }
        let mut file = std::fs::File::open(path).map_err(failed)?;
        let (mut hasher, mut size) = (Hasher::new(Algorithm::Sha256), 0u64);
        let mut buffer = vec![0; 1 << 20];
        loop {
            if self.scope.cancel.is_cancelled() {
                return Err("cancelled".into());
            }
            match file.read(&mut buffer).map_err(failed)? {
                0 => return Ok((hasher.finish(), size)),
                n => {
                    hasher.update(&buffer[..n]);
                    size += n as u64;
                }
            }
        }
    }
}

/// The digest that an entry promises.
pub(super) fn wanted(entry: &FileEntry) -> Option<Digest> {
    entry.sha256.as_ref().and_then(|hex| format!("sha256:{hex}").parse().ok())
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let failed = |e: std::io::Error| format!("cannot read {}: {e}", path.display());
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(failed)?.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(format!("{} is larger than {limit} bytes", path.display()));
    }
    Ok(bytes)
}

/// What the chart renders to; `None` if that is not the same each time.
fn rendered(packed: &PackedChart, options: &RenderOptions) -> Result<Option<String>, ChartError> {
    let watch = Arc::new(Watch::default());
    let rendered = chart::render_with(&packed.chart, options, Arc::clone(&watch) as Arc<dyn Env>)?;
    let steady = !watch.asked.load(Ordering::Relaxed);
    Ok(steady.then(|| rendered.to_manifest()))
}

/// Notices who asks for the time or for random bytes. What it gives is of no account: such a rendering is not used.
#[derive(Default)]
struct Watch {
    asked: AtomicBool,
}

impl Env for Watch {
    fn now_nanos(&self) -> i128 {
        self.asked.store(true, Ordering::Relaxed);
        0
    }

    fn random(&self, buffer: &mut [u8]) {
        self.asked.store(true, Ordering::Relaxed);
        // Enough for primes to be found; nothing made of it leaves this process.
        assert!(getrandom::fill(buffer).is_ok(), "the system gives no random bytes");
    }
}

/// A definition and its lock, as they ride in the bundle.
pub fn origin(definition: &Definition, lock: Option<&Lock>) -> PackedArtifact {
    let mut files = vec![("bundle.yaml".to_owned(), Content::Bytes(definition.text.clone().into()), false)];
    if let Some(text) = lock.and_then(Lock::text) {
        files.push(("bundle.lock".to_owned(), Content::Bytes(text.into()), false));
    }
    PackedArtifact::files(ArtifactKind::Definition, &definition.name, files)
}
