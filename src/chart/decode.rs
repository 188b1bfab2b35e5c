//! Documents that Helm reads into Go structs: what does not fit is refused in the words of Go's JSON decoder.

use crate::yaml::{Node, Value, YamlError};

/// A type of Go, as far as Helm's structs need it.
pub(super) enum Want {
    /// `string`; numbers and booleans are taken too, since `sigs.k8s.io/yaml` knows what is wanted.
    Text,
    /// `bool`.
    Flag,
    /// `interface {}`.
    Any,
    /// A slice, with the name of its type.
    List(&'static str, &'static Want),
    /// `map[string]string`.
    Texts,
    /// A struct, with its name and the fields that have a type.
    Struct(&'static str, &'static [(&'static str, Want)]),
}

impl Want {
    fn name(&self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Flag => "bool",
            Self::Any => "interface {}",
            Self::List(name, _) | Self::Struct(name, _) => name,
            Self::Texts => "map[string]string",
        }
    }
}

const TEXTS: Want = Want::List("[]string", &Want::Text);

/// Helm's `chart/v2.Metadata`.
pub(super) const CHART: Want = Want::Struct(
    "loader.chartBase",
    &[
        ("name", Want::Text),
        ("home", Want::Text),
        ("sources", TEXTS),
        ("version", Want::Text),
        ("description", Want::Text),
        ("keywords", TEXTS),
        ("maintainers", Want::List("[]*v2.Maintainer", &MAINTAINER)),
        ("icon", Want::Text),
        ("apiVersion", Want::Text),
        ("condition", Want::Text),
        ("tags", Want::Text),
        ("appVersion", Want::Text),
        ("deprecated", Want::Flag),
        ("annotations", Want::Texts),
        ("kubeVersion", Want::Text),
        ("dependencies", Want::List("[]*v2.Dependency", &DEPENDENCY)),
        ("type", Want::Text),
    ],
);

const MAINTAINER: Want =
    Want::Struct("v2.Maintainer", &[("name", Want::Text), ("email", Want::Text), ("url", Want::Text)]);

const DEPENDENCY: Want = Want::Struct(
    "v2.Dependency",
    &[
        ("name", Want::Text),
        ("version", Want::Text),
        ("repository", Want::Text),
        ("condition", Want::Text),
        ("tags", TEXTS),
        ("enabled", Want::Flag),
        ("import-values", Want::List("[]interface {}", &Want::Any)),
        ("alias", Want::Text),
    ],
);

/// Helm's `util.SimpleHead`: all that it reads of a manifest.
pub(super) const HEAD: Want = Want::Struct(
    "util.SimpleHead",
    &[
        ("apiVersion", Want::Text),
        ("kind", Want::Text),
        (
            "metadata",
            Want::Struct(
                "struct { Name string \"json:\\\"name\\\"\"; Annotations map[string]string \
                 \"json:\\\"annotations\\\"\" }",
                &[("name", Want::Text), ("annotations", Want::Texts)],
            ),
        ),
    ],
);

/// The mapping that a file of values has to be.
pub(super) const VALUES: Want = Want::Struct("map[string]interface {}", &[]);

/// Whether a document fits.
///
/// # Errors
///
/// The first place that does not, in the order of the keys: they are sorted before Go decodes them.
pub(super) fn check(node: &Node, want: &Want) -> Result<(), YamlError> {
    fits(node, want, "", false)
}

fn fits(node: &Node, want: &Want, path: &str, in_list: bool) -> Result<(), YamlError> {
    match (&node.value, want) {
        (Value::Null, _) | (_, Want::Any) | (Value::Bool(_), Want::Flag) => Ok(()),
        (Value::Bool(_) | Value::Int(_) | Value::UInt(_) | Value::Float(_) | Value::Str(_), Want::Text) => {
            Ok(())
        }
        (Value::Seq(items), Want::List(_, of)) => {
            items.iter().enumerate().try_for_each(|(i, item)| fits(item, of, &format!("{path}.{i}"), true))
        }
        (Value::Map(m), Want::Texts) => {
            let mut all: Vec<_> = m.iter().collect();
            all.sort_by_key(|(key, _)| *key);
            all.into_iter().try_for_each(|(key, v)| fits(v, &Want::Text, &format!("{path}.{key}"), false))
        }
        (Value::Map(m), Want::Struct(_, fields)) => {
            let mut known: Vec<_> =
                fields.iter().filter_map(|(key, want)| Some((*key, m.get(*key)?, want))).collect();
            known.sort_by_key(|(key, ..)| *key);
            known.into_iter().try_for_each(|(key, v, want)| fits(v, want, &format!("{path}.{key}"), false))
        }
        _ => {
            let place = match path {
                "" => "Go value".to_owned(),
                _ if in_list => path.to_owned(),
                _ => format!("Go struct field {path}"),
            };
            let reason = format!(
                "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into {place} of type {}",
                node.kind(),
                want.name()
            );
            Err(YamlError { line: node.line, column: node.column, reason })
        }
    }
}
