//! What can be told of templates without executing them: the texts that they compare values with (`eq .Values.mode
//! "cluster"` says that there is a mode `cluster`), and which of them can print certain words.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::ast::{Branch, Cmd, Expr, Kind, Node, Pipe};
use super::parse::parse;

/// Texts that one file may name.
const MAX_CHOICES: usize = 1_000;
/// Expressions within each other that are looked at.
const MAX_DEPTH: usize = 100;

/// A value that a template treats in a way of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Choice {
    /// The way to the value: below `.Values` where `is_whole`, else what is known of its end.
    pub(crate) path: Vec<String>,
    /// Whether the template names the value from the top of its chart's values on.
    pub(crate) is_whole: bool,
    /// What it is compared with.
    pub(crate) text: String,
}

/// What one file's templates do.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// What values are compared with.
    pub(crate) choices: Vec<Choice>,
    /// Each template that the file defines, the file itself under its own name first.
    pub(crate) trees: Vec<(String, Speech)>,
}

/// What one template says.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Speech {
    /// Whether one of the words stands in it: in its text, in the name of a field, in a literal.
    pub(crate) says: bool,
    /// Whether it includes a template by a name that it makes up.
    pub(crate) includes_any: bool,
    /// The templates that it includes.
    pub(crate) includes: BTreeSet<String>,
}

/// Looks through the file `name`; nothing is known of what cannot be parsed. `words` are lowercase.
pub(crate) fn survey(name: &str, text: &str, words: &[&str]) -> Survey {
    let mut out = Survey::default();
    for tree in parse(name, text, &|_| true).unwrap_or_default().trees {
        nodes(&tree.body, &mut out.choices);
        let mut speech = Speech::default();
        Listener { words, speech: &mut speech }.nodes(&tree.body);
        out.trees.push((tree.name, speech));
    }
    out.choices.sort();
    out.choices.dedup();
    out
}

/// The names of those templates that say one of the words, themselves or by what they include.
pub(crate) fn speakers(trees: &BTreeMap<String, Speech>) -> BTreeSet<String> {
    let mut by: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut open: Vec<&str> = Vec::new();
    let mut found = BTreeSet::new();
    for (name, speech) in trees {
        speech.includes.iter().for_each(|i| by.entry(i).or_default().push(name));
        if speech.says || speech.includes_any {
            open.push(name);
        }
    }
    while let Some(name) = open.pop() {
        if found.insert(name.to_owned()) {
            open.extend(by.get(name).into_iter().flatten());
        }
    }
    found
}

struct Listener<'a> {
    words: &'a [&'a str],
    speech: &'a mut Speech,
}

impl Listener<'_> {
    fn hear(&mut self, text: &str) {
        if !self.speech.says {
            let text = text.to_ascii_lowercase();
            self.speech.says = self.words.iter().any(|w| text.contains(w));
        }
    }

    fn nodes(&mut self, all: &[Node]) {
        for node in all {
            match node {
                Node::Text(text) => self.hear(text),
                Node::Action(p) => self.pipe(p, 0),
                Node::If(b) | Node::With(b) | Node::Range(b) => {
                    self.pipe(&b.pipe, 0);
                    self.nodes(&b.body);
                    b.otherwise.iter().for_each(|n| self.nodes(n));
                }
                Node::Template { name, pipe, .. } => {
                    self.speech.includes.insert(name.clone());
                    pipe.iter().for_each(|p| self.pipe(p, 0));
                }
                Node::Break | Node::Continue => {}
            }
        }
    }

    fn pipe(&mut self, p: &Pipe, depth: usize) {
        for c in &p.cmds {
            if let [Expr { kind: Kind::Ident(function), .. }, name, ..] = c.args.as_slice()
                && function == "include"
            {
                match &name.kind {
                    Kind::Str { value, .. } => drop(self.speech.includes.insert(value.clone())),
                    _ => self.speech.includes_any = true,
                }
            }
            c.args.iter().for_each(|e| self.expr(e, depth + 1));
        }
    }

    fn expr(&mut self, e: &Expr, depth: usize) {
        match &e.kind {
            Kind::Str { value, .. } => self.hear(value),
            Kind::Field(names) | Kind::Var(_, names) => names.iter().for_each(|n| self.hear(n)),
            Kind::Chain(base, names) if depth <= MAX_DEPTH => {
                names.iter().for_each(|n| self.hear(n));
                self.expr(base, depth + 1);
            }
            Kind::Pipe(p) if depth <= MAX_DEPTH => self.pipe(p, depth),
            _ => {}
        }
    }
}

fn nodes(all: &[Node], out: &mut Vec<Choice>) {
    for node in all {
        match node {
            Node::Action(p) => pipe(p, 0, out),
            Node::If(b) | Node::With(b) | Node::Range(b) => branch(b, out),
            Node::Template { pipe: Some(p), .. } => pipe(p, 0, out),
            _ => {}
        }
    }
}

fn branch(b: &Branch, out: &mut Vec<Choice>) {
    pipe(&b.pipe, 0, out);
    nodes(&b.body, out);
    b.otherwise.iter().for_each(|n| nodes(n, out));
}

