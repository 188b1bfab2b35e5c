//! Tokens to trees, after the grammar of `text/template/parse`.

mod words;

use std::collections::HashMap;
use std::sync::Arc;

use super::ast::{Branch, Cmd, Expr, Kind, Node, Pipe, Pos, Tree};
use super::bytes::stray;
use super::error::SyntaxError;
use super::fmt::quote;
use super::lex::{Lexed, Tok, Token, lex, unquote};
use words::{describe, is_keyword, number, raw, starts_operand};

type Result<T> = std::result::Result<T, SyntaxError>;

/// Blocks nested deeper than this are refused; the deepest real charts stay below 20.
const MAX_DEPTH: usize = 100;

/// A file that was parsed.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    /// The file's own tree first, then those it defines.
    pub(crate) trees: Vec<Tree>,
    /// How many tokens it consists of, which says how large the trees are.
    pub(crate) tokens: usize,
}

/// Parses a file.
pub(crate) fn parse(name: &str, text: &str, is_func: &dyn Fn(&str) -> bool) -> Result<Parsed> {
    let Lexed { toks, bad } = lex(text);
    let mut p = Parser {
        file: name,
        text,
        toks,
        bad,
        i: 0,
        seen: 0,
        action: None,
        // The file's own comes first.
        trees: vec![Tree { name: name.to_owned(), body: Vec::new() }],
        named: HashMap::from([(name.to_owned(), 0)]),
        vars: vec!["$"],
        loops: 0,
        depth: 0,
        is_func,
    };
    let (body, end) = p.list()?;
    match end {
        End::Eof => {}
        End::Closed => return p.error("unexpected {{end}}"),
        End::Else => return p.error("unexpected {{else}}"),
    }
    p.add(Tree { name: name.to_owned(), body })?;
    Ok(Parsed { trees: p.trees, tokens: p.toks.len() })
}

enum End {
    Eof,
    Closed,
    Else,
}

struct Parser<'a> {
    file: &'a str,
    text: &'a str,
    toks: Vec<Token<'a>>,
    /// What is wrong with the text where the tokens end, if they do not end with the text.
    bad: String,
    i: usize,
    /// The furthest token that was looked at: Go names its line in errors.
    seen: usize,
    /// Where the action began that is parsed. None within the body of one once an action of that body was parsed, as in Go.
    action: Option<Pos>,
    trees: Vec<Tree>,
    /// Where among them each stands.
    named: HashMap<String, usize>,
    /// The variables that are declared here. An assignment counts as one, and what a branch declares is known in its
    /// `else`: Go finds out when it gets there.
    vars: Vec<&'a str>,
    loops: usize,
    depth: usize,
    is_func: &'a dyn Fn(&str) -> bool,
}

