//! Tokens to trees, after the grammar of `text/template/parse`.

mod words;

use std::sync::Arc;

use super::ast::{Branch, Cmd, Expr, Kind, Node, Pipe, Pos, Tree};
use super::error::SyntaxError;
use super::lex::{Tok, Token, lex, unquote};
use words::{describe, number, raw, starts_operand};

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
    let toks = lex(text)?;
    let mut p = Parser { toks, i: 0, trees: Vec::new(), vars: vec!["$"], loops: 0, depth: 0, is_func };
    let (body, end) = p.list()?;
    match end {
        End::Eof => {}
        End::Closed(pos) => return Err(SyntaxError::new(pos, "unexpected {{end}}")),
        End::Else(pos) => return Err(SyntaxError::new(pos, "unexpected {{else}}")),
    }
    p.trees.insert(0, Tree { name: name.to_owned(), body });
    Ok(Parsed { trees: p.trees, tokens: p.toks.len() })
}

enum End {
    Eof,
    Closed(Pos),
    Else(Pos),
}

struct Parser<'a> {
    toks: Vec<Token<'a>>,
    i: usize,
    trees: Vec<Tree>,
    /// The variables that are declared here. An assignment counts as one, and what a branch declares is known in its
    /// `else`: Go finds out when it gets there.
    vars: Vec<&'a str>,
    loops: usize,
    depth: usize,
    is_func: &'a dyn Fn(&str) -> bool,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        // The last token is the end of the text and is never consumed.
        self.toks[self.i.min(self.toks.len() - 1)]
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

    fn next_non_space(&mut self) -> Token<'a> {
        self.skip_space();
        self.next()
    }

    fn unexpected<T>(&self, t: &Token<'_>, context: &str) -> Result<T> {
        Err(SyntaxError::new(t.pos, format!("unexpected {} in {context}", describe(t.tok))))
    }

    fn deeper(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(SyntaxError::new(self.peek().pos, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(())
    }

    /// Nodes up to the end of the text, `{{end}}` or `{{else`; of an else only the keyword is consumed.
    fn list(&mut self) -> Result<(Vec<Node>, End)> {
        let mut nodes = Vec::new();
        loop {
            let t = self.next();
            match t.tok {
                Tok::Eof => return Ok((nodes, End::Eof)),
                Tok::Text(text) => nodes.push(Node::Text(text.to_owned())),
                Tok::Open => {
                    self.skip_space();
                    let Token { pos, tok } = self.peek();
                    let word = if let Tok::Ident(word) = tok { word } else { "" };
                    match word {
                        "end" => {
                            self.i += 1;
                            self.close("end")?;
                            return Ok((nodes, End::Closed(pos)));
                        }
                        "else" => {
                            self.i += 1;
                            return Ok((nodes, End::Else(pos)));
                        }
                        // Only at the top of a file, as in Go.
                        "define" if self.depth == 0 => self.define()?,
                        "define" => return Err(SyntaxError::new(pos, "unexpected <define> in command")),
                        _ => nodes.push(self.action(word, pos)?),
                    }
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
                self.close(word)?;
                if self.loops == 0 {
                    return Err(SyntaxError::new(pos, format!("{{{{{word}}}}} outside {{{{range}}}}")));
                }
                Ok(if word == "break" { Node::Break } else { Node::Continue })
            }
            "template" => {
                self.skip_space();
                let pos = self.peek().pos;
                let name = self.name("template clause")?;
                self.skip_space();
                let pipe = if self.peek().tok == Tok::Close {
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
                self.body_of(name.clone(), "block")?;
                Ok(Node::Template { pos, name, pipe: Some(pipe) })
            }
            _ => Ok(Node::Action(self.pipeline("command", Tok::Close)?)),
        }
    }

    fn name(&mut self, context: &str) -> Result<String> {
        let t = self.next_non_space();
        match t.tok {
            Tok::Str(s) => unquote(s).ok_or_else(|| SyntaxError::new(t.pos, "invalid syntax")),
            Tok::RawStr(s) => Ok(raw(s)),
            _ => self.unexpected(&t, context),
        }
    }

    fn define(&mut self) -> Result<()> {
        self.i += 1;
        let name = self.name("define clause")?;
        self.close("define clause")?;
        self.body_of(name, "define")
    }

    fn body_of(&mut self, name: String, what: &str) -> Result<()> {
        self.deeper()?;
        let loops = std::mem::take(&mut self.loops);
        let vars = std::mem::replace(&mut self.vars, vec!["$"]);
        let (body, end) = self.list()?;
        (self.loops, self.vars) = (loops, vars);
        self.depth -= 1;
        let tree = Tree { name, body };
        match end {
            End::Closed(_) => {}
            End::Eof => return Err(SyntaxError::new(self.peek().pos, "unexpected EOF")),
            End::Else(pos) => {
                return Err(SyntaxError::new(pos, format!("unexpected {{{{else}}}} in {what} clause")));
            }
        }
        match self.trees.iter_mut().find(|t| t.name == tree.name) {
            Some(old) if old.is_empty() => *old = tree,
            Some(_) if !tree.is_empty() => {
                let reason = format!("template: multiple definition of template {:?}", tree.name);
                return Err(SyntaxError::new(self.peek().pos, reason));
            }
            Some(_) => {}
            None => self.trees.push(tree),
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
            End::Closed(_) => None,
            End::Eof => return Err(SyntaxError::new(self.peek().pos, "unexpected EOF")),
            End::Else(pos) => Some(self.otherwise(word, pos)?),
        };
        self.vars.truncate(known);
        self.depth -= 1;
        Ok(Branch { pipe, body: Arc::new(body), otherwise: otherwise.map(Arc::new) })
    }

    fn otherwise(&mut self, word: &str, else_pos: Pos) -> Result<Vec<Node>> {
        self.skip_space();
        // `{{else if}}` closes with the `{{end}}` of the outer branch.
        if matches!(word, "if" | "with") && matches!(self.peek().tok, Tok::Ident(w) if w == word) {
            self.i += 1;
            let b = self.branch(word)?;
            return Ok(vec![if word == "if" { Node::If(b) } else { Node::With(b) }]);
        }
        self.close("else")?;
        let (body, end) = self.list()?;
        match end {
            End::Closed(_) => Ok(body),
            End::Eof => Err(SyntaxError::new(self.peek().pos, "unexpected EOF")),
            End::Else(_) => Err(SyntaxError::new(else_pos, "expected end; found {{else}}")),
        }
    }

    fn pipeline(&mut self, context: &str, end: Tok<'_>) -> Result<Pipe> {
        self.skip_space();
        let pos = self.peek().pos;
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
            return Err(SyntaxError::new(pos, format!("missing value for {context}")));
        }
        for cmd in &pipe.cmds[1..] {
            if matches!(
                cmd.args[0].kind,
                Kind::Bool(_) | Kind::Dot | Kind::Nil | Kind::Int(..) | Kind::Float(..) | Kind::Str { .. }
            ) {
                return Err(SyntaxError::new(cmd.pos, "non executable command in pipeline stage 2"));
            }
        }
        Ok(pipe)
    }

    fn declarations(&mut self, pipe: &mut Pipe, context: &str) -> Result<()> {
        loop {
            self.skip_space();
            let Tok::Var(name) = self.peek().tok else { return Ok(()) };
            let save = self.i;
            self.i += 1;
            let t = self.next_non_space();
            match t.tok {
                Tok::Declare | Tok::Assign => {
                    pipe.assign = t.tok == Tok::Assign;
                    pipe.decl.push(name.to_owned());
                    self.vars.push(name);
                    return Ok(());
                }
                Tok::Comma => {
                    pipe.decl.push(name.to_owned());
                    self.vars.push(name);
                    if context != "range" || pipe.decl.len() > 1 {
                        return Err(SyntaxError::new(t.pos, format!("too many declarations in {context}")));
                    }
                    self.skip_space();
                    if !matches!(self.peek().tok, Tok::Var(_)) {
                        return Err(SyntaxError::new(t.pos, "range can only initialize variables"));
                    }
                }
                _ => {
                    self.i = save;
                    return Ok(());
                }
            }
        }
    }

    fn command(&mut self) -> Result<Cmd> {
        self.skip_space();
        let pos = self.peek().pos;
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
            return Err(SyntaxError::new(pos, "empty command"));
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
                    return Err(SyntaxError::new(
                        e.pos,
                        format!("unexpected . after term {:?}", e.to_string()),
                    ));
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
                _ if (self.is_func)(w) => Kind::Ident(w.to_owned()),
                _ => return Err(SyntaxError::new(t.pos, format!("function {w:?} not defined"))),
            },
            Tok::Dot => Kind::Dot,
            Tok::Var(v) if self.vars.contains(&v) => Kind::Var(v.to_owned(), Vec::new()),
            Tok::Var(v) => return Err(SyntaxError::new(t.pos, format!("undefined variable {v:?}"))),
            Tok::Field(f) => Kind::Field(vec![f.to_owned()]),
            Tok::Number(n) => {
                number(n).ok_or_else(|| SyntaxError::new(t.pos, format!("illegal number syntax: {n:?}")))?
            }
            Tok::Char(c) => {
                let value = unquote(c).filter(|s| s.chars().count() == 1).and_then(|s| s.chars().next());
                let value = value
                    .ok_or_else(|| SyntaxError::new(t.pos, format!("malformed character constant: {c}")))?;
                Kind::Int(i64::from(u32::from(value)), c.to_owned())
            }
            Tok::Str(s) => Kind::Str {
                value: unquote(s).ok_or_else(|| SyntaxError::new(t.pos, "invalid syntax"))?,
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn errors_in_a_block_within_a_range_are_errors() {
        for text in ["{{range .}}{{block \"b\" .}}{{)}}", "{{range .}}{{define \"b\"}}{{)}}"] {
            assert!(parse("t", text, &|_| true).unwrap_err().reason.contains("unexpected"), "{text}");
        }
    }

    proptest! {
        /// Whatever the text, there is a tree or an error within it, and the tokens lie in the text and in its order.
        #[test]
        fn any_text_is_parsed_or_refused(
            text in r#"(\{\{-? ?|-? ?\}\}|if |else|end|range |with |define "a"|template "a"|block "b" \.|\$x|:=|=|\||,|\(|\)|\.a|\.|"q"|'c'|`r`|0x1|-1\.5e3|nil|true|upper |/\*|\*/|é|\n| |[ -~]){0,40}"#
        ) {
            match lex(&text) {
                Ok(toks) => {
                    prop_assert!(toks.iter().all(|t| t.pos <= text.len() && text.is_char_boundary(t.pos)));
                    prop_assert!(toks.windows(2).all(|w| w[0].pos <= w[1].pos));
                }
                Err(e) => prop_assert!(e.pos <= text.len()),
            }
            if let Err(e) = parse("t", &text, &|f| f == "upper") {
                prop_assert!(e.pos <= text.len());
            }
        }
    }
}
