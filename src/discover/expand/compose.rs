//! Docker Compose files. What a field means: github.com/compose-spec/compose-spec.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::held::{Held, scalar};
use super::super::interpolate::{self, Style};
use super::super::{Findings, Problem, Severity, SourceName, input, rules, scan};
use super::{Here, Step, hauler, lead, place};
use crate::yaml::{self, Limits, Node};

/// Files that extend or include each other.
const MAX_DEPTH: usize = 8;

pub(super) fn file(here: &mut Here<'_>, object: &Held, _last: bool) -> Step {
    let folder = hauler::folder_of(&object.source);
    let mut found = Findings::default();
    let environment = environment(here, folder.as_deref(), &[".env".to_owned()], object, &mut found);
    for (name, service) in object.at("services").and_then(Node::as_map).into_iter().flatten() {
        let path = format!("services.{name}");
        if let Err(problem) = one(here, object, service, &path, folder.as_deref(), &environment, &mut found) {
            found.problems.push(*problem);
        }
    }
    included(here, object, folder.as_deref(), &mut found)?;
    Ok(found)
}

/// What the command line and the file of the environment say; this program's own environment is of no account, so that a
/// list does not depend on who makes it.
fn environment(
    here: &Here<'_>,
    folder: Option<&Path>,
    files: &[String],
    object: &Held,
    found: &mut Findings,
) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for name in files {
        let Some(path) = folder.map(|f| f.join(name)).filter(|p| p.is_file()) else { continue };
        match place::read(&path) {
            Ok(text) => all.extend(dotenv(&text)),
            Err(reason) => found.problems.push(object.gap("", reason)),
        }
    }
    all.extend(here.scope.variables.iter().map(|(k, v)| (k.clone(), v.clone())));
    all
}

/// `NAME=value` lines with quotes and comments.
fn dotenv(text: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').filter(|_| !line.starts_with('#'))?;
        let value = value.trim();
        let quoted = ['"', '\''].iter().find_map(|q| value.strip_prefix(*q)?.split(*q).next());
        let value = quoted.unwrap_or_else(|| value.split(" #").next().unwrap_or(value).trim_end());
        Some((name.trim().to_owned(), value.to_owned()))
    };
    text.lines().filter_map(pair).collect()
}

/// The image of a service.
fn one(
    here: &Here<'_>,
    object: &Held,
    service: &Node,
    path: &str,
    folder: Option<&Path>,
    environment: &BTreeMap<String, String>,
    found: &mut Findings,
) -> Result<(), Box<Problem>> {
    let whose = Whose { here, object };
    let services = object.at("services");
    let (image, builds) = whose.image_of(service, services, folder, path, 0)?;
    let Some((text, node)) = image else {
        if builds {
            let field = format!("{path}.build");
            let reason = "it is built and has no image name, so that nobody can pull it; build it, push it, and give its \
                          name with image: or with --image";
            return Err(Box::new(object.gap(&field, reason)));
        }
        // An override adds to the services of the file beside it.
        return match object.source.inner() {
            SourceName::File { path } if path.to_string_lossy().contains("override") => Ok(()),
            _ => Err(Box::new(object.gap(path, "the service has neither image nor build"))),
        };
    };
    let field = format!("{path}.image");
    let filled = interpolate::fill(&text, Style::Compose, &|name| environment.get(name).cloned())
        .map_err(|reason| object.gap(&field, reason))?;
    if !filled.unset.is_empty() {
        let reason = format!(
            "{text:?}: {} without a value; give it: --variable {}=VALUE, or in .env beside the file",
            filled.unset.join(", "),
            filled.unset[0]
        );
        return Err(Box::new(object.gap(&field, reason)));
    }
    if builds {
        let reason = "it is built and given this name: it must be pushed before it can be pulled".to_owned();
        found.problems.push(object.problem(Severity::Warning, &field, reason));
    }
    found.findings.push(object.image(&filled.text, &node, &field, &rules::COMPOSE_SERVICE)?);
    Ok(())
}

/// A text with its place, and whether the service is built.
type Image = (Option<(String, Node)>, bool);

