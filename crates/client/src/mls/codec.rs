//! The serde format of everything openmls stores.
//!
//! Compact and positional: no field names, no type marks, integers as LEB128, so equal on every machine. The usual
//! formats of that kind (postcard, bincode) cannot be used, because openmls and tls_codec read two kinds of value
//! with `deserialize_any`: byte strings and `u64`. Those two therefore carry one bit that tells them apart, in the
//! first byte of their length or value; everything else is as bare as it can be.
//!
//! | serde type | bytes |
//! |---|---|
//! | `bool`, `u8`, `i8`, option mark | one byte |
//! | `u16`, `u32`, variant index, count of a sequence or map | LEB128 |
//! | signed integers | zigzag, LEB128 |
//! | `u64` | first byte: bit 7 *more follows*, bits 1-6 the lowest bits, bit 0 set; then LEB128 |
//! | bytes, string | length like a `u64` but with bit 0 clear; then the bytes |
//! | struct, tuple, newtype, unit | the members, nothing else |
//!
//! Values are read back by the same version of openmls that wrote them, or not at all: the engine stores a schema
//! number beside them.

use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};
use serde::{Deserialize, Serialize, ser};
use thiserror::Error;
use zeroize::Zeroizing;

/// Encodes `value`.
pub(crate) fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Zeroizing<Vec<u8>>, CodecError> {
    let mut encoder = Encoder { out: Zeroizing::new(Vec::with_capacity(INITIAL_CAPACITY)) };
    value.serialize(&mut encoder)?;
    Ok(encoder.out)
}

/// Decodes exactly one value from `bytes`.
pub(crate) fn from_slice<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, CodecError> {
    let mut decoder = Decoder { rest: bytes };
    let value = T::deserialize(&mut decoder)?;
    match decoder.rest.is_empty() {
        true => Ok(value),
        false => Err(CodecError::Malformed),
    }
}

/// Decodes values from `bytes` until none are left: a list is its members one after the other, so that a member is
/// appended without reading the others.
pub(crate) fn list_from_slice<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<Vec<T>, CodecError> {
    let mut decoder = Decoder { rest: bytes };
    let mut list = Vec::new();
    while !decoder.rest.is_empty() {
        let before = decoder.rest.len();
        list.push(T::deserialize(&mut decoder)?);
        if decoder.rest.len() == before {
            return Err(CodecError::Malformed);
        }
    }
    Ok(list)
}

/// Appends `value` as LEB128.
pub(crate) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a LEB128 number off the front of `bytes`.
pub(crate) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if (bits << shift) >> shift != bits {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Why a value could not be encoded or decoded.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum CodecError {
    /// The bytes end early, go on too long or name something that does not exist.
    #[error("a stored MLS value is malformed")]
    Malformed,
    /// The type's own (de)serialisation refused.
    #[error("an MLS value does not fit its type")]
    Refused,
    /// The format has no notation for this type.
    #[error("an MLS value has a type this format lacks")]
    Unsupported,
}

impl ser::Error for CodecError {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self::Refused
    }
}

impl de::Error for CodecError {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self::Refused
    }
}

struct Encoder {
    out: Zeroizing<Vec<u8>>,
}

impl Encoder {
    fn varint(&mut self, value: u64) {
        put_varint(value, &mut self.out);
    }

    fn marked(&mut self, value: u64, mark: u8) {
        let first = ((value as u8 & 0x3f) << 1) | mark;
        match value >> 6 {
            0 => self.out.push(first),
            more => {
                self.out.push(first | 0x80);
                self.varint(more);
            }
        }
    }

    fn count(&mut self, len: Option<usize>) -> Result<(), CodecError> {
        self.varint(len.ok_or(CodecError::Unsupported)? as u64);
        Ok(())
    }
}

