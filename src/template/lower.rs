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
//! | `template` | `{{ _t(site, name, arg) }}` |
//! | `break`, `continue` | the same, from minijinja's loop controls |
//!
//! A *site* is a number that stands for a place in the source: name, line, column, the text Go quotes in errors,
//! and what is called there. It lets an error say where it happened in the chart, not in the lowered text.

use std::collections::HashSet;
use std::fmt::Write;
use std::sync::Arc;

use super::ast::{Branch, Cmd, Expr, Kind, Node, Pipe, Pos, Tree};
use super::error::SyntaxError;
use super::funcs;
use super::site::{Site, SourceFile, What};

struct Var {
    go: String,
    name: String,
    cell: bool,
}

pub(crate) struct Lowering<'a> {
    file: Arc<SourceFile>,
    template: Arc<str>,
    sites: &'a mut dyn FnMut(Site) -> usize,
    out: String,
    vars: Vec<Var>,
    next: usize,
    dot: String,
    /// Names here that hold what a range gives.
    elements: HashSet<String>,
    /// Go names that are assigned to anywhere in this template.
    assigned: HashSet<String>,
}

/// Lowers one tree.
///
/// # Errors
///
/// If it uses a variable that is not declared.
pub(crate) fn lower(
    tree: &Tree,
    file: &Arc<SourceFile>,
    sites: &mut dyn FnMut(Site) -> usize,
) -> Result<String, SyntaxError> {
    let mut assigned = HashSet::new();
    collect_assigned(&tree.body, &mut assigned);
    let mut l = Lowering {
        file: file.clone(),
        template: tree.name.as_str().into(),
        sites,
        out: String::new(),
        vars: Vec::new(),
        next: 1,
        dot: "d0".into(),
        elements: HashSet::new(),
        assigned,
    };
    l.vars.push(Var { go: "$".into(), name: "d0".into(), cell: false });
    l.nodes(&tree.body)?;
    Ok(l.out)
}