impl<'a> Parser<'a> {
    fn peek(&mut self) -> Token<'a> {
        // The last token is the end of the text, or of what can be read of it, and is never consumed.
        let at = self.i.min(self.toks.len() - 1);
        self.seen = self.seen.max(at);
        self.toks[at]
    }

    fn next(&mut self) -> Token<'a> {
        let t = self.peek();
        self.i += 1;
        t
    }

    fn skip_space(&mut self) {
        while self.peek().tok == Tok::Space {
            self.i += 1;
        }
    }

    fn peek_non_space(&mut self) -> Token<'a> {
        self.skip_space();
        self.peek()
    }

    fn next_non_space(&mut self) -> Token<'a> {
        self.skip_space();
        self.next()
    }

    fn fault(&self, reason: impl Into<String>) -> SyntaxError {
        SyntaxError::new(self.toks[self.seen].pos, reason)
    }

    fn error<T>(&self, reason: impl Into<String>) -> Result<T> {
        Err(self.fault(reason))
    }

    fn unexpected<T>(&self, t: &Token<'_>, context: &str) -> Result<T> {
        if t.tok != Tok::Bad {
            return self.error(format!("unexpected {} in {context}", describe(t.tok)));
        }
        let line = |pos: Pos| 1 + self.text.as_bytes()[..pos].iter().filter(|b| **b == b'\n').count();
        match self.action {
            Some(action) if line(action) != line(t.pos) => {
                let inside = if self.bad.ends_with(" action") { "" } else { " in action" };
                self.error(format!("{}{inside} started at {}:{}", self.bad, self.file, line(action)))
            }
            _ => self.error(self.bad.as_str()),
        }
    }

    fn deeper(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.error(format!("nested deeper than {MAX_DEPTH} levels"));
        }
        Ok(())
    }

    /// Nodes up to the end of the text, `{{end}}` or `{{else}}`; of an `{{else if` or `{{else with` no more than the `else`.
    fn list(&mut self) -> Result<(Vec<Node>, End)> {
        let mut nodes = Vec::new();
        loop {
            let t = self.next_non_space();
            match t.tok {
                Tok::Eof => return Ok((nodes, End::Eof)),
                Tok::Text(text) => nodes.push(Node::Text(text.to_owned())),
                Tok::Open => {
                    let Token { pos, tok } = self.peek_non_space();
                    let word = if let Tok::Ident(word) = tok { word } else { "" };
                    // Only at the top of a file, as in Go.
                    if word == "define" && self.depth == 0 {
                        self.define()?;
                        continue;
                    }
                    self.action = Some(t.pos);
                    match word {
                        "end" => {
                            self.i += 1;
                            self.close("end")?;
                            self.action = None;
                            return Ok((nodes, End::Closed));
                        }
                        "else" => {
                            self.i += 1;
                            if !matches!(self.peek_non_space().tok, Tok::Ident("if" | "with")) {
                                self.close("else")?;
                            }
                            self.action = None;
                            return Ok((nodes, End::Else));
                        }
                        _ => nodes.push(self.action(word, pos)?),
                    }
                    self.action = None;
                }
                _ => return self.unexpected(&t, "input"),
            }
        }
    }

    fn close(&mut self, context: &str) -> Result<()> {
        let t = self.next_non_space();
        if t.tok == Tok::Close { Ok(()) } else { self.unexpected(&t, context) }
    }

    fn action(&mut self, word: &str, pos: Pos) -> Result<Node> {
        if !word.is_empty()
            && matches!(word, "if" | "with" | "range" | "template" | "block" | "break" | "continue")
        {
            self.i += 1;
        }
        match word {
            "if" => Ok(Node::If(self.branch(word)?)),
            "with" => Ok(Node::With(self.branch(word)?)),
            "range" => Ok(Node::Range(self.branch(word)?)),
            "break" | "continue" => {
                self.close(&format!("{{{{{word}}}}}"))?;
                if self.loops == 0 {
                    return self.error(format!("{{{{{word}}}}} outside {{{{range}}}}"));
                }
                Ok(if word == "break" { Node::Break } else { Node::Continue })
            }
            "template" => {
                let pos = self.peek_non_space().pos;
                let name = self.name("template clause")?;
                let pipe = if self.peek_non_space().tok == Tok::Close {
                    self.i += 1;
                    None
                } else {
                    Some(self.pipeline("template clause", Tok::Close)?)
                };
                Ok(Node::Template { pos, name, pipe })
            }
            "block" => {
                let name = self.name("block clause")?;
                let pipe = self.pipeline("block clause", Tok::Close)?;
                self.body_of(name.clone(), "block clause")?;
                Ok(Node::Template { pos, name, pipe: Some(pipe) })
            }
            _ => Ok(Node::Action(self.pipeline("command", Tok::Close)?)),
        }
    }

    fn name(&mut self, context: &str) -> Result<String> {
        let t = self.next_non_space();
        match t.tok {
            Tok::Str(s) => unquote(s).ok_or_else(|| self.fault("invalid syntax")),
            Tok::RawStr(s) => Ok(raw(s)),
            _ => self.unexpected(&t, context),
        }
    }

    fn define(&mut self) -> Result<()> {
        self.i += 1;
        let name = self.name("define clause")?;
        self.close("define clause")?;
        self.body_of(name, "define clause")
    }

    fn body_of(&mut self, name: String, what: &str) -> Result<()> {
        self.deeper()?;
        let loops = std::mem::take(&mut self.loops);
        let vars = std::mem::replace(&mut self.vars, vec!["$"]);
        self.action = None;
        let header = self.seen;
        let (body, end) = self.list()?;
        (self.loops, self.vars) = (loops, vars);
        self.depth -= 1;
        let tree = Tree { name, body };
        match end {
            End::Closed => {}
            End::Eof => return self.error("unexpected EOF"),
            End::Else => {
                // The template around a block says it, which has seen the block's first action only.
                let at = if what == "block clause" { header } else { self.seen };
                return Err(SyntaxError::new(
                    self.toks[at].pos,
                    format!("unexpected {{{{else}}}} in {what}"),
                ));
            }
        }
        self.add(tree)
    }

    /// Of templates with one name at most one may print something.
    fn add(&mut self, tree: Tree) -> Result<()> {
        match self.named.get(&tree.name).map(|at| &mut self.trees[*at]) {
            Some(old) if old.is_empty() => *old = tree,
            Some(_) if !tree.is_empty() => {
                let name = quote(&tree.name);
                return self.error(format!("template: multiple definition of template {name}"));
            }
            Some(_) => {}
            None => {
                self.named.insert(tree.name.clone(), self.trees.len());
                self.trees.push(tree);
            }
        }
        Ok(())
    }

    fn branch(&mut self, word: &str) -> Result<Branch> {
        self.deeper()?;
        let known = self.vars.len();
        let pipe = self.pipeline(word, Tok::Close)?;
        // After an error there is no body to be in.
        self.loops += usize::from(word == "range");
        let (body, end) = self.list()?;
        self.loops -= usize::from(word == "range");
        let otherwise = match end {
            End::Closed => None,
            End::Eof => return self.error("unexpected EOF"),
            End::Else => Some(self.otherwise(word)?),
        };
        self.vars.truncate(known);
        self.depth -= 1;
        Ok(Branch { pipe, body: Arc::new(body), otherwise: otherwise.map(Arc::new) })
    }

    fn otherwise(&mut self, word: &str) -> Result<Vec<Node>> {
        // `{{else if}}` closes with the `{{end}}` of the outer branch.
        if matches!(word, "if" | "with") && self.peek().tok == Tok::Ident(word) {
            self.i += 1;
            let b = self.branch(word)?;
            return Ok(vec![if word == "if" { Node::If(b) } else { Node::With(b) }]);
        }
        let (body, end) = self.list()?;
        match end {
            End::Closed => Ok(body),
            End::Eof => self.error("unexpected EOF"),
            End::Else => self.error("expected end; found {{else}}"),
        }
    }

    fn pipeline(&mut self, context: &str, end: Tok<'_>) -> Result<Pipe> {
        let pos = self.peek_non_space().pos;
        let mut pipe = Pipe { pos, decl: Vec::new(), assign: false, cmds: Vec::with_capacity(1) };
        self.declarations(&mut pipe, context)?;
        loop {
            let t = self.next_non_space();
            if t.tok == end {
                break;
            }
            if !starts_operand(t.tok) {
                return self.unexpected(&t, context);
            }
            self.i -= 1;
            pipe.cmds.push(Arc::new(self.command()?));
        }
        if pipe.cmds.is_empty() {
            return self.error(format!("missing value for {context}"));
        }
        for (stage, cmd) in pipe.cmds.iter().enumerate().skip(1) {
            if matches!(
                cmd.args[0].kind,
                Kind::Bool(_) | Kind::Dot | Kind::Nil | Kind::Int(..) | Kind::Float(..) | Kind::Str { .. }
            ) {
                return self.error(format!("non executable command in pipeline stage {}", stage + 1));
            }
        }
        Ok(pipe)
    }

    fn declarations(&mut self, pipe: &mut Pipe, context: &str) -> Result<()> {
        while let Tok::Var(name) = self.peek_non_space().tok {
            let save = self.i;
            self.i += 1;
            let t = self.next_non_space();
            let comma = t.tok == Tok::Other(",");
            if !comma && !matches!(t.tok, Tok::Declare | Tok::Assign) {
                self.i = save;
                break;
            }
            pipe.decl.push(name.to_owned());
            self.vars.push(name);
            if !comma {
                pipe.assign = t.tok == Tok::Assign;
                break;
            }
            if context != "range" || pipe.decl.len() > 1 {
                return self.error(format!("too many declarations in {context}"));
            }
            if !matches!(self.peek_non_space().tok, Tok::Var(_) | Tok::Close | Tok::RightParen) {
                return self.error("range can only initialize variables");
            }
        }
        Ok(())
    }

    fn command(&mut self) -> Result<Cmd> {
        let pos = self.peek_non_space().pos;
        // A command has few operands: room for four of them would be most of what trees take.
        let mut args = Vec::with_capacity(2);
        loop {
            self.skip_space();
            if let Some(e) = self.operand()? {
                args.push(e);
            }
            let t = self.next();
            match t.tok {
                Tok::Space => {}
                Tok::Close | Tok::RightParen => {
                    self.i -= 1;
                    break;
                }
                Tok::Pipe => break,
                _ => return self.unexpected(&t, "operand"),
            }
        }
        if args.is_empty() {
            return self.error("empty command");
        }
        Ok(Cmd { pos, args })
    }

    fn operand(&mut self) -> Result<Option<Expr>> {
        let Some(mut e) = self.term()? else { return Ok(None) };
        let mut names = Vec::new();
        // Go places a chain at its first further name.
        let chain_pos = self.peek().pos;
        while let Tok::Field(name) = self.peek().tok {
            names.push(name.to_owned());
            self.i += 1;
        }
        if !names.is_empty() {
            let base_pos = std::mem::replace(&mut e.pos, chain_pos);
            e.kind = match e.kind {
                Kind::Field(mut fs) => {
                    fs.extend(names);
                    Kind::Field(fs)
                }
                Kind::Var(v, mut fs) => {
                    fs.extend(names);
                    Kind::Var(v, fs)
                }
                Kind::Bool(_)
                | Kind::Str { .. }
                | Kind::Int(..)
                | Kind::Float(..)
                | Kind::Nil
                | Kind::Dot => {
                    return self.error(format!("unexpected . after term {}", quote(&e.to_string())));
                }
                kind => Kind::Chain(Box::new(Expr { pos: base_pos, kind }), names),
            };
        }
        Ok(Some(e))
    }

    fn term(&mut self) -> Result<Option<Expr>> {
        let t = self.peek();
        let kind = match t.tok {
            Tok::Ident(w) => match w {
                "true" => Kind::Bool(true),
                "false" => Kind::Bool(false),
                "nil" => Kind::Nil,
                _ if is_keyword(w) => return Ok(None),
                _ if (self.is_func)(w) => Kind::Ident(w.to_owned()),
                _ => return self.error(format!("function {} not defined", quote(w))),
            },
            Tok::Dot => Kind::Dot,
            Tok::Var(v) if self.vars.contains(&v) => Kind::Var(v.to_owned(), Vec::new()),
            Tok::Var(v) => return self.error(format!("undefined variable {}", quote(v))),
            Tok::Field(f) => Kind::Field(vec![f.to_owned()]),
            Tok::Number(n) => number(n).map_err(|reason| self.fault(reason))?,
            Tok::Char(c) => {
                let value = unquote(c).ok_or_else(|| self.fault("invalid syntax"))?;
                // A byte alone (`'\xff'`) is a number like any other.
                let byte = |c: char| stray(c).map_or(u32::from(c), u32::from);
                let mut chars = value.chars();
                match (chars.next(), chars.next()) {
                    (Some(value), None) => Kind::Int(byte(value).into(), c.to_owned()),
                    (None, _) => return self.error("invalid syntax"),
                    _ => return self.error(format!("malformed character constant: {c}")),
                }
            }
            Tok::Str(s) => Kind::Str {
                value: unquote(s).ok_or_else(|| self.fault("invalid syntax"))?,
                text: s.to_owned(),
            },
            Tok::RawStr(s) => Kind::Str { value: raw(s), text: s.to_owned() },
            Tok::LeftParen => {
                self.i += 1;
                self.deeper()?;
                let pipe = self.pipeline("parenthesized pipeline", Tok::RightParen)?;
                self.depth -= 1;
                return Ok(Some(Expr { pos: t.pos, kind: Kind::Pipe(Box::new(pipe)) }));
            }
            _ => return Ok(None),
        };
        self.i += 1;
        Ok(Some(Expr { pos: t.pos, kind }))
    }
}

#[cfg(test)]
mod tests;