impl<'a> ser::Serializer for &'a mut Encoder {
    type Ok = ();
    type Error = CodecError;
    type SerializeSeq = &'a mut Encoder;
    type SerializeTuple = &'a mut Encoder;
    type SerializeTupleStruct = &'a mut Encoder;
    type SerializeTupleVariant = &'a mut Encoder;
    type SerializeMap = &'a mut Encoder;
    type SerializeStruct = &'a mut Encoder;
    type SerializeStructVariant = &'a mut Encoder;

    fn serialize_bool(self, v: bool) -> Result<(), CodecError> {
        self.serialize_u8(v.into())
    }

    fn serialize_i8(self, v: i8) -> Result<(), CodecError> {
        self.serialize_u8(v as u8)
    }

    fn serialize_i16(self, v: i16) -> Result<(), CodecError> {
        self.serialize_i64(v.into())
    }

    fn serialize_i32(self, v: i32) -> Result<(), CodecError> {
        self.serialize_i64(v.into())
    }

    fn serialize_i64(self, v: i64) -> Result<(), CodecError> {
        self.varint(((v << 1) ^ (v >> 63)) as u64);
        Ok(())
    }

    fn serialize_u8(self, v: u8) -> Result<(), CodecError> {
        self.out.push(v);
        Ok(())
    }

    fn serialize_u16(self, v: u16) -> Result<(), CodecError> {
        self.serialize_u32(v.into())
    }

    fn serialize_u32(self, v: u32) -> Result<(), CodecError> {
        self.varint(v.into());
        Ok(())
    }

    fn serialize_u64(self, v: u64) -> Result<(), CodecError> {
        self.marked(v, MARK_U64);
        Ok(())
    }

    fn serialize_f32(self, _: f32) -> Result<(), CodecError> {
        Err(CodecError::Unsupported)
    }

    fn serialize_f64(self, _: f64) -> Result<(), CodecError> {
        Err(CodecError::Unsupported)
    }

    fn serialize_char(self, _: char) -> Result<(), CodecError> {
        Err(CodecError::Unsupported)
    }

    fn serialize_str(self, v: &str) -> Result<(), CodecError> {
        self.serialize_bytes(v.as_bytes())
    }

