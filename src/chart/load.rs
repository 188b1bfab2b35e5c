//! Reading a chart from a folder or an archive, within Helm's own bounds.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::bufread::GzDecoder;

use super::ignore::Rules;
use super::metadata::{Metadata, dependencies};
use super::values::{self, Tree};
use super::{Chart, ChartError, ChartFile, decode};
use crate::template::semver_order;
use crate::yaml::{self, Limits};

/// Bytes of a chart once unpacked, with its dependencies. Helm's bound.
pub const MAX_CHART_BYTES: u64 = 100 << 20;
/// Bytes of one file of a chart. Helm's bound.
pub const MAX_FILE_BYTES: u64 = 5 << 20;
/// Files of a chart, those of its dependencies included.
const MAX_FILES: usize = 50_000;
/// Values of one YAML file; a mapping counts for four.
const MAX_NODES: usize = 100_000;
/// Charts within charts.
const MAX_DEPTH: usize = 20;

/// Reads the chart at `path`: a folder with a `Chart.yaml`, or a `.tgz`.
///
/// # Errors
///
/// [`ChartError::Unsafe`] for a chart that points outside itself or is larger than [`MAX_CHART_BYTES`];
/// [`ChartError::NotAChart`], [`ChartError::Yaml`] and [`ChartError::Invalid`] for one that is not well formed.
pub fn load(path: &Path) -> Result<Chart, ChartError> {
    let mut left = Left::new();
    let files = if path.is_dir() {
        folder(path, &mut left)?
    } else {
        let file = std::fs::File::open(path).map_err(io(path))?;
        unpack(path, BufReader::new(file), &mut left)?
    };
    build(&path.display().to_string(), path, files, 0, &mut left)
}

/// Reads a chart archive that is already in memory; `name` stands for it in errors.
///
/// # Errors
///
/// As [`load`].
pub fn load_archive(name: &str, data: &[u8]) -> Result<Chart, ChartError> {
    let path = Path::new(name);
    let mut left = Left::new();
    let files = unpack(path, data, &mut left)?;
    build(name, path, files, 0, &mut left)
}

/// What a chart may still hold, with all that is packed in it.
pub(super) struct Left {
    bytes: u64,
    files: usize,
}

impl Left {
    pub(super) fn new() -> Self {
        Self { bytes: MAX_CHART_BYTES, files: MAX_FILES }
    }

    fn take(&mut self, path: &Path, bytes: u64) -> Result<(), ChartError> {
        let too_large =
            || format!("the chart is larger than the maximum size {MAX_CHART_BYTES} once unpacked");
        self.bytes = self.bytes.checked_sub(bytes).ok_or_else(|| refused(path, too_large()))?;
        let too_many = || format!("there are more than {MAX_FILES} files in the chart");
        self.files = self.files.checked_sub(1).ok_or_else(|| refused(path, too_many()))?;
        Ok(())
    }
}

fn refused(path: &Path, reason: impl Into<String>) -> ChartError {
    ChartError::Unsafe { path: path.into(), reason: reason.into() }
}

pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> ChartError + '_ {
    move |source| ChartError::Io { path: path.into(), source }
}

struct Walk<'a> {
    root: &'a Path,
    real_root: PathBuf,
    rules: Rules,
    files: Vec<ChartFile>,
    left: &'a mut Left,
    /// Times that a rule of `.helmignore` was held against a path.
    held: usize,
}

/// Rules of `.helmignore` times files; the largest real charts stay below a hundred thousand.
const MAX_HELD: usize = 10_000_000;

pub(super) fn folder(root: &Path, left: &mut Left) -> Result<Vec<ChartFile>, ChartError> {
    if !root.join("Chart.yaml").is_file() {
        let file = root.join("Chart.yaml");
        let reason = format!(
            "unable to detect chart at {}: open {}: no such file or directory",
            file.display(),
            file.display()
        );
        return Err(ChartError::NotAChart { path: root.into(), reason });
    }
    let ignore = root.join(".helmignore");
    let text =
        if ignore.is_file() { std::fs::read_to_string(&ignore).map_err(io(&ignore))? } else { String::new() };
    let rules = Rules::parse(&text)
        .map_err(|reason| ChartError::Invalid { chart: root.display().to_string(), reason })?;
    let real_root = root.canonicalize().map_err(io(root))?;
    let mut walk = Walk { root, real_root, rules, files: Vec::new(), left, held: 0 };
    walk.enter("", 0)?;
    Ok(walk.files)
}

