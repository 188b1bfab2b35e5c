//! The grammar of `--set`: `a.b=c,list={x,y},servers[0].port=80`, with `\` before a character that is meant itself.

use serde_json::Map;

use super::values::Tree;

/// Helm's bounds.
const MAX_INDEX: usize = 65_536;
const MAX_NESTED: usize = 30;
/// Elements that one expression may fill lists up with, up to the indices that it names.
const MAX_FILLED: usize = 1 << 20;

type Table = Map<String, Tree>;

/// What values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum As {
    /// What they look like: `--set`.
    Typed,
    /// Text: `--set-string`.
    Text,
    /// JSON: `--set-json`.
    Json,
}

/// Why reading stops.
#[derive(Debug)]
enum Stop {
    /// The expression is at its end, where more was due or not: Helm takes what it has by then.
    End,
    /// It cannot be used.
    Wrong(String),
}

impl From<String> for Stop {
    fn from(reason: String) -> Self {
        Self::Wrong(reason)
    }
}

type Outcome<T> = Result<T, Stop>;

struct Parser<'a> {
    rest: &'a str,
    values: As,
    filled: usize,
}

/// Applies a `--set` expression; with `strings`, that of `--set-string`.
///
/// # Errors
///
/// With what is wrong in Helm's words.
pub(crate) fn parse(text: &str, dest: &mut Tree, strings: bool) -> Result<(), String> {
    apply(text, dest, if strings { As::Text } else { As::Typed })
}

fn apply(text: &str, dest: &mut Tree, values: As) -> Result<(), String> {
    let mut p = Parser { rest: text, values, filled: 0 };
    let Tree::Object(table) = dest else { return Err("values are not a mapping".into()) };
    loop {
        match p.key(table, 0) {
            Ok(()) => {}
            Err(Stop::End) => return Ok(()),
            Err(Stop::Wrong(reason)) => return Err(reason),
        }
    }
}

/// Applies `key=json,key=json` or a whole JSON object.
pub(crate) fn parse_json(text: &str, dest: &mut Tree) -> Result<(), String> {
    if !text.trim_start().starts_with('{') {
        return apply(text, dest, As::Json);
    }
    let tree = serde_json::from_str(text).map_err(|e| e.to_string())?;
    super::values::overlay(dest, floats(tree));
    Ok(())
}

/// Sets `key` to a text that is taken as it stands, for `--set-file`.
pub(crate) fn assign(key: &str, value: &str, dest: &mut Tree) -> Result<(), String> {
    place(key, Tree::String(value.to_owned()), dest)
}

/// The same for `--set-literal`, in whose keys a backslash is one.
pub(crate) fn assign_literal(key: &str, value: &str, dest: &mut Tree) -> Result<(), String> {
    assign(&key.replace('\\', "\\\\"), value, dest)
}

/// JSON numbers are floats in Go.
fn floats(tree: Tree) -> Tree {
    match tree {
        Tree::Number(n) => n.as_f64().map_or(Tree::Number(n), Tree::from),
        Tree::Array(a) => Tree::Array(a.into_iter().map(floats).collect()),
        Tree::Object(m) => Tree::Object(m.into_iter().map(|(k, v)| (k, floats(v))).collect()),
        other => other,
    }
}

/// Sets a key of the grammar to a finished value: a mark is set and then replaced.
fn place(key: &str, value: Tree, dest: &mut Tree) -> Result<(), String> {
    const MARK: &str = "\u{0}mark";
    parse(&format!("{key}={MARK}"), dest, true)?;
    fn find(tree: &mut Tree, value: &mut Option<Tree>) {
        match tree {
            Tree::String(s) if s == MARK => *tree = value.take().unwrap_or(Tree::Null),
            Tree::Array(a) => a.iter_mut().for_each(|t| find(t, value)),
            Tree::Object(m) => m.values_mut().for_each(|t| find(t, value)),
            _ => {}
        }
    }
    find(dest, &mut Some(value));
    Ok(())
}

/// Go's words for a value of another type than is needed.
fn not_a(value: &Tree, wanted: &str) -> Stop {
    let is = super::schema::go_type(value);
    Stop::Wrong(format!("unable to parse key: interface conversion: interface {{}} is {is}, not {wanted}"))
}

