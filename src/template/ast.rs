//! The tree of a Go template, which prints itself as Go's `text/template/parse` prints its nodes: error messages
//! quote that text.

use std::fmt;
use std::sync::Arc;

/// A byte offset into the template's text.
pub(crate) type Pos = usize;

/// One parsed template: a file, or what stands between `{{define}}` and `{{end}}`.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub(crate) name: String,
    pub(crate) body: Vec<Node>,
}

impl Tree {
    /// Whether the body prints nothing; such a definition never replaces another (`parse.IsEmptyTree`).
    pub(crate) fn is_empty(&self) -> bool {
        self.body
            .iter()
            .all(|n| matches!(n, Node::Text(t) if t.trim_matches([' ', '\t', '\r', '\n']).is_empty()))
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Node {
    Text(String),
    Action(Pipe),
    If(Branch),
    With(Branch),
    Range(Branch),
    Template { pos: Pos, name: String, pipe: Option<Pipe> },
    Break,
    Continue,
}

/// What `if`, `with` and `range` have in common.
#[derive(Debug, Clone)]
pub(crate) struct Branch {
    pub(crate) pipe: Pipe,
    /// Shared with what remains to be lowered.
    pub(crate) body: Arc<Vec<Node>>,
    pub(crate) otherwise: Option<Arc<Vec<Node>>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Pipe {
    pub(crate) pos: Pos,
    /// Variables declared or assigned, `$` included in the name.
    pub(crate) decl: Vec<String>,
    /// `=` rather than `:=`.
    pub(crate) assign: bool,
    pub(crate) cmds: Vec<Arc<Cmd>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Cmd {
    pub(crate) pos: Pos,
    pub(crate) args: Vec<Expr>,
}

#[derive(Debug, Clone)]
pub(crate) struct Expr {
    pub(crate) pos: Pos,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Dot,
    Nil,
    Bool(bool),
    Int(i64, String),
    Float(f64, String),
    Str { value: String, text: String },
    Ident(String),
    Field(Vec<String>),
    Var(String, Vec<String>),
    Chain(Box<Expr>, Vec<String>),
    Pipe(Box<Pipe>),
}

impl Expr {
    /// The node that Go visited last when it has evaluated this one: where it puts the blame for the result.
    pub(crate) fn last(&self) -> (Pos, String) {
        match &self.kind {
            Kind::Chain(base, _) => base.last(),
            Kind::Pipe(p) => p.last(),
            _ => (self.pos, self.to_string()),
        }
    }
}

impl Pipe {
    /// See [`Expr::last`].
    pub(crate) fn last(&self) -> (Pos, String) {
        match self.cmds.last().map(|c| (c.args.as_slice(), c)) {
            Some(([.., arg], _)) => arg.last(),
            _ => (self.pos, self.to_string()),
        }
    }
}

impl Node {
    /// How many steps it takes at least to execute this, bodies of loops once.
    pub(crate) fn weight(&self) -> u64 {
        let all = |nodes: &[Node]| nodes.iter().map(Node::weight).sum::<u64>();
        match self {
            Node::If(b) | Node::With(b) | Node::Range(b) => {
                1 + all(&b.body) + b.otherwise.iter().map(|nodes| all(nodes)).sum::<u64>()
            }
            _ => 1,
        }
    }
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.decl.is_empty() {
            write!(f, "{} {} ", self.decl.join(", "), if self.assign { "=" } else { ":=" })?;
        }
        for (i, cmd) in self.cmds.iter().enumerate() {
            write!(f, "{}{cmd}", if i > 0 { " | " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, arg) in self.args.iter().enumerate() {
            write!(f, "{}{arg}", if i > 0 { " " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields =
            |f: &mut fmt::Formatter<'_>, names: &[String]| names.iter().try_for_each(|n| write!(f, ".{n}"));
        match &self.kind {
            Kind::Dot => f.write_str("."),
            Kind::Nil => f.write_str("nil"),
            Kind::Bool(b) => write!(f, "{b}"),
            Kind::Int(_, t) | Kind::Float(_, t) | Kind::Str { text: t, .. } | Kind::Ident(t) => {
                f.write_str(t)
            }
            Kind::Field(names) => fields(f, names),
            Kind::Var(name, names) => {
                f.write_str(name)?;
                fields(f, names)
            }
            Kind::Chain(base, names) => {
                match base.kind {
                    Kind::Pipe(_) => write!(f, "{base}")?,
                    _ => write!(f, "{base}")?,
                }
                fields(f, names)
            }
            Kind::Pipe(p) => write!(f, "({p})"),
        }
    }
}
