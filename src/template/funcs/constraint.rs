//! Constraints on versions after Masterminds' semver 3.5, which Helm 4 uses. They differ from Cargo's: parts may be
//! missing or wild, `||` separates alternatives, and one pre-release in an alternative lets its other comparisons see
//! pre-releases too.

use std::cmp::Ordering;

use super::super::error::FnError;
use super::super::fmt::quote;
use super::semver::{Version, compare};

/// Longer ones first where one begins with another.
const OPERATORS: [&str; 11] = ["!=", ">=", "=>", "<=", "=<", "~>", "=", ">", "<", "~", "^"];

/// Longer constraints are refused: what looks for ranges in one starts at every byte of it.
const MAX_LENGTH: usize = 4 << 10;

/// One comparison of an alternative.
struct Comparison {
    op: &'static str,
    bound: Version,
    /// Some number is missing or wild.
    dirty: bool,
    minor_dirty: bool,
    patch_dirty: bool,
}

/// Alternatives, one of which has to hold, in all its comparisons.
pub(crate) struct Constraint(Vec<Vec<Comparison>>);

impl Constraint {
    /// # Errors
    ///
    /// If it cannot be read.
    pub(crate) fn parse(text: &str) -> Result<Self, FnError> {
        if text.len() > MAX_LENGTH {
            return Err(FnError::text(format!(
                "a constraint of more than {MAX_LENGTH} bytes is not allowed"
            )));
        }
        let one = |text: &str| {
            let terms = terms(text).ok_or_else(|| improper(text))?;
            terms.iter().map(|(op, text)| comparison(op, text)).collect()
        };
        Ok(Self(rewrite_ranges(text).split("||").map(one).collect::<Result<_, _>>()?))
    }

    pub(crate) fn holds(&self, v: &Version) -> bool {
        self.0.iter().any(|all| {
            let sees_pre = v.pre.is_empty() || all.iter().any(|c| !c.bound.pre.is_empty());
            sees_pre && all.iter().all(|c| c.holds(v))
        })
    }
}

fn improper(text: &str) -> FnError {
    FnError::text(format!("improper constraint: {}", quote(text)))
}

fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0c)
}

fn skip_spaces(text: &str, at: usize) -> usize {
    at + text.as_bytes()[at..].iter().take_while(|b| is_space(**b)).count()
}

/// The end of the dotted identifiers that begin at `at`; `at` itself where there is none.
fn dotted(text: &str, at: usize, part: fn(u8) -> bool) -> usize {
    let bytes = text.as_bytes();
    let run = |from: usize| from + bytes[from..].iter().take_while(|b| part(**b)).count();
    let mut end = run(at);
    while end > at && bytes.get(end) == Some(&b'.') {
        let next = run(end + 1);
        if next == end + 1 {
            break;
        }
        end = next;
    }
    end
}

/// The end of the version that begins at `at`, wild parts allowed.
fn version_end(text: &str, at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let number = |b: u8| b.is_ascii_digit() || matches!(b, b'|' | b'x' | b'X' | b'*');
    let run = |from: usize| from + bytes[from..].iter().take_while(|b| number(**b)).count();
    let start = at + usize::from(bytes.get(at) == Some(&b'v'));
    let mut end = run(start);
    if end == start {
        return None;
    }
    for _ in 0..2 {
        if bytes.get(end) != Some(&b'.') || run(end + 1) == end + 1 {
            break;
        }
        end = run(end + 1);
    }
    for sign in [b'-', b'+'] {
        if bytes.get(end) == Some(&sign) {
            let after = dotted(text, end + 1, |b| b.is_ascii_alphanumeric() || b == b'-');
            end = if after == end + 1 { end } else { after };
        }
    }
    Some(end)
}