impl Walk<'_> {
    fn enter(&mut self, below: &str, depth: usize) -> Result<(), ChartError> {
        let dir = self.root.join(below);
        if depth > 64 {
            return Err(refused(&dir, "folders are nested deeper than 64 levels"));
        }
        let mut entries: Vec<_> =
            std::fs::read_dir(&dir).map_err(io(&dir))?.collect::<Result<_, _>>().map_err(io(&dir))?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
                return Err(refused(&path, "its name is not UTF-8"));
            };
            let name = if below.is_empty() { name } else { format!("{below}/{name}") };
            let meta = std::fs::metadata(&path).map_err(io(&path))?;
            self.held = self.held.saturating_add(self.rules.len());
            if self.held > MAX_HELD {
                return Err(refused(self.root, "its .helmignore has too many rules for so many files"));
            }
            if self.rules.ignore(&name, meta.is_dir()) {
                continue;
            }
            if entry.file_type().map_err(io(&path))?.is_symlink() {
                let target = path.canonicalize().map_err(io(&path))?;
                if !target.starts_with(&self.real_root) {
                    return Err(refused(
                        &path,
                        format!("a link that leads out of the chart, to {}", target.display()),
                    ));
                }
            }
            if meta.is_dir() {
                // Counted too: links within the chart can make a tree without an end.
                self.left.take(&path, 0)?;
                self.enter(&name, depth + 1)?;
                continue;
            }
            if !meta.is_file() {
                return Err(refused(&path, "neither a file nor a folder"));
            }
            // Archives of dependencies may be larger than a file may be.
            if meta.len() > MAX_FILE_BYTES && !name.ends_with(".tgz") {
                return Err(refused(&path, format!("larger than the maximum file size {MAX_FILE_BYTES}")));
            }
            self.left.take(&path, meta.len())?;
            let mut data = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0));
            let file = std::fs::File::open(&path).map_err(io(&path))?;
            // It could have grown since.
            file.take(meta.len()).read_to_end(&mut data).map_err(io(&path))?;
            self.files.push(ChartFile { name, data: without_bom(data) });
        }
        Ok(())
    }
}

fn without_bom(mut data: Vec<u8>) -> Arc<Vec<u8>> {
    if data.starts_with(b"\xef\xbb\xbf") {
        data.drain(..3);
    }
    Arc::new(data)
}

pub(super) fn unpack(
    path: &Path,
    mut data: impl BufRead,
    left: &mut Left,
) -> Result<Vec<ChartFile>, ChartError> {
    if !data.fill_buf().map_err(io(path))?.starts_with(&[0x1f, 0x8b]) {
        let reason = "gzip: invalid header: it does not appear to be a gzipped archive";
        return Err(ChartError::NotAChart { path: path.into(), reason: reason.into() });
    }
    // More than allowed, to tell too large from just fitting, and for what a tar has beside the files.
    let limited = GzDecoder::new(data.take(MAX_CHART_BYTES)).take(MAX_CHART_BYTES / 2 * 3);
    let mut archive = tar::Archive::new(limited);
    let mut files = Vec::new();
    for entry in archive.entries().map_err(io(path))? {
        let mut entry = entry.map_err(io(path))?;
        let kind = entry.header().entry_type();
        if kind.is_dir() || kind.is_pax_global_extensions() || kind.is_pax_local_extensions() {
            continue;
        }
        let raw = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if !kind.is_file() {
            return Err(refused(path, format!("{raw} is neither a file nor a folder")));
        }
        let name = inner_name(&raw).map_err(|reason| refused(path, reason))?;
        let size = entry.size();
        if size > MAX_FILE_BYTES {
            return Err(refused(
                path,
                format!("{raw} is larger than the maximum file size {MAX_FILE_BYTES}"),
            ));
        }
        left.take(path, size)?;
        let mut data = Vec::new();
        entry.by_ref().take(size).read_to_end(&mut data).map_err(io(path))?;
        files.push(ChartFile { name, data: without_bom(data) });
    }
    if files.is_empty() {
        return Err(ChartError::NotAChart { path: path.into(), reason: "no files in chart archive".into() });
    }
    Ok(files)
}

