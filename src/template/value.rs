//! Go's values as minijinja values.
//!
//! | Go | here |
//! |---|---|
//! | nil | none |
//! | bool, string | the same |
//! | int64 | integer |
//! | int | integer that minijinja holds as unsigned, or as 128 bits if negative ([`int`]) |
//! | float64 | float |
//! | `[]byte` | bytes |
//! | `map[string]…` | [`Dict`]: shared and changed in place, iterated in key order as `text/template` does |
//! | slices | [`List`]: never changed in place, as no template function of Helm does |
//! | structs with methods | [`Record`] |
//!
//! Truth is minijinja's own: the objects here say "true" exactly where Go's `IsTrue` does.

mod unsigned;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use minijinja::value::{Enumerator, Object, ObjectRepr, Value, ValueKind};

use super::account::let_go;
use super::error::FnError;
use crate::yaml;

/// What a dict's entries are held in.
pub type Map = BTreeMap<Arc<str>, Value>;

/// A Go map with string keys.
#[derive(Debug)]
pub struct Dict {
    type_name: &'static str,
    map: Arc<RwLock<Map>>,
}

/// The type of `.Values`: Helm's `chartutil.Values`, which has methods.
pub const VALUES_TYPE: &str = "common.Values";

/// The type of maps that templates make and that YAML is read into.
pub const MAP_TYPE: &str = "map[string]interface {}";

impl Dict {
    /// A new map of the usual type.
    pub fn value(map: Map) -> Value {
        Self::typed(MAP_TYPE, map)
    }

    /// A new map that `typeOf` gives another name.
    pub fn typed(type_name: &'static str, map: Map) -> Value {
        Value::from_object(Self { type_name, map: Arc::new(RwLock::new(map)) })
    }

    /// The same map, known as one of another type.
    pub fn typed_as(&self, type_name: &'static str) -> Value {
        Value::from_object(Self { type_name, map: Arc::clone(&self.map) })
    }

    /// Go's name of the type.
    pub fn type_name(&self) -> &'static str {
        self.type_name
    }

    /// The entry under `key`.
    pub fn get(&self, key: &str) -> Option<Value> {
        self.map.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Whether there is an entry under `key`, be it null.
    pub fn has(&self, key: &str) -> bool {
        self.map.read().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }

    /// Sets an entry for everyone who holds this map; whether there was none.
    pub fn set(&self, key: &str, value: Value) -> bool {
        self.map.write().unwrap_or_else(PoisonError::into_inner).insert(key.into(), value).is_none()
    }

    /// Removes an entry for everyone who holds this map.
    pub fn unset(&self, key: &str) {
        self.map.write().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// The entries at this moment; the values are shared, not copied.
    pub fn entries(&self) -> Map {
        self.map.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets `f` see the entries, without a copy of them.
    pub(crate) fn read<T>(&self, f: impl FnOnce(&Map) -> T) -> T {
        f(&self.map.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes all values out, unless they are those of another map too.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Value> + use<> {
        let map = Arc::get_mut(&mut self.map).map(|m| m.get_mut().unwrap_or_else(PoisonError::into_inner));
        map.map(std::mem::take).unwrap_or_default().into_values()
    }

    /// Whether the entries are those of another map too.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.map) > 1
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.map.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Dict {
    fn drop(&mut self) {
        if self.read(|map| map.values().any(|v| v.as_object().is_some())) {
            let_go(self.take().collect());
        }
    }
}

impl Object for Dict {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get(key.as_str()?)
    }
    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.entries().keys().map(|k| Value::from(k.clone())).collect())
    }
    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.len())
    }
    fn is_true(self: &Arc<Self>) -> bool {
        !self.is_empty()
    }
}

/// A Go slice.
#[derive(Debug)]
pub struct List {
    /// Go's name of the slice type.
    pub type_name: &'static str,
    /// The elements.
    pub items: Vec<Value>,
}

impl List {
    /// A slice of `interface {}`.
    pub fn value(items: Vec<Value>) -> Value {
        Value::from_object(Self { type_name: "[]interface {}", items })
    }

    /// A slice of strings.
    pub fn strings<S: Into<Value>>(items: impl IntoIterator<Item = S>) -> Value {
        Value::from_object(Self { type_name: "[]string", items: items.into_iter().map(Into::into).collect() })
    }
}

impl Drop for List {
    fn drop(&mut self) {
        if self.items.iter().any(|v| v.as_object().is_some()) {
            let_go(std::mem::take(&mut self.items));
        }
    }
}

impl Object for List {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.items.get(key.as_usize()?).cloned()
    }
    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.items.len())
    }
    fn is_true(self: &Arc<Self>) -> bool {
        !self.items.is_empty()
    }
}