fn collect_assigned(nodes: &[Node], out: &mut HashSet<String>) {
    for n in nodes {
        match n {
            Node::Action(p) => assigned_in(p, out),
            Node::If(b) | Node::With(b) | Node::Range(b) => {
                assigned_in(&b.pipe, out);
                collect_assigned(&b.body, out);
                collect_assigned(b.otherwise.as_deref().unwrap_or_default(), out);
            }
            Node::Template { pipe: Some(p), .. } => assigned_in(p, out),
            _ => {}
        }
    }
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
        (self.sites)(Site { template: self.template.clone(), file: self.file.clone(), pos, node, what })
    }

    fn fields(&self, base: &str, names: &[String]) -> What {
        What::Fields {
            names: names.iter().map(|n| Arc::from(n.as_str())).collect(),
            element: self.elements.contains(base),
        }
    }

    fn fresh(&mut self, prefix: char) -> String {
        self.next += 1;
        format!("{prefix}{}", self.next)
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
                    Some(p) => self.pipe(p)?,
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
    ///
    /// A variable of a branch that did not run is known to the parser in the `else` beside it, though it has no value
    /// there; such names are kept.
    fn body_before_else(&mut self, nodes: &[Node], depth: usize) -> Result<(), SyntaxError> {
        self.nodes(nodes)?;
        let declared = self.vars.split_off(depth);
        for var in declared {
            if !self.vars.iter().any(|v| v.go == var.go) {
                self.vars.push(var);
            }
        }
        Ok(())
    }

    fn scoped(&mut self, nodes: &[Node]) -> Result<(), SyntaxError> {
        let depth = self.vars.len();
        self.nodes(nodes)?;
        self.vars.truncate(depth);
        Ok(())
    }

    fn declare(&mut self, go: &str) -> (String, bool) {
        let name = self.fresh('v');
        let cell = self.assigned.contains(go);
        self.vars.push(Var { go: go.to_owned(), name: name.clone(), cell });
        (name, cell)
    }

    fn find(&self, go: &str, pos: Pos) -> Result<(String, bool), SyntaxError> {
        match self.vars.iter().rev().find(|v| v.go == go) {
            Some(v) => Ok((v.name.clone(), v.cell)),
            None => Err(SyntaxError::new(pos, format!("undefined variable {go:?}"))),
        }
    }

    /// A pipeline that sets a variable; returns how to read what it set.
    fn statement(&mut self, p: &Pipe) -> Result<String, SyntaxError> {
        let e = self.pipe(p)?;
        let Some(go) = p.decl.first() else { return Ok(e) };
        if p.assign {
            let Ok((name, cell)) = self.find(go, p.pos) else {
                // Go finds this out when it gets there.
                let (pos, shown) = p.last();
                let site = self.site(pos, &shown, What::Other);
                let reason = literal(&format!("undefined variable: {go}"));
                let _ = write!(self.out, "{{% do _e({site}, {reason}) %}}");
                return Ok(e);
            };
            if !cell {
                return Err(SyntaxError::new(p.pos, format!("cannot assign to {go}")));
            }
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
        let depth = self.vars.len();
        let e = self.statement(&b.pipe)?;
        let _ = write!(self.out, "{{% if {e} %}}");
        self.body_before_else(&b.body, self.vars.len())?;
        let mut otherwise = b.otherwise.as_deref();
        // A chain of plain else-ifs stays flat.
        while let Some([Node::If(inner)]) = otherwise {
            if !inner.pipe.decl.is_empty() {
                break;
            }
            let e = self.pipe(&inner.pipe)?;
            let _ = write!(self.out, "{{% elif {e} %}}");
            self.body_before_else(&inner.body, self.vars.len())?;
            otherwise = inner.otherwise.as_deref();
        }
        if let Some(nodes) = otherwise {
            self.put("{% else %}");
            self.scoped(nodes)?;
        }
        self.put("{% endif %}");
        self.vars.truncate(depth);
        Ok(())
    }

    fn branch_with(&mut self, b: &Branch) -> Result<(), SyntaxError> {
        let depth = self.vars.len();
        let e = self.statement(&b.pipe)?;
        let dot = self.fresh('d');
        let _ = write!(self.out, "{{% set {dot} = {e} %}}{{% if {dot} %}}");
        let outer = std::mem::replace(&mut self.dot, dot);
        self.body_before_else(&b.body, self.vars.len())?;
        self.dot = outer;
        if let Some(nodes) = &b.otherwise {
            self.put("{% else %}");
            self.scoped(nodes)?;
        }
        self.put("{% endif %}");
        self.vars.truncate(depth);
        Ok(())
    }

    fn range(&mut self, b: &Branch) -> Result<(), SyntaxError> {
        let depth = self.vars.len();
        let e = self.pipe(&b.pipe)?;
        let (pos, shown) = b.pipe.last();
        let weight = 1 + b.body.iter().map(Node::weight).sum::<u64>();
        let site = self.site(pos, &shown, What::Range(weight));
        let dot = self.fresh('d');
        self.elements.insert(dot.clone());
        let decl = &b.pipe.decl;
        let raw: Vec<String> = decl.iter().map(|_| self.fresh('r')).collect();
        match raw.as_slice() {
            [] => {
                let _ = write!(self.out, "{{% for {dot} in _r({site}, {e}) %}}");
            }
            [_] => {
                let _ =
                    write!(self.out, "{{% for {dot} in _r({site}, {e}) %}}{{% set {} = {dot} %}}", raw[0]);
            }
            _ => {
                let _ = write!(
                    self.out,
                    "{{% for {}, {dot} in _p({site}, {e}) %}}{{% set {} = {dot} %}}",
                    raw[0], raw[1]
                );
            }
        }
        for (go, raw) in decl.iter().zip(&raw) {
            if b.pipe.assign {
                let (name, _) = self.find(go, b.pos)?;
                let _ = write!(self.out, "{{% set x = _set({name}, {raw}) %}}");
            } else {
                let (name, cell) = self.declare(go);
                self.elements.insert(if cell { format!("_get({name})") } else { name.clone() });
                let value = if cell { format!("_cell({raw})") } else { raw.clone() };
                let _ = write!(self.out, "{{% set {name} = {value} %}}");
            }
        }
        let outer = std::mem::replace(&mut self.dot, dot);
        self.body_before_else(&b.body, depth)?;
        self.dot = outer;
        if let Some(nodes) = &b.otherwise {
            self.put("{% else %}");
            self.scoped(nodes)?;
        }
        self.put("{% endfor %}");
        self.vars.truncate(depth);
        Ok(())
    }

    /// The pipeline's value as a minijinja expression; declarations are the caller's.
    fn pipe(&mut self, p: &Pipe) -> Result<String, SyntaxError> {
        let mut value: Option<String> = None;
        for cmd in &p.cmds {
            value = Some(self.command(cmd, value)?);
        }
        Ok(value.unwrap_or_else(|| "none".into()))
    }

    /// Whether Go knows the operand as `interface {}` only, rather than as what is in it.
    fn is_interface(&self, e: &Expr) -> bool {
        match &e.kind {
            Kind::Field(_) | Kind::Chain(..) => true,
            Kind::Dot => self.elements.contains(&self.dot),
            Kind::Var(go, names) => {
                !names.is_empty() || self.read(go, e.pos).is_ok_and(|v| self.elements.contains(&v))
            }
            _ => false,
        }
    }

    fn command(&mut self, cmd: &Arc<Cmd>, last: Option<String>) -> Result<String, SyntaxError> {
        let first = &cmd.args[0];
        let mut args = cmd.args[1..].iter().map(|a| self.expr(a)).collect::<Result<Vec<_>, _>>()?;
        args.extend(last);
        match &first.kind {
            Kind::Ident(name) => self.call(cmd.pos, Some(cmd), name, args),
            Kind::Nil => {
                let site = self.site(first.pos, first, What::Other);
                Ok(format!("_e({site}, \"nil is not a command\")"))
            }
            Kind::Field(_) | Kind::Var(..) | Kind::Chain(..) if !args.is_empty() => {
                let (base, names) = match &first.kind {
                    Kind::Field(names) => (self.dot.clone(), names),
                    Kind::Var(go, names) => (self.read(go, first.pos)?, names),
                    Kind::Chain(base, names) => (self.expr(base)?, names),
                    _ => unreachable!("matched above"),
                };
                if names.is_empty() {
                    return Ok(self.not_a_function(first));
                }
                let what = self.fields(&base, names);
                let mut refused = None;
                // The methods that charts can reach with arguments take strings; Go looks at constants first.
                for arg in &cmd.args[1..] {
                    if let Kind::Int(_, t) | Kind::Float(_, t) = &arg.kind
                        && matches!(
                            names.last().map(String::as_str),
                            Some("Get" | "GetBytes" | "Glob" | "Lines" | "Has" | "Table")
                        )
                    {
                        refused.get_or_insert((arg, format!("expected string; found {t}")));
                    }
                }
                if let Some((arg, reason)) = refused {
                    let site = self.site(arg.pos, arg, What::Other);
                    return Ok(format!("_e({site}, {})", literal(&reason)));
                }
                let site = self.site(first.pos, first, what);
                Ok(format!("_m({site}, {base}, {})", args.join(", ")))
            }
            _ if args.is_empty() => self.expr(first),
            _ => Ok(self.not_a_function(first)),
        }
    }

    /// Go finds this out when it gets there, which it may never do.
    fn not_a_function(&mut self, e: &Expr) -> String {
        let site = self.site(e.pos, e, What::Other);
        format!("_e({site}, {})", literal(&format!("can't give argument to non-function {e}")))
    }

    fn call(
        &mut self,
        pos: Pos,
        cmd: Option<&Arc<Cmd>>,
        name: &str,
        args: Vec<String>,
    ) -> Result<String, SyntaxError> {
        if matches!(name, "and" | "or") && !args.is_empty() {
            return Ok(format!("({})", args.join(if name == "and" { " and " } else { " or " })));
        }
        let Some(builtin) = funcs::lookup(name) else {
            return Err(SyntaxError::new(pos, format!("function {name:?} not defined")));
        };
        let operands = cmd.map(|c| &c.args[1..]).unwrap_or_default();
        let interfaces = operands.iter().take(64).enumerate();
        let interfaces = interfaces.fold(0, |bits, (i, e)| bits | u64::from(self.is_interface(e)) << i);
        let what = What::Call { builtin, cmd: cmd.cloned(), interfaces };
        // The command is printed when it is needed.
        let site = self.site(pos, &if cmd.is_some() { "" } else { name }, what);
        let args: String = args.iter().map(|a| format!(", {a}")).collect();
        Ok(format!("_c({site}{args})"))
    }

    fn read(&self, go: &str, pos: Pos) -> Result<String, SyntaxError> {
        let (name, cell) = self.find(go, pos)?;
        Ok(if cell { format!("_get({name})") } else { name })
    }

    fn expr(&mut self, e: &Expr) -> Result<String, SyntaxError> {
        Ok(match &e.kind {
            Kind::Dot => self.dot.clone(),
            Kind::Nil => "none".into(),
            Kind::Bool(b) => b.to_string(),
            Kind::Int(i, _) if *i < 0 => format!("_n({})", i.unsigned_abs()),
            Kind::Int(i, _) => i.to_string(),
            Kind::Float(f, _) => format!("({f:?})"),
            Kind::Str { value, .. } => literal(value),
            Kind::Ident(name) => self.call(e.pos, None, name, Vec::new())?,
            Kind::Field(names) => {
                let base = self.dot.clone();
                let what = self.fields(&base, names);
                let site = self.site(e.pos, e, what);
                format!("_f({site}, {base})")
            }
            Kind::Var(go, names) => {
                let base = self.read(go, e.pos)?;
                if names.is_empty() {
                    return Ok(base);
                }
                let what = self.fields(&base, names);
                let site = self.site(e.pos, e, what);
                format!("_f({site}, {base})")
            }
            Kind::Chain(base, names) => {
                let (pos, shown) = base.last();
                let base = self.expr(base)?;
                let what = self.fields(&base, names);
                let site = self.site(pos, &shown, what);
                format!("_f({site}, {base})")
            }
            Kind::Pipe(p) => {
                let value = self.pipe(p)?;
                match p.decl.first() {
                    None => value,
                    Some(go) if p.assign => {
                        let (name, _) = self.find(go, p.pos)?;
                        format!("_set({name}, {value})")
                    }
                    Some(_) => {
                        let reason =
                            "a declaration within parentheses is not supported; move it before the command";
                        return Err(SyntaxError::new(p.pos, reason));
                    }
                }
            }
        })
    }
}

/// A minijinja string literal.
fn literal(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