/// The path below the archive's one folder; refuses what could lead elsewhere.
fn inner_name(raw: &str) -> Result<String, String> {
    let path = if raw.contains('\\') { raw.replace('\\', "/") } else { raw.to_owned() };
    let (first, rest) = path.split_once('/').unwrap_or((&path, ""));
    if first == "Chart.yaml" {
        return Err("chart yaml not in base directory".into());
    }
    if rest.starts_with('/') {
        return Err("chart illegally contains absolute paths".into());
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in rest.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return Err(format!("chart illegally references parent directory: {raw:?}"));
                }
            }
            _ => parts.push(part),
        }
    }
    if parts.is_empty() {
        return Err(format!("chart illegally contains content outside the base directory: {raw:?}"));
    }
    if parts[0].len() == 2 && parts[0].ends_with(':') {
        return Err("chart contains illegally named files".into());
    }
    Ok(parts.join("/"))
}

fn text<'a>(chart: &str, file: &'a ChartFile) -> Result<&'a str, ChartError> {
    std::str::from_utf8(&file.data).map_err(|_| ChartError::Invalid {
        chart: chart.to_owned(),
        reason: format!("{} is not UTF-8", file.name),
    })
}

fn parse(chart: &str, file: &ChartFile) -> Result<yaml::Node, ChartError> {
    let limits = Limits { allow_duplicate_keys: true, max_nodes: MAX_NODES, ..Limits::default() };
    yaml::parse_one(text(chart, file)?, &limits).map_err(|source| ChartError::Yaml {
        chart: chart.to_owned(),
        file: file.name.clone(),
        source,
    })
}

/// [`parse`] of what has to be of a type.
fn parse_as(want: &decode::Want, chart: &str, file: &ChartFile) -> Result<yaml::Node, ChartError> {
    let node = parse(chart, file)?;
    decode::check(&node, want).map_err(|source| ChartError::Yaml {
        chart: chart.to_owned(),
        file: file.name.clone(),
        source,
    })?;
    Ok(node)
}

fn build(
    place: &str,
    path: &Path,
    files: Vec<ChartFile>,
    depth: usize,
    left: &mut Left,
) -> Result<Chart, ChartError> {
    if depth > MAX_DEPTH {
        return Err(refused(path, format!("charts are nested deeper than {MAX_DEPTH} levels")));
    }
    let Some(chart_yaml) = files.iter().find(|f| f.name == "Chart.yaml") else {
        return Err(ChartError::NotAChart { path: path.into(), reason: "Chart.yaml file is missing".into() });
    };
    let mut metadata = Metadata::read(&parse_as(&decode::CHART, place, chart_yaml)?);
    if metadata.api_version.is_empty() {
        metadata.api_version = "v1".into();
    }
    let mut chart = Chart {
        metadata,
        values: Tree::Object(serde_json::Map::new()),
        schema: None,
        lock: Vec::new(),
        templates: Vec::new(),
        files: Vec::new(),
        dependencies: Vec::new(),
    };
    let mut below: BTreeMap<String, Vec<ChartFile>> = BTreeMap::new();
    for file in files {
        match file.name.as_str() {
            "Chart.yaml" => {}
            "Chart.lock" => chart.lock = dependencies(&parse(place, &file)?),
            "values.yaml" => {
                chart.values = values::read_file(text(place, &file)?).map_err(|source| ChartError::Yaml {
                    chart: place.to_owned(),
                    file: file.name.clone(),
                    source,
                })?;
            }
            "values.schema.json" => chart.schema = Some(file.data),
            "requirements.yaml" | "requirements.lock" => {
                if file.name == "requirements.yaml" {
                    chart.metadata.read_requirements(&parse_as(&decode::CHART, place, &file)?);
                }
                if file.name == "requirements.lock" {
                    chart.lock = dependencies(&parse(place, &file)?);
                }
                if chart.metadata.api_version == "v1" {
                    chart.files.push(file);
                }
            }
            name if name.starts_with("templates/") => chart.templates.push(file),
            name if name.starts_with("charts/") && !name.ends_with(".prov") => {
                let inner = name["charts/".len()..].to_owned();
                let group = inner.split('/').next().unwrap_or_default().to_owned();
                below.entry(group).or_default().push(ChartFile { name: inner, data: file.data });
            }
            _ => chart.files.push(file),
        }
    }
    check(place, &chart.metadata)?;
    for (group, files) in below {
        if group.starts_with(['_', '.']) {
            continue;
        }
        let sub_place = format!("{place}/charts/{group}");
        let sub_path = path.join("charts").join(&group);
        let parent = chart.metadata.name.clone();
        let wrap = |source: ChartError| ChartError::Subchart {
            name: group.clone(),
            parent,
            source: Box::new(source),
        };
        let inner = if group.ends_with(".tgz") {
            match files.first() {
                Some(f) if f.name == group => match unpack(&sub_path, f.data.as_slice(), left) {
                    Err(e @ ChartError::NotAChart { .. }) => return Err(wrap(e)),
                    files => files?,
                },
                _ => {
                    let reason = format!("charts/{group} is a folder, but named as an archive");
                    return Err(ChartError::Invalid { chart: place.to_owned(), reason });
                }
            }
        } else {
            let prefix = format!("{group}/");
            let strip = |f: ChartFile| {
                let name = f.name.strip_prefix(&prefix)?.to_owned();
                Some(ChartFile { name, data: f.data })
            };
            files.into_iter().filter_map(strip).collect()
        };
        if inner.is_empty() {
            // A stray file in charts/.
            let reason = "Chart.yaml file is missing".to_owned();
            return Err(wrap(ChartError::NotAChart { path: sub_path, reason }));
        }
        chart.dependencies.push(build(&sub_place, &sub_path, inner, depth + 1, left).map_err(wrap)?);
    }
    Ok(chart)
}

