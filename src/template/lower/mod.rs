//! Trees to minijinja template source.
//!
//! | Go | minijinja |
//! |---|---|
//! | text | itself, in `{% raw %}` where it could be read as a tag |
//! | `{{ pipeline }}` | `{{ expr }}`; the environment's formatter prints as Go does |
//! | `f a b`, `b \| f a` | `_c(site, a, b)` |
//! | `.a.b`, `$x.a`, `(p).a` | `_f(site, base)`; the names stand in the site |
//! | `.m.f x` | `_m(site, base, x)` |
//! | `and`, `or` | minijinja's own, which also give the deciding operand and evaluate no more than needed |
//! | `if` | `{% if %}`, `{% elif %}` |
//! | `with` | `{% set dN = … %}{% if dN %}`: the new dot is a new variable |
//! | `range` | `{% for dN in _r(site, …) %}`, with `_p` for key and value |
//! | `$x := …` | `{% set vN = … %}`: every declaration gets a name of its own, so that Go's block scopes need none here |
//! | `$x = …` | `{% set x = _set(vN, …) %}`, since the results of `do` stay on the stack; a variable that is assigned anywhere is a cell, read as `_get(vN)` |
//! | `define` | a template of its own in the same environment |
//! | a long branch | a template of its own too, by `{% include %}`, which shares the variables: most branches of most charts are never executed, and those that are not are not lowered |
//! | `template` | `{{ _t(site, name, arg) }}` |
//! | `break`, `continue` | the same, from minijinja's loop controls |
//!
//! A *site* is a number that stands for a place in the source: name, line, column, the text Go quotes in errors,
//! and what is called there. It lets an error say where it happened in the chart, not in the lowered text.

mod expr;

use std::collections::HashSet;
use std::fmt::Write;
use std::sync::Arc;

use expr::literal;

use super::ast::{Branch, Kind, Node, Pipe, Pos, Tree};
use super::error::SyntaxError;
use super::site::{Site, SourceFile, What};

#[derive(Debug, Clone)]
struct Var {
    go: Arc<str>,
    name: Arc<str>,
    cell: bool,
}

/// What the rest of a template has to know of what goes before it.
#[derive(Debug, Clone)]
struct Scope {
    file: Arc<SourceFile>,
    template: Arc<str>,
    vars: Vec<Var>,
    next: usize,
    dot: String,
    /// Names here that hold what a range gives.
    elements: HashSet<String>,
    /// Go names that are assigned to anywhere in this template.
    assigned: Arc<HashSet<String>>,
    /// Branches around it that are templates of their own.
    nested: usize,
}

/// A branch that is lowered when it is executed for the first time.
#[derive(Debug)]
pub(crate) struct Part {
    scope: Scope,
    nodes: Arc<Vec<Node>>,
}

/// Where places and branches are kept.
pub(crate) trait Keep {
    /// Gives the site's number.
    fn site(&mut self, site: Site) -> usize;
    /// Gives the name under which the branch is included; none if there is no room for it.
    fn part(&mut self, part: Part) -> Option<String>;
}

pub(crate) struct Lowering<'a> {
    keep: &'a mut dyn Keep,
    out: String,
    /// Ranges around what is being lowered.
    loops: usize,
    scope: Scope,
}

/// Nodes of a branch that are worth a template of its own.
const PART: u64 = 8;
/// Each takes stack beside that of the templates within each other, and the outermost save the most.
const MAX_NESTED: usize = 4;
/// Variables that each branch is told of.
const MAX_KNOWN: usize = 32;

/// Lowers one tree.
///
/// # Errors
///
/// If it declares a variable within parentheses.
pub(crate) fn lower(tree: &Tree, file: &Arc<SourceFile>, keep: &mut dyn Keep) -> Result<String, SyntaxError> {
    let mut assigned = HashSet::new();
    collect_assigned(&tree.body, &mut assigned);
    let cell = assigned.contains("$");
    let root = if cell { "v1" } else { "d0" };
    let scope = Scope {
        file: file.clone(),
        template: tree.name.as_str().into(),
        vars: vec![Var { go: "$".into(), name: root.into(), cell }],
        next: 1,
        dot: "d0".into(),
        elements: HashSet::new(),
        assigned: Arc::new(assigned),
        nested: 0,
    };
    let body = lower_in(scope, &tree.body, keep)?;
    Ok(if cell { format!("{{% set v1 = _cell(d0) %}}{body}") } else { body })
}