/// The type of `.Files`, a map in Go and thus false when it is empty.
pub const FILES_TYPE: &str = "engine.files";

/// The type of `.Capabilities.APIVersions`, the one slice with a method: `Has`.
pub const VERSION_SET: &str = "common.VersionSet";

/// The methods of a [`Record`].
pub type Methods = fn(&Record, &str, &[Value]) -> Option<Result<Value, FnError>>;

/// A Go struct: fixed fields, perhaps methods, always true.
pub struct Record {
    /// Go's name of the type.
    pub type_name: &'static str,
    /// The exported fields.
    pub fields: Map,
    /// What `{{ . }}` prints, for a type with a `String` method.
    pub text: Option<String>,
    /// The methods; a method gives none for a name that it does not know.
    pub methods: Methods,
}

impl Record {
    /// A struct without methods.
    pub fn plain(type_name: &'static str, fields: Map) -> Self {
        Self { type_name, fields, text: None, methods: |_, _, _| None }
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").field("type_name", &self.type_name).field("fields", &self.fields).finish()
    }
}

impl Object for Record {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.fields.get(key.as_str()?).cloned()
    }
    fn is_true(self: &Arc<Self>) -> bool {
        match self.fields.get(" n") {
            Some(number) => number.is_true(),
            None => self.type_name != FILES_TYPE || !self.fields.is_empty(),
        }
    }
}

/// A variable that is assigned to after its declaration.
#[derive(Debug)]
pub(crate) struct Cell(RwLock<Value>);

impl Cell {
    pub(crate) fn value(v: Value) -> Value {
        Value::from_object(Self(RwLock::new(v)))
    }
    pub(crate) fn get(&self) -> Value {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
    pub(crate) fn set(&self, v: Value) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = v;
    }
}

impl Object for Cell {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

/// Nil.
pub fn nil() -> Value {
    Value::from(())
}

/// Whether `v` is nil.
pub fn is_nil(v: &Value) -> bool {
    v.is_none() || v.is_undefined()
}

/// The map that `v` is.
pub fn as_dict(v: &Value) -> Option<&Dict> {
    v.downcast_object_ref()
}

/// The slice that `v` is.
pub fn as_list(v: &Value) -> Option<&List> {
    v.downcast_object_ref()
}

/// An integer, unless `v` is another kind. A `time.Duration` and a `time.Month` are integers too.
pub fn as_int(v: &Value) -> Option<i64> {
    match v.kind() {
        ValueKind::Number if v.is_integer() => v.as_i64(),
        ValueKind::Plain => as_int(v.downcast_object_ref::<Record>()?.fields.get(" n")?),
        _ => None,
    }
}

/// A Go `int`, which `typeOf` tells from the `int64` that `--set` and Sprig's arithmetic give: minijinja holds it as
/// unsigned, or in 128 bits where it is negative.
pub fn int(i: i64) -> Value {
    u64::try_from(i).map_or_else(|_| Value::from(i128::from(i)), Value::from)
}

/// A Go `int64`.
pub fn int64(i: i64) -> Value {
    Value::from(i)
}

/// Go's name of the type of durations.
pub const DURATION: &str = "time.Duration";

/// A float, unless `v` is another kind.
pub fn as_float(v: &Value) -> Option<f64> {
    if v.kind() == ValueKind::Number && !v.is_integer() { f64::try_from(v.clone()).ok() } else { None }
}

/// A boolean, unless `v` is another kind.
pub fn as_bool(v: &Value) -> Option<bool> {
    if v.kind() == ValueKind::Bool { Some(v.is_true()) } else { None }
}

/// Go's name of the type of `v`, as `%T` and `typeOf` print it.
pub fn type_name(v: &Value) -> &'static str {
    if let Some(d) = as_dict(v) {
        return d.type_name;
    }
    if let Some(l) = as_list(v) {
        return l.type_name;
    }
    if let Some(r) = v.downcast_object_ref::<Record>() {
        return r.type_name;
    }
    match v.kind() {
        ValueKind::Bool => "bool",
        ValueKind::String => "string",
        ValueKind::Bytes => "[]uint8",
        ValueKind::Number if v.is_integer() => {
            if unsigned::is(v) {
                "int"
            } else {
                "int64"
            }
        }
        ValueKind::Number => "float64",
        _ => "<nil>",
    }
}

/// The entries of `.Files`, which is a map of byte slices in Go.
pub(crate) fn as_files(v: &Value) -> Option<&Map> {
    v.downcast_object_ref::<Record>().filter(|r| r.type_name == FILES_TYPE).map(|r| &r.fields)
}