    fn serialize_bytes(self, v: &[u8]) -> Result<(), CodecError> {
        self.marked(v.len() as u64, MARK_BYTES);
        self.out.extend_from_slice(v);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), CodecError> {
        self.serialize_u8(0)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), CodecError> {
        self.out.push(1);
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), CodecError> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), CodecError> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, index: u32, _: &'static str) -> Result<(), CodecError> {
        self.serialize_u32(index)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), CodecError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), CodecError> {
        self.varint(index.into());
        value.serialize(self)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self, CodecError> {
        self.count(len)?;
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, CodecError> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, CodecError> {
        Ok(self)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, CodecError> {
        self.varint(index.into());
        Ok(self)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self, CodecError> {
        self.count(len)?;
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, CodecError> {
        Ok(self)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, CodecError> {
        self.varint(index.into());
        Ok(self)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Members of compound values follow each other without separators, so all the compound serialisers are one.
macro_rules! compound {
    ($($trait:ident $method:ident $($key:ident)?;)*) => {$(
        impl ser::$trait for &mut Encoder {
            type Ok = ();
            type Error = CodecError;

            fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($key: &'static str,)?
                value: &T,
            ) -> Result<(), CodecError> {
                $(let _ = $key;)?
                value.serialize(&mut **self)
            }

            fn end(self) -> Result<(), CodecError> {
                Ok(())
            }
        }
    )*};
}

compound! {
    SerializeSeq serialize_element;
    SerializeTuple serialize_element;
    SerializeTupleStruct serialize_field;
    SerializeTupleVariant serialize_field;
    SerializeStruct serialize_field key;
    SerializeStructVariant serialize_field key;
}

impl ser::SerializeMap for &mut Encoder {
    type Ok = ();
    type Error = CodecError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), CodecError> {
        key.serialize(&mut **self)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodecError> {
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), CodecError> {
        Ok(())
    }
}

struct Decoder<'de> {
    rest: &'de [u8],
}

impl<'de> Decoder<'de> {
    fn byte(&mut self) -> Result<u8, CodecError> {
        let (first, rest) = self.rest.split_first().ok_or(CodecError::Malformed)?;
        self.rest = rest;
        Ok(*first)
    }

    fn varint(&mut self) -> Result<u64, CodecError> {
        take_varint(&mut self.rest).ok_or(CodecError::Malformed)
    }

    fn unsigned<T: TryFrom<u64>>(&mut self) -> Result<T, CodecError> {
        self.varint()?.try_into().map_err(|_| CodecError::Malformed)
    }

    fn signed<T: TryFrom<i64>>(&mut self) -> Result<T, CodecError> {
        let zigzag = self.varint()?;
        let value = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        value.try_into().map_err(|_| CodecError::Malformed)
    }

    fn marked(&mut self) -> Result<(u64, u8), CodecError> {
        let first = self.byte()?;
        let low = u64::from(first >> 1 & 0x3f);
        let high = match first & 0x80 {
            0 => 0,
            _ => self.varint()?,
        };
        match high >> (u64::BITS - 6) {
            0 => Ok((high << 6 | low, first & 1)),
            _ => Err(CodecError::Malformed),
        }
    }

    fn with_mark(&mut self, mark: u8) -> Result<u64, CodecError> {
        match self.marked()? {
            (value, found) if found == mark => Ok(value),
            _ => Err(CodecError::Malformed),
        }
    }

    fn take(&mut self, len: u64) -> Result<&'de [u8], CodecError> {
        let len = usize::try_from(len).map_err(|_| CodecError::Malformed)?;
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(CodecError::Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn bytes(&mut self) -> Result<&'de [u8], CodecError> {
        let len = self.with_mark(MARK_BYTES)?;
        self.take(len)
    }

    fn flag(&mut self) -> Result<bool, CodecError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(CodecError::Malformed),
        }
    }
}

impl<'de> de::Deserializer<'de> for &mut Decoder<'de> {
    type Error = CodecError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        match self.marked()? {
            (value, MARK_U64) => visitor.visit_u64(value),
            (len, _) => visitor.visit_borrowed_bytes(self.take(len)?),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        visitor.visit_bool(self.flag()?)
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        visitor.visit_i8(self.byte()? as i8)
    }

    fn deserialize_i16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        visitor.visit_i16(self.signed()?)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        visitor.visit_i32(self.signed()?)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        visitor.visit_i64(self.signed()?)
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        visitor.visit_u8(self.byte()?)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        visitor.visit_u16(self.unsigned()?)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        visitor.visit_u32(self.unsigned()?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        visitor.visit_u64(self.with_mark(MARK_U64)?)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, _: V) -> Result<V::Value, CodecError> {
        Err(CodecError::Unsupported)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, _: V) -> Result<V::Value, CodecError> {
        Err(CodecError::Unsupported)
    }

    fn deserialize_char<V: Visitor<'de>>(self, _: V) -> Result<V::Value, CodecError> {
        Err(CodecError::Unsupported)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        let text = std::str::from_utf8(self.bytes()?).map_err(|_| CodecError::Malformed)?;
        visitor.visit_borrowed_str(text)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        visitor.visit_borrowed_bytes(self.bytes()?)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        match self.flag()? {
            false => visitor.visit_none(),
            true => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        let left = self.unsigned()?;
        visitor.visit_seq(Members { decoder: self, left })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, CodecError> {
        visitor.visit_seq(Members { decoder: self, left: len })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        let left = self.unsigned()?;
        visitor.visit_map(Members { decoder: self, left })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        visitor.visit_enum(self)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        self.deserialize_u32(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, CodecError> {
        Err(CodecError::Unsupported)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

struct Members<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    left: usize,
}

impl Members<'_, '_> {
    fn advance(&mut self) -> bool {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

impl<'de> de::SeqAccess<'de> for Members<'_, 'de> {
    type Error = CodecError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, CodecError> {
        match self.advance() {
            true => seed.deserialize(&mut *self.decoder).map(Some),
            false => Ok(None),
        }
    }

    // A count read from storage reserves no more memory than the bytes that are there.
    fn size_hint(&self) -> Option<usize> {
        Some(self.left.min(self.decoder.rest.len()))
    }
}

impl<'de> de::MapAccess<'de> for Members<'_, 'de> {
    type Error = CodecError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, CodecError> {
        de::SeqAccess::next_element_seed(self, seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, CodecError> {
        seed.deserialize(&mut *self.decoder)
    }

    fn size_hint(&self) -> Option<usize> {
        de::SeqAccess::size_hint(self)
    }
}

impl<'de> de::EnumAccess<'de> for &mut Decoder<'de> {
    type Error = CodecError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), CodecError> {
        let index: u32 = self.unsigned()?;
        Ok((seed.deserialize(IntoDeserializer::<CodecError>::into_deserializer(index))?, self))
    }
}

impl<'de> de::VariantAccess<'de> for &mut Decoder<'de> {
    type Error = CodecError;

    fn unit_variant(self) -> Result<(), CodecError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, CodecError> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, CodecError> {
        de::Deserializer::deserialize_tuple(self, len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        de::Deserializer::deserialize_tuple(self, fields.len(), visitor)
    }
}

const MARK_BYTES: u8 = 0;
const MARK_U64: u8 = 1;
const INITIAL_CAPACITY: usize = 512;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Debug;

    use proptest::prelude::*;
    use tls_codec::VLByteVec;

    use super::*;

    #[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
    enum Shape {
        Empty,
        Bytes(VLByteVec),
        Pair(u8, Option<i32>),
        Record { wide: u64, name: String, list: Vec<u8> },
    }

    fn round_trip<T: Serialize + for<'de> Deserialize<'de> + PartialEq + Debug>(value: &T) -> Vec<u8> {
        let bytes = to_vec(value).unwrap();
        assert_eq!(&from_slice::<T>(&bytes).unwrap(), value);
        for end in 0..bytes.len() {
            assert!(from_slice::<T>(&bytes[..end]).is_err(), "cut at {end}");
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert_eq!(from_slice::<T>(&longer), Err(CodecError::Malformed));
        bytes.to_vec()
    }

    #[test]
    fn layout_is_fixed() {
        assert_eq!(round_trip(&300u32), [0xac, 0x02]);
        assert_eq!(round_trip(&5u64), [0x0b]);
        assert_eq!(round_trip(&64u64), [0x81, 0x01]);
        assert_eq!(round_trip(&VLByteVec::new(vec![7, 8])), [0x04, 7, 8]);
        assert_eq!(round_trip(&vec![7u8, 200]), [2, 7, 200]);
        assert_eq!(round_trip(&Shape::Pair(9, Some(-1))), [2, 9, 1, 1]);
        assert_eq!(round_trip(&(true, u64::MAX, i64::MIN, u16::MAX)).len(), 1 + 10 + 10 + 3);
        round_trip(&BTreeMap::from([(1u32, Shape::Empty), (2, Shape::Bytes(vec![0; 100].into()))]));
    }

    #[test]
    fn overlong_numbers_are_refused() {
        assert!(from_slice::<u32>(&[0xff, 0xff, 0xff, 0xff, 0x1f]).is_err());
        assert!(from_slice::<u64>(&[0xff; 11]).is_err());
        assert!(from_slice::<VLByteVec>(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
    }

    proptest! {
        #[test]
        fn any_value_survives(wide: u64, name: String, list: Vec<u8>, small: u8, maybe: Option<i32>) {
            let bytes = Shape::Bytes(list.clone().into());
            round_trip(&vec![Shape::Record { wide, name, list }, Shape::Pair(small, maybe), Shape::Empty, bytes]);
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let _ = from_slice::<Vec<Shape>>(&bytes);
        }
    }
}