impl Part {
    /// The file that it stands in.
    pub(crate) fn file(&self) -> &Arc<SourceFile> {
        &self.scope.file
    }

    /// Lowers the branch.
    ///
    /// # Errors
    ///
    /// As [`lower`].
    pub(crate) fn lower(&self, keep: &mut dyn Keep) -> Result<String, SyntaxError> {
        lower_in(self.scope.clone(), &self.nodes, keep)
    }
}

fn lower_in(scope: Scope, nodes: &[Node], keep: &mut dyn Keep) -> Result<String, SyntaxError> {
    let mut l = Lowering { keep, out: String::new(), loops: 0, scope };
    l.nodes(nodes)?;
    Ok(l.out)
}

fn collect_assigned(nodes: &[Node], out: &mut HashSet<String>) {
    for n in nodes {
        match n {
            Node::Action(p) => assigned_in(p, out),
            Node::If(b) | Node::With(b) | Node::Range(b) => {
                assigned_in(&b.pipe, out);
                collect_assigned(&b.body, out);
                b.otherwise.iter().for_each(|nodes| collect_assigned(nodes, out));
            }
            Node::Template { pipe: Some(p), .. } => assigned_in(p, out),
            _ => {}
        }
    }
}

/// Whether there is a break that leaves these nodes.
fn breaks(nodes: &[Node]) -> bool {
    nodes.iter().any(|node| match node {
        Node::Break => true,
        Node::If(b) | Node::With(b) => breaks(&b.body) || b.otherwise.iter().any(|nodes| breaks(nodes)),
        _ => false,
    })
}

fn assigned_in(pipe: &Pipe, out: &mut HashSet<String>) {
    if pipe.assign {
        out.extend(pipe.decl.iter().cloned());
    }
    for arg in pipe.cmds.iter().flat_map(|c| &c.args) {
        if let Kind::Pipe(p) = &arg.kind {
            assigned_in(p, out);
        }
    }
}