/// Go's name of the kind of `v`, as `kindOf` prints it.
pub fn kind_name(v: &Value) -> &'static str {
    if as_dict(v).is_some() {
        return "map";
    }
    if as_list(v).is_some() || v.kind() == ValueKind::Bytes {
        return "slice";
    }
    if let Some(r) = v.downcast_object_ref::<Record>() {
        if r.type_name == FILES_TYPE {
            return "map";
        }
        if r.fields.contains_key(" n") {
            return if r.type_name == DURATION { "int64" } else { "int" };
        }
        return if r.type_name.starts_with('*') { "ptr" } else { "struct" };
    }
    match type_name(v) {
        "<nil>" => "invalid",
        other => other,
    }
}

/// A parsed YAML value; numbers become floats as they do when Go reads JSON into `interface {}`.
pub fn from_yaml(node: &yaml::Node) -> Value {
    #[allow(clippy::cast_precision_loss)]
    match &node.value {
        yaml::Value::Null => nil(),
        yaml::Value::Bool(b) => Value::from(*b),
        yaml::Value::Int(i) => Value::from(*i as f64),
        yaml::Value::UInt(u) => Value::from(*u as f64),
        yaml::Value::Float(f) => Value::from(*f),
        yaml::Value::Str(s) => Value::from(s.as_str()),
        yaml::Value::Seq(items) => List::value(items.iter().map(from_yaml).collect()),
        yaml::Value::Map(m) => {
            Dict::value(m.iter().map(|(k, v)| (Arc::from(k.as_str()), from_yaml(v))).collect())
        }
    }
}

/// A parsed JSON value; numbers become floats as in Go.
pub fn from_json(v: &serde_json::Value) -> Value {
    use serde_json::Value as J;
    match v {
        J::Null => nil(),
        J::Bool(b) => Value::from(*b),
        J::Number(n) => Value::from(n.as_f64().unwrap_or(f64::NAN)),
        J::String(s) => Value::from(s.as_str()),
        J::Array(items) => List::value(items.iter().map(from_json).collect()),
        J::Object(m) => Dict::value(m.iter().map(|(k, v)| (Arc::from(k.as_str()), from_json(v))).collect()),
    }
}

/// Deeper values than this are refused by everything that walks a value: `set` can make a map contain itself.
pub const MAX_VALUE_DEPTH: usize = 200;

/// A copy that shares nothing with `v` (sprig `deepCopy`).
///
/// # Errors
///
/// If the value is nested without end.
pub fn deep_copy(v: &Value, depth: usize) -> Result<Value, FnError> {
    if depth > MAX_VALUE_DEPTH {
        return Err(FnError::text(format!("value is nested deeper than {MAX_VALUE_DEPTH} levels")));
    }
    if let Some(d) = as_dict(v) {
        let copy = d.entries().into_iter().map(|(k, v)| Ok((k, deep_copy(&v, depth + 1)?)));
        return Ok(Dict::typed(d.type_name, copy.collect::<Result<_, FnError>>()?));
    }
    if let Some(l) = as_list(v) {
        let items = l.items.iter().map(|v| deep_copy(v, depth + 1)).collect::<Result<_, _>>()?;
        return Ok(Value::from_object(List { type_name: l.type_name, items }));
    }
    Ok(v.clone())
}

/// Whether two values are the same type and content (`reflect.DeepEqual`).
pub fn deep_equal(a: &Value, b: &Value, depth: usize) -> bool {
    if depth > MAX_VALUE_DEPTH {
        return false;
    }
    match (as_dict(a), as_dict(b)) {
        (Some(x), Some(y)) => {
            let (x, y) = (x.entries(), y.entries());
            return x.len() == y.len()
                && x.iter().all(|(k, v)| y.get(k).is_some_and(|w| deep_equal(v, w, depth + 1)));
        }
        (None, None) => {}
        _ => return false,
    }
    match (as_list(a), as_list(b)) {
        (Some(x), Some(y)) => {
            return x.type_name == y.type_name
                && x.items.len() == y.items.len()
                && x.items.iter().zip(&y.items).all(|(v, w)| deep_equal(v, w, depth + 1));
        }
        (None, None) => {}
        _ => return false,
    }
    match (as_int(a), as_int(b), as_float(a), as_float(b)) {
        (Some(x), Some(y), ..) => x == y,
        (.., Some(x), Some(y)) => x == y,
        (None, None, None, None) => a == b,
        _ => false,
    }
}

/// A slice of ints as Go's `until` and `untilStep` make.
pub(crate) fn int_list(items: impl IntoIterator<Item = i64>) -> Value {
    Value::from_object(List { type_name: "[]int", items: items.into_iter().map(int).collect() })
}

/// An empty map, shared with nobody.
pub(crate) fn empty_dict() -> Value {
    Dict::value(Map::new())
}