/// What Helm checks when a chart is loaded, in its order and words.
fn check(place: &str, m: &Metadata) -> Result<(), ChartError> {
    let invalid = |reason: &str| ChartError::Invalid {
        chart: place.to_owned(),
        reason: format!("validation: {reason}"),
    };
    if !matches!(m.api_version.as_str(), "v1" | "v2") {
        // Helm knows of a third version, but does not load it here.
        let reason =
            if m.api_version == "v3" { "invalid chart apiVersion" } else { "unsupported chart version" };
        let reason = format!("{reason}: {:?}, where v1 and v2 are known", m.api_version);
        return Err(ChartError::Invalid { chart: place.to_owned(), reason });
    }
    if m.name.is_empty() {
        return Err(invalid("chart.metadata.name is required"));
    }
    if m.name == ".." || m.name == "." {
        return Err(invalid(&format!("chart.metadata.name {:?} is not allowed", m.name)));
    }
    if m.name.contains('/') {
        return Err(invalid(&format!("chart.metadata.name {:?} is invalid", m.name)));
    }
    if m.version.is_empty() {
        return Err(invalid("chart.metadata.version is required"));
    }
    if semver_order(&m.version, &m.version).is_none() {
        return Err(invalid(&format!("chart.metadata.version {:?} is invalid", m.version)));
    }
    if !matches!(m.chart_type.as_str(), "" | "application" | "library") {
        return Err(invalid("chart.metadata.type must be application or library"));
    }
    for (name, holed) in [("maintainers", m.null_maintainer), ("dependencies", m.null_dependency)] {
        if holed {
            return Err(invalid(&format!("{name} must not contain empty or null nodes")));
        }
    }
    let mut keys = HashSet::new();
    for dep in &m.dependencies {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if !dep.alias.chars().all(plain) {
            return Err(invalid(&format!(
                "dependency {:?} has disallowed characters in the alias",
                dep.name
            )));
        }
        let key = if dep.alias.is_empty() { &dep.name } else { &dep.alias };
        if !keys.insert(key) {
            return Err(invalid(&format!("more than one dependency with name or alias {key:?}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_cannot_lead_out() {
        assert_eq!(inner_name("c/templates/a.yaml").unwrap(), "templates/a.yaml");
        for bad in ["c/../../x", "c//etc/passwd", "c/..", "Chart.yaml", "c/c:/x", "c\\..\\..\\x"] {
            assert!(inner_name(bad).is_err(), "{bad}");
        }
    }
}