impl Parser<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    /// Text up to one of `stop`, and which one that was; none at the end.
    fn until(&mut self, stop: &[char]) -> (String, Option<char>) {
        let mut out = String::new();
        while let Some(c) = self.next() {
            if stop.contains(&c) {
                return (out, Some(c));
            }
            match c {
                '\\' => out.extend(self.next()),
                c => out.push(c),
            }
        }
        (out, None)
    }

    fn key(&mut self, table: &mut Table, depth: usize) -> Outcome<()> {
        let (key, last) = self.until(&['=', '[', ',', '.']);
        let mut set = |value: Tree| {
            if !key.is_empty() {
                table.insert(key.clone(), value);
            }
        };
        match last {
            None if key.is_empty() => Err(Stop::End),
            None => Err(Stop::Wrong(format!("key {key:?} has no value"))),
            Some(',') => {
                set(Tree::String(String::new()));
                Err(Stop::Wrong(format!("key {key:?} has no value (cannot end with ,)")))
            }
            Some('=') => {
                let (value, then) = self.value()?;
                set(value);
                then
            }
            Some('[') => {
                let index = self.index()?;
                let mut list = match table.get(&key) {
                    None | Some(Tree::Null) => Vec::new(),
                    Some(Tree::Array(a)) => a.clone(),
                    Some(other) => return Err(not_a(other, "[]interface {}")),
                };
                let done = self.item(&mut list, index, depth);
                if !key.is_empty() {
                    table.insert(key, Tree::Array(list));
                }
                done
            }
            Some(_) => {
                if depth >= MAX_NESTED {
                    return Err(Stop::Wrong(format!(
                        "value name nested level is greater than maximum supported nested level of {MAX_NESTED}"
                    )));
                }
                let mut inner = match table.get(&key) {
                    None => Map::new(),
                    Some(Tree::Object(m)) => m.clone(),
                    Some(other) => return Err(not_a(other, "map[string]interface {}")),
                };
                let done = self.key(&mut inner, depth + 1);
                if inner.is_empty() && done.is_ok() {
                    return Err(Stop::Wrong(format!("key map {key:?} has no value")));
                }
                if !inner.is_empty() && !key.is_empty() {
                    table.insert(key, Tree::Object(inner));
                }
                done
            }
        }
    }

    fn index(&mut self) -> Outcome<usize> {
        let (text, last) = self.until(&[']']);
        if last.is_none() {
            return Err(Stop::End);
        }
        let digits = text.strip_prefix(['+', '-']).unwrap_or(&text);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            let reason = format!("error parsing index: strconv.Atoi: parsing {text:?}: invalid syntax");
            return Err(Stop::Wrong(reason));
        }
        let Ok(index) = text.parse::<i64>() else {
            let reason = format!("error parsing index: strconv.Atoi: parsing {text:?}: value out of range");
            return Err(Stop::Wrong(reason));
        };
        match usize::try_from(index) {
            Err(_) => Err(Stop::Wrong(format!("negative {index} index not allowed"))),
            Ok(i) if i > MAX_INDEX => Err(Stop::Wrong(format!(
                "index of {index} is greater than maximum supported index of {MAX_INDEX}"
            ))),
            Ok(i) => Ok(i),
        }
    }

    fn item(&mut self, list: &mut Vec<Tree>, index: usize, depth: usize) -> Outcome<()> {
        let (rest, last) = self.until(&['[', '.', '=']);
        if !rest.is_empty() {
            // As Go prints its runes.
            let runes: Vec<String> = rest.chars().map(|c| format!("'{c}'")).collect();
            let reason = format!("unexpected data at end of array index: [{}]", runes.join(" "));
            return Err(Stop::Wrong(reason));
        }
        if depth >= MAX_NESTED {
            return Err(Stop::Wrong(format!("lists are nested deeper than {MAX_NESTED} levels")));
        }
        let old = list.get(index).cloned();
        let (value, then) = match last {
            Some('=') => self.value()?,
            Some('[') => {
                let next = self.index()?;
                let mut inner = match old {
                    None | Some(Tree::Null) => Vec::new(),
                    Some(Tree::Array(a)) => a,
                    Some(other) => return Err(not_a(&other, "[]interface {}")),
                };
                self.item(&mut inner, next, depth + 1)?;
                (Tree::Array(inner), Ok(()))
            }
            Some(_) => {
                let mut inner = match old {
                    Some(Tree::Object(m)) => m,
                    _ => Map::new(),
                };
                self.key(&mut inner, depth + 1)?;
                (Tree::Object(inner), Ok(()))
            }
            None => return Err(Stop::End),
        };
        if list.len() <= index {
            self.filled += index - list.len();
            if self.filled > MAX_FILLED {
                let reason = format!("lists would be filled up with more than {MAX_FILLED} empty elements");
                return Err(Stop::Wrong(reason));
            }
            list.resize(index + 1, Tree::Null);
        }
        list[index] = value;
        then
    }

    /// A value, and whether the expression ends where it should begin.
    fn value(&mut self) -> Outcome<(Tree, Outcome<()>)> {
        if self.values == As::Json {
            return Ok((self.json()?, Ok(())));
        }
        if self.rest.is_empty() {
            return Ok((Tree::String(String::new()), Err(Stop::End)));
        }
        if !self.rest.starts_with('{') {
            let (text, _) = self.until(&[',']);
            return Ok((self.typed(text), Ok(())));
        }
        self.next();
        let mut list = Vec::new();
        loop {
            let (text, last) = self.until(&[',', '}']);
            match last {
                None => return Err(Stop::Wrong("list must terminate with '}'".into())),
                Some('}') => {
                    // `{}` is a list with one empty string, as in Helm.
                    list.push(self.typed(text));
                    if self.rest.starts_with(',') {
                        self.next();
                    }
                    return Ok((Tree::Array(list), Ok(())));
                }
                Some(_) => list.push(self.typed(text)),
            }
        }
    }

    fn json(&mut self) -> Outcome<Tree> {
        if self.blank() {
            return Ok(Tree::Null);
        }
        let mut stream = serde_json::Deserializer::from_str(self.rest).into_iter::<Tree>();
        let value = match stream.next() {
            Some(Ok(value)) => value,
            Some(Err(e)) => return Err(Stop::Wrong(e.to_string())),
            None => return Err(Stop::Wrong("there is no JSON".into())),
        };
        self.rest = &self.rest[stream.byte_offset()..];
        self.blank();
        Ok(floats(value))
    }

    /// Takes blanks and a comma after them; whether nothing else stands before the next key.
    fn blank(&mut self) -> bool {
        self.rest = self.rest.trim_start();
        let comma = self.rest.starts_with(',');
        if comma {
            self.next();
        }
        comma || self.rest.is_empty()
    }

    fn typed(&self, text: String) -> Tree {
        if self.values == As::Text {
            return Tree::String(text);
        }
        match text.to_lowercase().as_str() {
            "true" => return Tree::Bool(true),
            "false" => return Tree::Bool(false),
            "null" => return Tree::Null,
            "0" => return Tree::from(0),
            _ => {}
        }
        match text.parse::<i64>() {
            Ok(i) if !text.starts_with('0') => Tree::from(i),
            _ => Tree::String(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(text: &str) -> Result<Tree, String> {
        let mut t = json!({});
        parse(text, &mut t, false).map(|()| t)
    }

    #[test]
    fn the_grammar_of_set() {
        for (text, want) in [
            ("a=1,b=true,c=x,d=null,e=", json!({"a":1,"b":true,"c":"x","d":null,"e":""})),
            ("a.b.c=1,a.b.d=2", json!({"a":{"b":{"c":1,"d":2}}})),
            ("a={x,2,y}", json!({"a":["x",2,"y"]})),
            ("a[1]=x", json!({"a":[null,"x"]})),
            ("a[0].b=1,a[0].c=2,a[1][0]=z", json!({"a":[{"b":1,"c":2},["z"]]})),
            ("a\\.b=x\\,y", json!({"a.b":"x,y"})),
            ("a=007,b=0", json!({"a":"007","b":0})),
            // At the end of an expression Helm takes what it has.
            ("a[0].b=", json!({"a":[]})),
            ("a[0].b=,c=1", json!({"a":[{"b":""}],"c":1})),
            ("a[0]", json!({"a":[]})),
            ("a[0", json!({})),
            ("a.", json!({})),
            ("a[0]=", json!({"a":[""]})),
            ("a={x}y=1,", json!({"a":["x"],"y":1})),
        ] {
            assert_eq!(set(text).unwrap(), want, "{text}");
        }
        for bad in [
            "a",
            "a,b=1",
            "a[x]=1",
            "a[-1]=1",
            "a={x",
            "a[70000]=1",
            "a=1,,b=2",
            ".=1",
            "a..b=1",
            "a=1,a.b=2",
        ] {
            assert!(set(bad).is_err(), "{bad}");
        }
        let many: Vec<String> = (0..20).map(|i| format!("a{i}[65536]=1")).collect();
        assert!(set(&many.join(",")).unwrap_err().contains("filled up"));
        let mut t = json!({"a":{"b":1}});
        parse_json("a.c=[1,{\"x\":2}]", &mut t).unwrap();
        assert_eq!(t, json!({"a":{"b":1,"c":[1.0,{"x":2.0}]}}));
        parse_json("b=1,c= ,d[1]={\"x\":[]} ,e=\"y\"", &mut t).unwrap();
        assert_eq!(
            (&t["b"], &t["c"], &t["d"], &t["e"]),
            (&json!(1.0), &json!(null), &json!([null, {"x":[]}]), &json!("y"))
        );
        for bad in ["b=1 x", "b={\"c\":1}{\"d\":2}", "b=nul", "b"] {
            assert!(parse_json(bad, &mut t).is_err(), "{bad}");
        }
        assign_literal("l\\.f", "x\\y", &mut t).unwrap();
        assert_eq!(t["l\\"]["f"], "x\\y");
        assign("k.f", "a,b=c\n", &mut t).unwrap();
        assert_eq!(t["k"]["f"], "a,b=c\n");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[a-c.,=\\[\\]{}0-9\\\\-]{0,40}") {
            let _ = set(&text);
        }
    }
}