/// `1.2 - 1.4` is `>= 1.2, <= 1.4`, wherever it stands.
fn rewrite_ranges(text: &str) -> String {
    let bytes = text.as_bytes();
    let range = |at: usize| {
        let from = skip_spaces(text, at);
        let from_end = version_end(text, from)?;
        let dash = skip_spaces(text, from_end);
        if dash == from_end || bytes.get(dash) != Some(&b'-') {
            return None;
        }
        let to = skip_spaces(text, dash + 1);
        let to_end = version_end(text, to).filter(|_| to > dash + 1)?;
        Some((format!(">= {}, <= {} ", &text[from..from_end], &text[to..to_end]), skip_spaces(text, to_end)))
    };
    let (mut out, mut at) = (String::new(), 0);
    while at < text.len() {
        if let Some((rewritten, end)) = text.is_char_boundary(at).then(|| range(at)).flatten() {
            out.push_str(&rewritten);
            at = end;
        } else {
            let next = (at + 1..=text.len()).find(|i| text.is_char_boundary(*i)).unwrap_or(text.len());
            out.push_str(&text[at..next]);
            at = next;
        }
    }
    out
}

/// The operators and versions of one alternative, separated by space or commas.
fn terms(text: &str) -> Option<Vec<(&'static str, &str)>> {
    let mut out = Vec::new();
    let mut at = 0;
    loop {
        at = skip_spaces(text, at);
        let op = OPERATORS.into_iter().find(|op| text[at..].starts_with(op)).unwrap_or("");
        let start = skip_spaces(text, at + op.len());
        let end = version_end(text, start)?;
        out.push((op, &text[start..end]));
        at = skip_spaces(text, end);
        match text.as_bytes().get(at) {
            None => return Some(out),
            Some(b',') => at += 1,
            Some(_) if at > end => {}
            Some(_) => return None,
        }
    }
}

fn comparison(op: &'static str, text: &str) -> Result<Comparison, FnError> {
    let rest = text.strip_prefix('v').unwrap_or(text);
    let (rest, _) = rest.split_once('+').unwrap_or((rest, ""));
    let (core, pre) = rest.find('-').map_or((rest, ""), |at| rest.split_at(at));
    let numbers: Vec<&str> = core.split('.').collect();
    let wild = |i: usize| numbers.get(i).is_none_or(|n| matches!(*n, "x" | "X" | "*"));
    let (dirty, minor_dirty, patch_dirty, version) = if wild(0) {
        (true, false, false, format!("0.0.0{pre}"))
    } else if wild(1) {
        (true, true, false, format!("{}.0.0{pre}", numbers[0]))
    } else if wild(2) {
        (true, false, true, format!("{}.{}.0{pre}", numbers[0], numbers[1]))
    } else {
        (false, false, false, text.to_owned())
    };
    let bound = Version::parse(&version).map_err(|_| FnError::text("constraint parser error"))?;
    Ok(Comparison { op, bound, dirty, minor_dirty, patch_dirty })
}

impl Comparison {
    fn holds(&self, v: &Version) -> bool {
        let order = compare(v, &self.bound);
        match self.op {
            "!=" => self.differs(v),
            ">" => self.exceeded_by(v),
            "<" => order == Ordering::Less,
            ">=" | "=>" => order != Ordering::Less,
            "<=" | "=<" if self.dirty => {
                let ([major, minor, _], [to_major, to_minor, _]) = (v.numbers, self.bound.numbers);
                major < to_major || major == to_major && (minor <= to_minor || self.minor_dirty)
            }
            "<=" | "=<" => order != Ordering::Greater,
            "^" => self.caret(v),
            "" | "=" if !self.dirty => order == Ordering::Equal,
            _ => self.tilde(v),
        }
    }

    fn differs(&self, v: &Version) -> bool {
        let (have, not) = (v.numbers, self.bound.numbers);
        if self.minor_dirty {
            return have[0] != not[0];
        }
        if self.patch_dirty {
            return have[..2] != not[..2] || v.pre != self.bound.pre;
        }
        compare(v, &self.bound) != Ordering::Equal
    }