struct Whose<'a, 'b> {
    here: &'a Here<'b>,
    object: &'a Held,
}

impl Whose<'_, '_> {
    /// The image that a service among `services`, of a file in `folder`, has itself or by what it extends.
    fn image_of(
        &self,
        service: &Node,
        services: Option<&Node>,
        folder: Option<&Path>,
        path: &str,
        depth: usize,
    ) -> Result<Image, Box<Problem>> {
        let image = service.get("image").filter(|n| !n.is_null());
        let image = image.map(|n| (scalar(n).unwrap_or_default(), n.clone()));
        let builds = service.get("build").is_some_and(|n| !n.is_null());
        let Some(extends) = service.get("extends").filter(|_| image.is_none()) else {
            return Ok((image, builds));
        };
        let field = format!("{path}.extends");
        let gap = |reason: String| Box::new(self.object.gap(&field, reason));
        if depth >= MAX_DEPTH {
            return Err(gap(format!("more than {MAX_DEPTH} services extend each other")));
        }
        let name = extends.as_str().or(extends.get("service").and_then(Node::as_str));
        let name = name.ok_or_else(|| gap("it names no service".to_owned()))?;
        let none = || gap(format!("there is no service {name}"));
        let (image, built) = match extends.get("file").and_then(Node::as_str) {
            None => {
                let base = services.and_then(|s| s.get(name)).ok_or_else(none)?;
                self.image_of(base, services, folder, path, depth + 1)?
            }
            Some(file) => {
                let folder =
                    folder.ok_or_else(|| gap(format!("{file} is beside a file, and this is none")))?;
                let place = folder.join(file);
                let text = input::read_file(&place, self.here.scope).map_err(|e| gap(e.to_string()))?;
                let limits = Limits { allow_duplicate_keys: true, ..Limits::default() };
                let other = yaml::parse_one(&text, &limits).map_err(|e| gap(format!("{file}: {e}")))?;
                let services = other.get("services");
                let base = services.and_then(|s| s.get(name)).ok_or_else(none)?;
                self.image_of(base, services, place.parent(), path, depth + 1)?
            }
        };
        // The place that is told is in the file that was given.
        let image =
            image.map(|(text, node)| (text, Node { line: extends.line, column: extends.column, ..node }));
        Ok((image, builds || built))
    }
}

/// The files of `include`, which are Compose files of their own with environments of their own.
fn included(
    here: &mut Here<'_>,
    object: &Held,
    folder: Option<&Path>,
    found: &mut Findings,
) -> Result<(), super::Halt> {
    for (entry, path) in object.items("include") {
        let mut files: Vec<String> = Vec::new();
        files.extend(entry.as_str().map(str::to_owned));
        match entry.get("path") {
            Some(one) if one.as_str().is_some() => files.extend(scalar(one)),
            many => files.extend(many.and_then(Node::as_seq).into_iter().flatten().filter_map(scalar)),
        }
        for file in files {
            let remote = file.contains("://") || file.starts_with("git@");
            let Some(folder) = folder.filter(|_| !remote) else {
                let reason = format!(
                    "{file} is not on this machine and is not fetched; get it and name it as a source"
                );
                found.problems.push(object.gap(&path, reason));
                continue;
            };
            let place = folder.join(&file);
            match input::read_file(&place, here.scope) {
                Ok(text) => {
                    here.covered.add(&place);
                    let mut part = scan(&text, &SourceName::File { path: place });
                    lead(&mut part, &object.chain());
                    found.merge(part);
                }
                Err(error) => found.problems.push(object.gap(&path, error.to_string())),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environments_are_read() {
        let text = "# comment\nA=1\nexport B=\"two words\" # x\nC='$x'\n D = plain # said\nbad\nE=\n";
        let all = dotenv(text);
        let get = |k: &str| all.get(k).map(String::as_str);
        assert_eq!(
            (get("A"), get("B"), get("C"), get("D"), get("E")),
            (Some("1"), Some("two words"), Some("$x"), Some("plain"), Some(""))
        );
        assert_eq!(all.len(), 5);
    }
}