fn pipe(p: &Pipe, depth: usize, out: &mut Vec<Choice>) {
    p.cmds.iter().for_each(|c| command(c, depth, out));
}

fn command(c: &Arc<Cmd>, depth: usize, out: &mut Vec<Choice>) {
    if depth > MAX_DEPTH || out.len() >= MAX_CHOICES {
        return;
    }
    for arg in &c.args {
        within(arg, depth + 1, out);
    }
    let Some((function, args)) = c.args.split_first() else { return };
    match &function.kind {
        Kind::Ident(name) if name == "eq" || name == "ne" => {
            let texts: Vec<&String> = args.iter().filter_map(text_of).collect();
            for (path, is_whole) in args.iter().filter_map(|a| value_of(a, depth)) {
                out.extend(texts.iter().map(|t| Choice { path: path.clone(), is_whole, text: (*t).clone() }));
            }
        }
        Kind::Ident(name) if name == "has" => {
            let [value, list] = args else { return };
            let (Some((path, is_whole)), Kind::Pipe(list)) = (value_of(value, depth), &list.kind) else {
                return;
            };
            let items = list.cmds.iter().flat_map(|c| &c.args).filter_map(text_of);
            out.extend(items.map(|t| Choice { path: path.clone(), is_whole, text: t.clone() }));
        }
        _ => {}
    }
}

fn within(e: &Expr, depth: usize, out: &mut Vec<Choice>) {
    match &e.kind {
        Kind::Pipe(p) => pipe(p, depth, out),
        Kind::Chain(base, _) if depth <= MAX_DEPTH => within(base, depth + 1, out),
        _ => {}
    }
}

fn text_of(e: &Expr) -> Option<&String> {
    match &e.kind {
        Kind::Str { value, .. } => Some(value),
        _ => None,
    }
}

/// The value that an expression is about: a field, or one that functions such as `lower` or `default` are applied to.
fn value_of(e: &Expr, depth: usize) -> Option<(Vec<String>, bool)> {
    let whole = |names: &[String]| match names.split_first() {
        Some((first, rest)) if first == "Values" && !rest.is_empty() => Some((rest.to_vec(), true)),
        Some(_) => Some((names.to_vec(), false)),
        None => None,
    };
    match &e.kind {
        Kind::Field(names) => whole(names),
        // `$mode`, which is often called as the value is.
        Kind::Var(name, names) if names.is_empty() && name.len() > 1 => Some((vec![name[1..].into()], false)),
        Kind::Var(_, names) => whole(names),
        Kind::Pipe(p) if depth <= MAX_DEPTH => {
            p.cmds.iter().flat_map(|c| &c.args).find_map(|a| value_of(a, depth + 1))
        }
        Kind::Chain(base, names) => match value_of(base, depth + 1) {
            Some((mut path, is_whole)) => {
                path.extend(names.iter().cloned());
                Some((path, is_whole))
            }
            None => whole(names),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        let one = |c: Choice| format!("{}{}={}", if c.is_whole { "" } else { "…" }, c.path.join("."), c.text);
        survey("file", text, &[]).choices.into_iter().map(one).collect()
    }

    #[test]
    fn comparisons_name_the_choices() {
        for (text, expected) in [
            (r#"{{ if eq .Values.mode "cluster" }}{{ end }}"#, &["mode=cluster"][..]),
            (r#"{{ if or (eq .Values.a.b "x") (eq "y" $.Values.a.b) }}{{ end }}"#, &["a.b=x", "a.b=y"]),
            (r#"{{ if and (eq .flavor "gcp") .sha }}{{ end }}"#, &["…flavor=gcp"]),
            (
                r#"{{ $kind := .x }}{{ with .x }}{{ else }}{{ if ne $kind "Job" }}{{ end }}{{ end }}"#,
                &["…kind=Job"],
            ),
            (r#"{{ if has .Values.m (list "p" "q") }}{{ end }}"#, &["m=p", "m=q"]),
            (r#"{{ if eq (lower .Values.m) "p" }}{{ end }}"#, &["m=p"]),
            (r#"{{ ternary "a" "b" (eq (.Values.m | default "x") "q") }}"#, &["m=q"]),
            (r#"{{ define "i" }}{{ printf "%s" (eq .k "v") }}{{ end }}"#, &["…k=v"]),
            (r#"{{ if eq 1 2 }}eq .Values.m "x"{{ end }}"#, &[]),
            (r#"{{ if eq .Values.m "x" "#, &[]),
        ] {
            assert_eq!(told(text), expected, "{text}");
        }
    }

    #[test]
    fn templates_speak_for_what_they_include() {
        let text = r#"{{ define "a" }}{{ .Values.sideImage }}{{ end }}{{ define "b" }}{{ include "a" . | quote }}{{ end }}
            {{ define "c" }}kind: X{{ end }}{{ define "d" }}{{ template "b" . }}{{ end }}
            {{ define "e" }}{{ include (printf "%s" .x) . }}{{ end }}{{ define "f" }}{{ print "an IMAGE" }}{{ end }}"#;
        let trees = survey("file", text, &["image"]).trees.into_iter().collect();
        let names: Vec<String> = speakers(&trees).into_iter().collect();
        assert_eq!(names, ["a", "b", "d", "e", "f"]);
    }
}
