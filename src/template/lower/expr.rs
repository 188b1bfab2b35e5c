//! Expressions: what a pipeline is to minijinja.

use std::fmt::Write;
use std::sync::Arc;

use super::super::ast::{Cmd, Expr, Kind, Pipe, Pos};
use super::super::error::SyntaxError;
use super::super::funcs;
use super::super::site::What;
use super::Lowering;

impl Lowering<'_> {
    /// The pipeline's value as a minijinja expression; declarations are the caller's.
    pub(super) fn pipe(&mut self, p: &Pipe) -> Result<String, SyntaxError> {
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
            Kind::Dot => self.scope.elements.contains(&self.scope.dot),
            Kind::Var(go, names) => {
                !names.is_empty() || self.known(go).is_some_and(|v| self.scope.elements.contains(&v))
            }
            _ => false,
        }
    }

    fn command(&mut self, cmd: &Arc<Cmd>, last: Option<String>) -> Result<String, SyntaxError> {
        let first = &cmd.args[0];
        let mut args = cmd.args[1..].iter().map(|a| self.expr(a)).collect::<Result<Vec<_>, _>>()?;
        let operands = args.len();
        args.extend(last);
        match &first.kind {
            Kind::Ident(name) => self.call(cmd.pos, Some(cmd), name, args),
            Kind::Nil => {
                let site = self.site(first.pos, first, What::Other);
                Ok(format!("_e({site}, \"nil is not a command\")"))
            }
            Kind::Field(_) | Kind::Var(..) | Kind::Chain(..) if !args.is_empty() => {
                let (base, names) = match &first.kind {
                    Kind::Field(names) => (self.scope.dot.clone(), names),
                    Kind::Var(go, names) => (self.read(go, first), names),
                    Kind::Chain(base, names) => (self.expr(base)?, names),
                    _ => unreachable!("matched above"),
                };
                if names.is_empty() {
                    return Ok(self.not_a_function(first));
                }
                let what = self.fields(&base, names);
                let wants_text = matches!(
                    names.last().map(String::as_str),
                    Some("Get" | "GetBytes" | "Glob" | "Lines" | "Has" | "Table")
                );
                // The methods that charts can reach with arguments take strings; Go looks at constants first.
                for arg in &cmd.args[1..] {
                    if wants_text && let Kind::Int(_, t) | Kind::Float(_, t) = &arg.kind {
                        let site = self.site(arg.pos, arg, What::Other);
                        let reason = literal(&format!("expected string; found {t}"));
                        return Ok(format!("_e({site}, {reason})"));
                    }
                }
                let site = self.site(first.pos, first, what);
                // Minijinja evaluates arguments in their order. Go has the value of the pipeline so far first, then finds out whether
                // there is such a method, then looks at the other arguments: any of the three may fail.
                let method = format!("_bm({site}, {base}, {})", args.len());
                let (args, last) = args.split_at(operands);
                let call = if last.is_empty() { "_m" } else { "_ml" };
                let all = [&[format!("{call}({site}")], last, &[method], args].concat();
                Ok(all.join(", ") + ")")
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
        let Some(func) = funcs::lookup(name) else {
            return Err(SyntaxError::new(pos, format!("function {name:?} not defined")));
        };
        let operands = cmd.map(|c| &c.args[1..]).unwrap_or_default();
        let interfaces = operands.iter().take(64).enumerate();
        let interfaces = interfaces.fold(0, |bits, (i, e)| bits | u64::from(self.is_interface(e)) << i);
        let what = What::Call { func, cmd: cmd.cloned(), interfaces };
        // The command is printed when it is needed.
        let site = self.site(pos, &if cmd.is_some() { "" } else { name }, what);
        let args: String = args.iter().map(|a| format!(", {a}")).collect();
        Ok(format!("_c({site}{args})"))
    }

    fn known(&self, go: &str) -> Option<String> {
        let (name, cell) = self.find(go)?;
        Some(if cell { format!("_get({name})") } else { name })
    }

    fn read(&mut self, go: &str, e: &Expr) -> String {
        self.known(go).unwrap_or_else(|| self.undefined(go, e.pos, e, "none"))
    }

    pub(super) fn expr(&mut self, e: &Expr) -> Result<String, SyntaxError> {
        Ok(match &e.kind {
            Kind::Dot => self.scope.dot.clone(),
            Kind::Nil => "none".into(),
            Kind::Bool(b) => b.to_string(),
            Kind::Int(i, _) if *i < 0 => format!("_n({})", i.unsigned_abs()),
            Kind::Int(i, _) => i.to_string(),
            Kind::Float(f, _) => format!("({f:?})"),
            Kind::Str { value, .. } => literal(value),
            Kind::Ident(name) => self.call(e.pos, None, name, Vec::new())?,
            Kind::Field(names) => {
                let base = self.scope.dot.clone();
                let what = self.fields(&base, names);
                let site = self.site(e.pos, e, what);
                format!("_f({site}, {base})")
            }
            Kind::Var(go, names) => {
                let base = self.read(go, e);
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
                    Some(go) if p.assign => match self.find(go) {
                        Some((name, _)) => format!("_set({name}, {value})"),
                        None => {
                            let (pos, shown) = p.last();
                            self.undefined(go, pos, &shown, &value)
                        }
                    },
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
pub(super) fn literal(s: &str) -> String {
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
