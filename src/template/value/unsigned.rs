//! How minijinja holds an integer, which only serialization tells.

use minijinja::value::Value;
use serde::Serialize;
use serde::de::value::Error;
use serde::ser::{Impossible, Serializer};

struct Probe;

pub(super) fn is(v: &Value) -> bool {
    v.serialize(Probe).unwrap_or(false)
}

macro_rules! no {
    ($($name:ident($($arg:ty),*) $(-> $out:ty)?;)*) => {
        $(fn $name(self, $(_: $arg),*) -> Result<no!(@ $($out)?), Error> { Err(serde::ser::Error::custom("")) })*
    };
    (@) => { bool };
    (@ $out:ty) => { $out };
}

impl Serializer for Probe {
    type Ok = bool;
    type Error = Error;
    type SerializeSeq = Impossible<bool, Error>;
    type SerializeTuple = Impossible<bool, Error>;
    type SerializeTupleStruct = Impossible<bool, Error>;
    type SerializeTupleVariant = Impossible<bool, Error>;
    type SerializeMap = Impossible<bool, Error>;
    type SerializeStruct = Impossible<bool, Error>;
    type SerializeStructVariant = Impossible<bool, Error>;

    fn serialize_u64(self, _: u64) -> Result<bool, Error> {
        Ok(true)
    }
    fn serialize_i128(self, _: i128) -> Result<bool, Error> {
        Ok(true)
    }
    fn serialize_some<T: ?Sized + Serialize>(self, _: &T) -> Result<bool, Error> {
        Ok(false)
    }
    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, _: &'static str, _: &T) -> Result<bool, Error> {
        Ok(false)
    }
    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<bool, Error> {
        Ok(false)
    }
    no! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_f32(f32);
        serialize_f64(f64);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(&'static str);
        serialize_unit_variant(&'static str, u32, &'static str);
        serialize_seq(Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct(&'static str, usize) -> Self::SerializeStruct;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }
}
