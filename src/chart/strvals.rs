//! The grammar of `--set`: `a.b=c,list={x,y},servers[0].port=80`, with `\` before a character that is meant itself.

use serde_json::Map;

use super::values::Tree;

/// Helm's bounds.
const MAX_INDEX: usize = 65_536;
const MAX_NESTED: usize = 30;
/// Elements that one expression may fill lists up with, up to the indices that it names.
const MAX_FILLED: usize = 1 << 20;

type Table = Map<String, Tree>;

struct Parser<'a> {
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    strings: bool,
    filled: usize,
}

/// Applies a `--set` expression; with `strings`, that of `--set-string`.
///
/// # Errors
///
/// With what is wrong in Helm's words.
pub(crate) fn parse(text: &str, dest: &mut Tree, strings: bool) -> Result<(), String> {
    let mut p = Parser { chars: text.chars().peekable(), strings, filled: 0 };
    let Tree::Object(table) = dest else { return Err("values are not a mapping".into()) };
    while p.chars.peek().is_some() {
        p.key(table, 0)?;
    }
    Ok(())
}

/// Applies `key=json` or a whole JSON object.
pub(crate) fn parse_json(text: &str, dest: &mut Tree) -> Result<(), String> {
    if text.trim_start().starts_with('{') {
        let tree = serde_json::from_str(text).map_err(|e| e.to_string())?;
        super::values::overlay(dest, floats(tree));
        return Ok(());
    }
    let (key, value) = text.split_once('=').ok_or_else(|| format!("key {text:?} has no value"))?;
    let value = if value.trim().is_empty() {
        Tree::Null
    } else {
        serde_json::from_str(value).map_err(|e| format!("{e}; give one --set-json for each key"))?
    };
    place(key, floats(value), dest)
}

/// Sets `key` to a text that is taken as it stands.
pub(crate) fn assign(key: &str, value: &str, dest: &mut Tree) -> Result<(), String> {
    place(key, Tree::String(value.to_owned()), dest)
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

impl Parser<'_> {
    /// Text up to one of `stop`, and which one that was; none at the end.
    fn until(&mut self, stop: &[char]) -> (String, Option<char>) {
        let mut out = String::new();
        while let Some(c) = self.chars.next() {
            if stop.contains(&c) {
                return (out, Some(c));
            }
            match c {
                '\\' => out.extend(self.chars.next()),
                c => out.push(c),
            }
        }
        (out, None)
    }

    fn key(&mut self, table: &mut Table, depth: usize) -> Result<(), String> {
        let (key, last) = self.until(&['=', '[', ',', '.']);
        let mut set = |value: Tree| {
            if !key.is_empty() {
                table.insert(key.clone(), value);
            }
        };
        match last {
            None if key.is_empty() => Ok(()),
            None => Err(format!("key {key:?} has no value")),
            Some(',') => {
                set(Tree::String(String::new()));
                Err(format!("key {key:?} has no value (cannot end with ,)"))
            }
            Some('=') => {
                let value = self.value()?;
                set(value);
                Ok(())
            }
            Some('[') => {
                let index = self.index()?;
                let mut list = match table.get(&key) {
                    None | Some(Tree::Null) => Vec::new(),
                    Some(Tree::Array(a)) => a.clone(),
                    Some(_) => return Err(format!("unable to parse key: {key:?} is not a list")),
                };
                self.item(&mut list, index, depth)?;
                if !key.is_empty() {
                    table.insert(key, Tree::Array(list));
                }
                Ok(())
            }
            Some(_) => {
                if depth >= MAX_NESTED {
                    return Err(format!(
                        "value name nested level is greater than maximum supported nested level of {MAX_NESTED}"
                    ));
                }
                let mut inner = match table.get(&key) {
                    None => Map::new(),
                    Some(Tree::Object(m)) => m.clone(),
                    Some(_) => return Err(format!("unable to parse key: {key:?} is not a mapping")),
                };
                self.key(&mut inner, depth + 1)?;
                if inner.is_empty() {
                    return Err(format!("key map {key:?} has no value"));
                }
                if !key.is_empty() {
                    table.insert(key, Tree::Object(inner));
                }
                Ok(())
            }
        }
    }

    fn index(&mut self) -> Result<usize, String> {
        let (text, last) = self.until(&[']']);
        if last.is_none() {
            return Err("error parsing index: EOF".into());
        }
        if text.starts_with('-') {
            return Err(format!("negative {text} index not allowed"));
        }
        let index: usize = text.parse().map_err(|_| format!("error parsing index: {text:?} is no number"))?;
        if index > MAX_INDEX {
            return Err(format!("index of {index} is greater than maximum supported index of {MAX_INDEX}"));
        }
        Ok(index)
    }

    fn item(&mut self, list: &mut Vec<Tree>, index: usize, depth: usize) -> Result<(), String> {
        let (rest, last) = self.until(&['[', '.', '=']);
        if !rest.is_empty() {
            return Err(format!("unexpected data at end of array index: {rest:?}"));
        }
        if depth >= MAX_NESTED {
            return Err(format!("lists are nested deeper than {MAX_NESTED} levels"));
        }
        let old = list.get(index).cloned();
        let value = match last {
            Some('=') => self.value()?,
            Some('[') => {
                let next = self.index()?;
                let mut inner = match old {
                    Some(Tree::Array(a)) => a,
                    _ => Vec::new(),
                };
                self.item(&mut inner, next, depth + 1)?;
                Tree::Array(inner)
            }
            Some(_) => {
                let mut inner = match old {
                    Some(Tree::Object(m)) => m,
                    _ => Map::new(),
                };
                self.key(&mut inner, depth + 1)?;
                Tree::Object(inner)
            }
            None => return Err("unexpected end after array index".into()),
        };
        if list.len() <= index {
            self.filled += index - list.len();
            if self.filled > MAX_FILLED {
                return Err(format!("lists would be filled up with more than {MAX_FILLED} empty elements"));
            }
            list.resize(index + 1, Tree::Null);
        }
        list[index] = value;
        Ok(())
    }

    fn value(&mut self) -> Result<Tree, String> {
        if self.chars.peek() != Some(&'{') {
            let (text, _) = self.until(&[',']);
            return Ok(self.typed(text));
        }
        self.chars.next();
        let mut list = Vec::new();
        loop {
            let (text, last) = self.until(&[',', '}']);
            match last {
                None => return Err("list must terminate with '}'".into()),
                Some('}') => {
                    // `{}` is a list with one empty string, as in Helm.
                    list.push(self.typed(text));
                    if self.chars.peek() == Some(&',') {
                        self.chars.next();
                    }
                    return Ok(Tree::Array(list));
                }
                Some(_) => list.push(self.typed(text)),
            }
        }
    }

    fn typed(&self, text: String) -> Tree {
        if self.strings {
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
        ] {
            assert_eq!(set(text).unwrap(), want, "{text}");
        }
        for bad in ["a", "a,b=1", "a[x]=1", "a[-1]=1", "a={x", "a[70000]=1"] {
            assert!(set(bad).is_err(), "{bad}");
        }
        let many: Vec<String> = (0..20).map(|i| format!("a{i}[65536]=1")).collect();
        assert!(set(&many.join(",")).unwrap_err().contains("filled up"));
        let mut t = json!({"a":{"b":1}});
        parse_json("a.c=[1,{\"x\":2}]", &mut t).unwrap();
        assert_eq!(t, json!({"a":{"b":1,"c":[1.0,{"x":2.0}]}}));
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
