//! What the encoding of a type looks like, as a number: two builds that agree on it read each other's recordings.
//!
//! serde knows: a deserializer that is asked for every field of every variant writes down what it is asked for.

use super::call::{Output, What};
use super::file::Begin;
use crate::Connection;
use core::hash::Hasher;
use serde::Deserialize;
use serde::de::value::U32Deserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
    Visitor, value::Error,
};
use siphasher::sip::SipHasher13;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::OnceLock;

/// Of everything in a recording but the state of a live connection.
pub fn call_layout() -> u64 {
    static LAYOUT: OnceLock<u64> = OnceLock::new();
    *LAYOUT.get_or_init(|| {
        let mut all = describe::<(What, Output, Begin)>();
        let _ = write!(all, "{:?}", super::View::NAMES);
        hash(&all)
    })
}

/// Of a connection's state.
pub fn state_layout() -> u64 {
    static LAYOUT: OnceLock<u64> = OnceLock::new();
    *LAYOUT.get_or_init(|| hash(&describe::<Connection>()))
}

fn hash(text: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(text.as_bytes());
    hasher.finish()
}

/// Every type that occurs, with its parts.
#[derive(Default)]
struct Types {
    seen: BTreeMap<String, String>,
    /// Which variant of an enum is looked at next.
    next: BTreeMap<String, (u32, u32)>,
}

pub(super) fn describe<'de, T: Deserialize<'de>>() -> String {
    let mut types = Types::default();
    let mut root = String::new();
    // Each pass looks at one more variant of the enums it meets.
    for _ in 0..512 {
        root.clear();
        if let Err(error) = T::deserialize(Tracer { types: &mut types, out: &mut root }) {
            // Part of the layout: where the same type cannot be traced, it is not the same.
            let _ = write!(root, "!{error}");
        }
        if types.next.values().all(|(next, of)| next >= of) {
            break;
        }
    }
    for (name, parts) in &types.seen {
        let _ = write!(root, "\n{name} = {parts}");
    }
    root
}

struct Tracer<'a> {
    types: &'a mut Types,
    out: &'a mut String,
}

impl Tracer<'_> {
    /// Notes the parts of a type when they are known.
    fn note(&mut self, name: String, parts: String) {
        self.out.push_str(&name);
        self.types.seen.insert(name, parts);
    }
}

/// Values that a type will take for granted.
macro_rules! plain {
    ($($method:ident => $visit:ident($value:expr), $name:literal;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.out.push_str($name);
            visitor.$visit($value)
        })*
    };
}

impl<'de> Deserializer<'de> for Tracer<'_> {
    type Error = Error;

    plain! {
        deserialize_bool => visit_bool(false), "bool";
        deserialize_i8 => visit_i8(1), "i8";
        deserialize_i16 => visit_i16(1), "i16";
        deserialize_i32 => visit_i32(1), "i32";
        deserialize_i64 => visit_i64(1), "i64";
        deserialize_i128 => visit_i128(1), "i128";
        deserialize_u8 => visit_u8(1), "u8";
        deserialize_u16 => visit_u16(1), "u16";
        deserialize_u32 => visit_u32(1), "u32";
        deserialize_u64 => visit_u64(1), "u64";
        deserialize_u128 => visit_u128(1), "u128";
        deserialize_f32 => visit_f32(1.0), "f32";
        deserialize_f64 => visit_f64(1.0), "f64";
        deserialize_char => visit_char('a'), "char";
        // The only names in a connection are those of congestion controls.
        deserialize_str => visit_str(crate::cc::AVAILABLE[0]), "str";
        deserialize_string => visit_str(crate::cc::AVAILABLE[0]), "str";
        deserialize_bytes => visit_bytes(&[]), "bytes";
        deserialize_byte_buf => visit_bytes(&[]), "bytes";
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.out.push_str("()");
        visitor.visit_unit()
    }
    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("describes itself"))
    }
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.out.push('?');
        visitor.visit_some(self)
    }
    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.out.push_str(name);
        visitor.visit_unit()
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let mut parts = String::new();
        let value = visitor.visit_newtype_struct(Tracer { types: self.types, out: &mut parts });
        self.note(name.to_owned(), parts);
        value
    }
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.out.push_str("[]");
        visitor.visit_seq(Parts { types: self.types, out: self.out, left: 1, names: &[] })
    }
    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        let _ = write!(self.out, "({len}:");
        let value = visitor.visit_seq(Parts { types: self.types, out: self.out, left: len, names: &[] });
        self.out.push(')');
        value
    }
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let mut parts = String::new();
        let value = visitor.visit_seq(Parts { types: self.types, out: &mut parts, left: len, names: &[] });
        self.note(name.to_owned(), parts);
        value
    }
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.out.push_str("{}");
        visitor.visit_map(Parts { types: self.types, out: self.out, left: 1, names: &[] })
    }
    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let mut parts = String::new();
        let value = visitor.visit_seq(Parts { types: self.types, out: &mut parts, left: fields.len(), names: fields });
        // Two types may have the same name.
        self.note(format!("{name}{fields:?}"), parts);
        value
    }
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let full = format!("{name}{variants:?}");
        self.out.push_str(&full);
        let of = variants.len() as u32;
        let next = self.types.next.entry(full.clone()).or_insert((0, of));
        let index = next.0.min(of.saturating_sub(1));
        next.0 += 1;
        let mut parts = String::new();
        let value = visitor.visit_enum(Variant { types: self.types, out: &mut parts, index });
        self.types.seen.insert(format!("{full}::{index}"), parts);
        value
    }
}

struct Parts<'a> {
    types: &'a mut Types,
    out: &'a mut String,
    left: usize,
    names: &'static [&'static str],
}

impl Parts<'_> {
    fn tracer(&mut self) -> Tracer<'_> {
        self.left -= 1;
        match self.names.len().checked_sub(self.left + 1).and_then(|at| self.names.get(at)) {
            Some(name) => {
                let _ = write!(self.out, " {name}:");
            }
            None => self.out.push(' '),
        }
        Tracer { types: self.types, out: self.out }
    }
}

impl<'de> SeqAccess<'de> for Parts<'_> {
    type Error = Error;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        seed.deserialize(self.tracer()).map(Some)
    }
}

impl<'de> MapAccess<'de> for Parts<'_> {
    type Error = Error;
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        seed.deserialize(self.tracer()).map(Some)
    }
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(Tracer { types: self.types, out: self.out })
    }
}

struct Variant<'a> {
    types: &'a mut Types,
    out: &'a mut String,
    index: u32,
}

impl<'de, 'a> EnumAccess<'de> for Variant<'a> {
    type Error = Error;
    type Variant = Tracer<'a>;
    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Tracer<'a>), Error> {
        let index: U32Deserializer<Error> = self.index.into_deserializer();
        Ok((seed.deserialize(index)?, Tracer { types: self.types, out: self.out }))
    }
}

impl<'de> VariantAccess<'de> for Tracer<'_> {
    type Error = Error;
    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self)
    }
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_tuple(len, visitor)
    }
    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Parts { types: self.types, out: self.out, left: fields.len(), names: fields })
    }
}