impl Lowering<'_> {
    fn site(&mut self, pos: Pos, node: &dyn std::fmt::Display, what: What) -> usize {
        let node = node.to_string();
        let (template, file) = (self.scope.template.clone(), self.scope.file.clone());
        self.keep.site(Site { template, file, pos, node, what })
    }

    fn fields(&self, base: &str, names: &[String]) -> What {
        What::Fields {
            names: names.iter().map(|n| Arc::from(n.as_str())).collect(),
            element: self.scope.elements.contains(base),
        }
    }

    fn fresh(&mut self, prefix: char) -> String {
        self.scope.next += 1;
        format!("{prefix}{}", self.scope.next)
    }

    fn put(&mut self, s: &str) {
        self.out.push_str(s);
    }

    fn text(&mut self, text: &str) {
        if !text.contains('{') {
            self.put(text);
            return;
        }
        // A raw block ends at its end tag, which foreign text may hold: such text goes out as a string.
        if text.contains("endraw") {
            let quoted = literal(text);
            let _ = write!(self.out, "{{{{ {quoted} }}}}");
        } else {
            let _ = write!(self.out, "{{% raw %}}{text}{{% endraw %}}");
        }
    }

    fn nodes(&mut self, nodes: &[Node]) -> Result<(), SyntaxError> {
        nodes.iter().try_for_each(|n| self.node(n))
    }

    fn node(&mut self, node: &Node) -> Result<(), SyntaxError> {
        match node {
            Node::Text(t) => self.text(t),
            Node::Action(p) if p.decl.is_empty() => {
                let e = self.pipe(p)?;
                let _ = write!(self.out, "{{{{ {e} }}}}");
            }
            Node::Action(p) => {
                self.statement(p)?;
            }
            Node::If(b) => self.branch_if(b)?,
            Node::With(b) => self.branch_with(b)?,
            Node::Range(b) => self.range(b)?,
            Node::Template { pos, name, pipe } => {
                let arg = match pipe {
                    Some(p) => self.statement(p)?,
                    None => "none".into(),
                };
                let shown = match pipe {
                    Some(p) => format!("{{{{template {name:?} {p}}}}}"),
                    None => format!("{{{{template {name:?}}}}}"),
                };
                let site = self.site(*pos, &shown, What::Other);
                let _ = write!(self.out, "{{{{ _t({site}, {}, {arg}) }}}}", literal(name));
            }
            Node::Break => self.put("{% break %}"),
            Node::Continue => self.put("{% continue %}"),
        }
        Ok(())
    }

    /// Nodes in a scope of their own: what they declare ends with them.
    fn scoped(&mut self, nodes: &Arc<Vec<Node>>) -> Result<(), SyntaxError> {
        // What is in a loop may leave it.
        let known = self.scope.vars.len() + self.scope.elements.len();
        let apart = self.loops == 0 && self.scope.nested < MAX_NESTED && known <= MAX_KNOWN;
        if apart && nodes.iter().map(Node::weight).sum::<u64>() >= PART {
            let scope = Scope { nested: self.scope.nested + 1, ..self.scope.clone() };
            if let Some(name) = self.keep.part(Part { scope, nodes: Arc::clone(nodes) }) {
                let _ = write!(self.out, "{{% include {name:?} %}}");
                return Ok(());
            }
        }
        let depth = self.scope.vars.len();
        self.nodes(nodes)?;
        self.scope.vars.truncate(depth);
        Ok(())
    }

    fn declare(&mut self, go: &str) -> (String, bool) {
        let name = self.fresh('v');
        let cell = self.scope.assigned.contains(go);
        self.scope.vars.push(Var { go: go.into(), name: name.as_str().into(), cell });
        (name, cell)
    }

    fn find(&self, go: &str) -> Option<(String, bool)> {
        let var = self.scope.vars.iter().rev().find(|v| *v.go == *go)?;
        Some((var.name.to_string(), var.cell))
    }

    /// Go's parser takes an assignment for a declaration, and finds out when it gets there: once it has the value.
    fn undefined(&mut self, go: &str, pos: Pos, shown: &dyn std::fmt::Display, value: &str) -> String {
        let site = self.site(pos, shown, What::Other);
        format!("_e({site}, {}, {value})", literal(&format!("undefined variable: {go}")))
    }

    /// A pipeline that sets a variable; returns how to read what it set.
    fn statement(&mut self, p: &Pipe) -> Result<String, SyntaxError> {
        let e = self.pipe(p)?;
        let Some(go) = p.decl.first() else { return Ok(e) };
        if p.assign {
            let Some((name, _)) = self.find(go) else {
                let (pos, shown) = p.last();
                let failing = self.undefined(go, pos, &shown, &e);
                let _ = write!(self.out, "{{% do {failing} %}}");
                return Ok(e);
            };
            let _ = write!(self.out, "{{% set x = _set({name}, {e}) %}}");
            return Ok(format!("_get({name})"));
        }
        let (name, cell) = self.declare(go);
        if cell {
            let _ = write!(self.out, "{{% set {name} = _cell({e}) %}}");
            return Ok(format!("_get({name})"));
        }
        let _ = write!(self.out, "{{% set {name} = {e} %}}");
        Ok(name)
    }

    fn branch_if(&mut self, b: &Branch) -> Result<(), SyntaxError> {
        let depth = self.scope.vars.len();
        let e = self.statement(&b.pipe)?;
        let _ = write!(self.out, "{{% if {e} %}}");
        self.scoped(&b.body)?;
        let mut otherwise = b.otherwise.as_ref();
        // A chain of plain else-ifs stays flat.
        while let Some([Node::If(inner)]) = otherwise.map(|nodes| nodes.as_slice()) {
            if !inner.pipe.decl.is_empty() {
                break;
            }
            let e = self.pipe(&inner.pipe)?;
            let _ = write!(self.out, "{{% elif {e} %}}");
            self.scoped(&inner.body)?;
            otherwise = inner.otherwise.as_ref();
        }
        if let Some(nodes) = otherwise {
            self.put("{% else %}");
            self.scoped(nodes)?;
        }
        self.put("{% endif %}");
        self.scope.vars.truncate(depth);
        Ok(())
    }

    fn branch_with(&mut self, b: &Branch) -> Result<(), SyntaxError> {
        let depth = self.scope.vars.len();
        let e = self.statement(&b.pipe)?;
        let dot = self.fresh('d');
        let _ = write!(self.out, "{{% set {dot} = {e} %}}{{% if {dot} %}}");
        let outer = std::mem::replace(&mut self.scope.dot, dot);
        self.scoped(&b.body)?;
        self.scope.dot = outer;
        if let Some(nodes) = &b.otherwise {
            self.put("{% else %}");
            self.scoped(nodes)?;
        }
        self.put("{% endif %}");
        self.scope.vars.truncate(depth);
        Ok(())
    }

    fn range(&mut self, b: &Branch) -> Result<(), SyntaxError> {
        let depth = self.scope.vars.len();
        let decl = &b.pipe.decl;
        let mut e = self.pipe(&b.pipe)?;
        let (pos, shown) = b.pipe.last();
        // Go gives the variables what is gone through first: it stays in them where that is nothing.
        if b.pipe.assign || !decl.is_empty() && b.otherwise.is_some() {
            let whole = self.fresh('e');
            let _ = write!(self.out, "{{% set {whole} = {e} %}}");
            e = whole;
        }
        for go in decl.iter().filter(|_| b.pipe.assign) {
            let set = match self.find(go) {
                Some((name, _)) => format!("_set({name}, {e})"),
                None => self.undefined(go, pos, &shown, &e),
            };
            let _ = write!(self.out, "{{% set x = {set} %}}");
        }
        let weight = 1 + b.body.iter().map(Node::weight).sum::<u64>();
        let site = self.site(pos, &shown, What::Range(weight));
        let dot = self.fresh('d');
        let mut elements = vec![dot.clone()];
        let raw: Vec<String> = decl.iter().map(|_| self.fresh('r')).collect();
        match raw.as_slice() {
            [] => {
                let _ = write!(self.out, "{{% for {dot} in _r({site}, {e}) %}}");
            }
            [raw] => {
                let _ = write!(self.out, "{{% for {dot} in _r({site}, {e}) %}}{{% set {raw} = {dot} %}}");
            }
            [key, value, ..] => {
                let _ = write!(
                    self.out,
                    "{{% for {key}, {dot} in _p({site}, {e}) %}}{{% set {value} = {dot} %}}"
                );
            }
        }
        let mut declared = Vec::new();
        for (go, raw) in decl.iter().zip(&raw) {
            if b.pipe.assign {
                let Some((name, _)) = self.find(go) else { continue };
                let _ = write!(self.out, "{{% set x = _set({name}, {raw}) %}}");
            } else {
                let (name, cell) = self.declare(go);
                elements.push(if cell { format!("_get({name})") } else { name.clone() });
                let value = if cell { format!("_cell({raw})") } else { raw.clone() };
                let _ = write!(self.out, "{{% set {name} = {value} %}}");
                declared.push((name, cell));
            }
        }
        self.scope.elements.extend(elements.iter().cloned());
        let outer = std::mem::replace(&mut self.scope.dot, dot);
        self.loops += 1;
        self.scoped(&b.body)?;
        self.loops -= 1;
        self.scope.dot = outer;
        self.scope.elements.retain(|name| !elements.contains(name));
        if let Some(nodes) = &b.otherwise {
            self.put("{% else %}");
            for (name, cell) in declared {
                let value = if cell { format!("_cell({e})") } else { e.clone() };
                let _ = write!(self.out, "{{% set {name} = {value} %}}");
            }
            // A break ends the range that the else belongs to, which minijinja has left by then.
            let breaks = breaks(nodes);
            self.put(if breaks { "{% for x in [0] %}" } else { "" });
            self.loops += usize::from(breaks);
            self.scoped(nodes)?;
            self.loops -= usize::from(breaks);
            self.put(if breaks { "{% endfor %}" } else { "" });
        }
        self.put("{% endfor %}");
        self.scope.vars.truncate(depth);
        Ok(())
    }
}