    /// `>11` asks for 12 or more, `>11.1` for 11.2 or more.
    fn exceeded_by(&self, v: &Version) -> bool {
        let (have, than) = (v.numbers, self.bound.numbers);
        if self.dirty && have[0] != than[0] {
            have[0] > than[0]
        } else if self.minor_dirty {
            false
        } else if self.patch_dirty {
            have[1] > than[1]
        } else {
            compare(v, &self.bound) == Ordering::Greater
        }
    }

    fn tilde(&self, v: &Version) -> bool {
        let any = self.bound.numbers == [0, 0, 0] && !self.minor_dirty && !self.patch_dirty;
        compare(v, &self.bound) != Ordering::Less
            && (any
                || v.numbers[0] == self.bound.numbers[0]
                    && (self.minor_dirty || v.numbers[1] == self.bound.numbers[1]))
    }

    fn caret(&self, v: &Version) -> bool {
        let (have, from) = (v.numbers, self.bound.numbers);
        if compare(v, &self.bound) == Ordering::Less || have[0] != from[0] {
            return false;
        }
        if from[0] > 0 || self.minor_dirty {
            return true;
        }
        if from[1] > 0 || self.patch_dirty { have[1] == from[1] } else { have == from }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What helm 4.3.1 prints for each is in the golden of the chart `semver`.
    #[test]
    fn constraints_hold_as_in_masterminds_semver() {
        let cases = [
            (">=1.21-0", "v1.33.0", true),
            (">=1.21-0", "1.20.9", false),
            (">= 1.19.0", "1.19.0-rc1", false),
            (">=1.19-0", "1.19.0-gke.1", true),
            // One pre-release in an alternative is enough.
            (">=1.19-0, <1.30", "1.27.3-gke.100", true),
            (">=1.19, <1.30", "1.27.3-gke.100", false),
            (">=1.19 || >=1.28-0", "1.27.3-gke.100", false),
            ("!=1.25.0", "1.26.0-rc.1", false),
            ("^1.2", "1.9.3", true),
            ("^0.2.3", "0.3.0", false),
            ("^0.0.3", "0.0.4", false),
            ("^0.0", "0.0.4", true),
            ("^*", "1.25.3", false),
            ("~1.2.3", "1.2.9", true),
            ("~1.2.3", "1.3.0", false),
            ("~*", "7.1.0", true),
            ("1.2.x", "1.2.7", true),
            ("*", "3.4.5", true),
            ("<1.14-0 || >=1.16", "1.13.2", true),
            (">1.2, <2", "1.5.0", true),
            ("1.2 - 1.4", "1.4.5", true),
            ("1.20-0 - 1.30", "1.27.3-gke.100", true),
            ("<= 1.4", "1.4.5", true),
            ("<= 1", "1.4.5", true),
            (">1.4", "1.4.5", false),
            (">1", "1.4.5", false),
            ("1.2.3", "1.2.3", true),
        ];
        for (constraint, version, want) in cases {
            let v = Version::parse(version).unwrap();
            assert_eq!(Constraint::parse(constraint).unwrap().holds(&v), want, "{constraint} {version}");
        }
    }

    #[test]
    fn what_is_no_constraint_is_named_as_helm_does() {
        let error = |constraint: &str| match Constraint::parse(constraint) {
            Ok(_) => panic!("{constraint} is one"),
            Err(e) => e.to_string(),
        };
        assert_eq!(error("foo"), "improper constraint: \"foo\"");
        assert_eq!(error("^1.2.3 ||"), "improper constraint: \"\"");
        assert_eq!(error(">=1.2<3"), "improper constraint: \">=1.2<3\"");
        assert_eq!(error(">1.2 - 1.4"), "improper constraint: \">>= 1.2, <= 1.4 \"");
        assert_eq!(error("1.2.3-01"), "constraint parser error");
        assert_eq!(error(&"1".repeat(1 << 20)), "a constraint of more than 4096 bytes is not allowed");
        assert_eq!(error(&" ".repeat(4 << 10)), format!("improper constraint: \"{}\"", " ".repeat(4 << 10)));
        assert_eq!(error("é"), "improper constraint: \"é\"");
    }
}
