//! Tokens to trees, after the grammar of `text/template/parse`.

use std::sync::Arc;

use super::ast::{Branch, Cmd, Expr, Kind, Node, Pipe, Pos, Tree};
use super::error::SyntaxError;
use super::lex::{Tok, Token, lex, unquote};

type Result<T> = std::result::Result<T, SyntaxError>;

/// Blocks nested deeper than this are refused; the deepest real charts stay below 20.
const MAX_DEPTH: usize = 100;

/// Parses a file: its own tree first, then those it defines.
pub(crate) fn parse(name: &str, text: &str, is_func: &dyn Fn(&str) -> bool) -> Result<Vec<Tree>> {
    let mut p = Parser { toks: lex(text)?, i: 0, trees: Vec::new(), loops: 0, depth: 0, is_func };
    let (body, end) = p.list()?;
    match end {
        End::Eof => {}
        End::Closed(pos) => return Err(SyntaxError::new(pos, "unexpected {{end}}")),
        End::Else(pos) => return Err(SyntaxError::new(pos, "unexpected {{else}}")),
    }
    p.trees.insert(0, Tree { name: name.to_owned(), body });
    Ok(p.trees)
}

enum End {
    Eof,
    Closed(Pos),
    Else(Pos),
}

struct Parser<'a> {
    toks: Vec<Token>,
    i: usize,
    trees: Vec<Tree>,
    loops: usize,
    depth: usize,
    is_func: &'a dyn Fn(&str) -> bool,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        // The last token is the end of the text and is never consumed.
        &self.toks[self.i.min(self.toks.len() - 1)]
    }

    fn next(&mut self) -> Token {
        let t = self.peek().clone();
        self.i += 1;
        t
    }

    fn skip_space(&mut self) {
        while self.peek().tok == Tok::Space {
            self.i += 1;
        }
    }

    fn next_non_space(&mut self) -> Token {
        self.skip_space();
        self.next()
    }

    fn unexpected<T>(&self, t: &Token, context: &str) -> Result<T> {
        Err(SyntaxError::new(t.pos, format!("unexpected {} in {context}", describe(&t.tok))))
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
                Tok::Text(text) => nodes.push(Node::Text(text)),
                Tok::Open => {
                    self.skip_space();
                    let word = match &self.peek().tok {
                        Tok::Ident(w) => w.clone(),
                        _ => String::new(),
                    };
                    let pos = self.peek().pos;
                    match word.as_str() {
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
                        _ => nodes.push(self.action(&word, pos)?),
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
            "if" => Ok(Node::If(self.branch(word, pos)?)),
            "with" => Ok(Node::With(self.branch(word, pos)?)),
            "range" => {
                self.loops += 1;
                // After an error there is no body to be in.
                let b = self.branch(word, pos)?;
                self.loops -= 1;
                Ok(Node::Range(b))
            }
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
                    Some(self.pipeline("template clause", &Tok::Close)?)
                };
                Ok(Node::Template { pos, name, pipe })
            }
            "block" => {
                let name = self.name("block clause")?;
                let pipe = self.pipeline("block clause", &Tok::Close)?;
                self.body_of(name.clone(), "block")?;
                Ok(Node::Template { pos, name, pipe: Some(pipe) })
            }
            _ => Ok(Node::Action(self.pipeline("command", &Tok::Close)?)),
        }
    }

    fn name(&mut self, context: &str) -> Result<String> {
        let t = self.next_non_space();
        match &t.tok {
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
        let (body, end) = self.list()?;
        self.loops = loops;
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

    fn branch(&mut self, word: &str, pos: Pos) -> Result<Branch> {
        self.deeper()?;
        let pipe = self.pipeline(word, &Tok::Close)?;
        let (body, end) = self.list()?;
        let otherwise = match end {
            End::Closed(_) => None,
            End::Eof => return Err(SyntaxError::new(self.peek().pos, "unexpected EOF")),
            End::Else(pos) => Some(self.otherwise(word, pos)?),
        };
        self.depth -= 1;
        Ok(Branch { pos, pipe, body, otherwise })
    }

    fn otherwise(&mut self, word: &str, else_pos: Pos) -> Result<Vec<Node>> {
        self.skip_space();
        // `{{else if}}` closes with the `{{end}}` of the outer branch.
        if matches!(word, "if" | "with") && matches!(&self.peek().tok, Tok::Ident(w) if w == word) {
            let pos = self.next().pos;
            let b = self.branch(word, pos)?;
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

    fn pipeline(&mut self, context: &str, end: &Tok) -> Result<Pipe> {
        self.skip_space();
        let pos = self.peek().pos;
        let mut pipe = Pipe { pos, decl: Vec::new(), assign: false, cmds: Vec::new() };
        self.declarations(&mut pipe, context)?;
        loop {
            let t = self.next_non_space();
            if t.tok == *end {
                break;
            }
            if !starts_operand(&t.tok) {
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
            let Tok::Var(name) = self.peek().tok.clone() else { return Ok(()) };
            let save = self.i;
            self.i += 1;
            let t = self.next_non_space();
            match t.tok {
                Tok::Declare | Tok::Assign => {
                    pipe.assign = t.tok == Tok::Assign;
                    pipe.decl.push(name);
                    return Ok(());
                }
                Tok::Comma => {
                    pipe.decl.push(name);
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
        let mut args = Vec::new();
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
        while let Tok::Field(name) = &self.peek().tok {
            names.push(name.clone());
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
        let t = self.peek().clone();
        let kind = match &t.tok {
            Tok::Ident(w) => match w.as_str() {
                "true" => Kind::Bool(true),
                "false" => Kind::Bool(false),
                "nil" => Kind::Nil,
                _ if (self.is_func)(w) => Kind::Ident(w.clone()),
                _ => return Err(SyntaxError::new(t.pos, format!("function {w:?} not defined"))),
            },
            Tok::Dot => Kind::Dot,
            Tok::Var(v) => Kind::Var(v.clone(), Vec::new()),
            Tok::Field(f) => Kind::Field(vec![f.clone()]),
            Tok::Number(n) => {
                number(n).ok_or_else(|| SyntaxError::new(t.pos, format!("illegal number syntax: {n:?}")))?
            }
            Tok::Char(c) => {
                let value = unquote(c).filter(|s| s.chars().count() == 1).and_then(|s| s.chars().next());
                let value = value
                    .ok_or_else(|| SyntaxError::new(t.pos, format!("malformed character constant: {c}")))?;
                Kind::Int(i64::from(u32::from(value)), c.clone())
            }
            Tok::Str(s) => Kind::Str {
                value: unquote(s).ok_or_else(|| SyntaxError::new(t.pos, "invalid syntax"))?,
                text: s.clone(),
            },
            Tok::RawStr(s) => Kind::Str { value: raw(s), text: s.clone() },
            Tok::LeftParen => {
                self.i += 1;
                self.deeper()?;
                let pipe = self.pipeline("parenthesized pipeline", &Tok::RightParen)?;
                self.depth -= 1;
                return Ok(Some(Expr { pos: t.pos, kind: Kind::Pipe(Box::new(pipe)) }));
            }
            _ => return Ok(None),
        };
        self.i += 1;
        Ok(Some(Expr { pos: t.pos, kind }))
    }
}

fn raw(text: &str) -> String {
    // Go drops carriage returns from raw strings.
    text[1..text.len() - 1].replace('\r', "")
}

fn starts_operand(t: &Tok) -> bool {
    matches!(
        t,
        Tok::Ident(_)
            | Tok::Field(_)
            | Tok::Dot
            | Tok::Var(_)
            | Tok::Number(_)
            | Tok::Char(_)
            | Tok::Str(_)
            | Tok::RawStr(_)
            | Tok::LeftParen
    )
}

/// A numeric constant: an integer if it is written as one, else a float (`idealConstant` in Go's executor).
fn number(text: &str) -> Option<Kind> {
    let plain = text.replace('_', "");
    if let Some(crate::yaml::Value::Int(i)) = crate::yaml::parse_go_int(&plain) {
        return Some(Kind::Int(i, text.to_owned()));
    }
    let f: f64 = match plain.strip_prefix("0x").or_else(|| plain.strip_prefix("0X")) {
        Some(hex) => hex_float(hex)?,
        None => plain.parse().ok()?,
    };
    f.is_finite().then(|| Kind::Float(f, text.to_owned()))
}

/// `1.8p3`: hexadecimal digits, and a power of two.
fn hex_float(text: &str) -> Option<f64> {
    let (digits, exponent) = text.split_once(['p', 'P'])?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let value = |s: &str| s.chars().try_fold(0f64, |n, c| Some(n * 16.0 + f64::from(c.to_digit(16)?)));
    let fraction_digits = i32::try_from(fraction.len()).ok()?;
    let exponent: i32 = exponent.parse().ok()?;
    Some((value(whole)? + value(fraction)? * 16f64.powi(-fraction_digits)) * 2f64.powi(exponent))
}

const KEYWORDS: [&str; 11] =
    ["block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template", "with"];

fn describe(t: &Tok) -> String {
    match t {
        Tok::Eof => "EOF".into(),
        Tok::Open => "\"{{\"".into(),
        Tok::Close => "\"}}\"".into(),
        Tok::Space => "\" \"".into(),
        Tok::Text(s) => format!("{s:?}"),
        Tok::Ident(s) if KEYWORDS.contains(&s.as_str()) => format!("<{s}>"),
        Tok::Ident(s) => format!("{s:?}"),
        Tok::Field(s) => format!("{:?}", format!(".{s}")),
        Tok::Dot => "<.>".into(),
        Tok::Var(s) | Tok::Number(s) | Tok::Char(s) | Tok::Str(s) | Tok::RawStr(s) => format!("{s:?}"),
        Tok::Declare => "\":=\"".into(),
        Tok::Assign => "\"=\"".into(),
        Tok::Pipe => "\"|\"".into(),
        Tok::Comma => "\",\"".into(),
        Tok::LeftParen => "\"(\"".into(),
        Tok::RightParen => "\")\"".into(),
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
