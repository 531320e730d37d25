//! The encoding: protobuf's wire format with every length and count bounded.
//!
//! Messages are declared with [`message!`] and [`oneof!`] (relay and client also declare the records they store
//! that way); `qpc.proto` beside the sources is the same schema in
//! protobuf's language, and `tests/schema.rs` holds the two together. A reader skips fields it does not know,
//! so a newer peer may add fields (never change or reuse them).
//!
//! Differences from a general protobuf reader, all towards strictness: a bounded field that is too long or a list
//! with too many items is an error before anything is allocated, a field without which the message has no meaning
//! must be present, and a nested message that appears twice replaces the first instead of being merged into it.

use std::fmt;

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside a field.
    #[error("message is truncated")]
    Truncated,
    /// A varint is longer than ten bytes, or a tag or wire type is not valid.
    #[error("message is not well-formed")]
    Malformed,
    /// The field has another wire type than the schema's.
    #[error("field {0} has the wrong wire type")]
    WireType(u32),
    /// A length, count or number is over its limit.
    #[error("field {0} is over its limit")]
    Limit(u32),
    /// The value is none the field may have.
    #[error("field {0} has an invalid value")]
    Invalid(u32),
    /// A field that must be there is not.
    #[error("field {0} is missing")]
    Missing(u32),
}

/// The raw value of one field, borrowed from the input.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 2.
    Bytes(&'a [u8]),
    /// Wire types 1 and 5, which this protocol does not use but must be able to skip.
    Fixed,
}

/// Splits a message into its fields.
#[derive(Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Over the bytes of one message.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next field's number and value.
    pub fn next_field(&mut self) -> Result<Option<(u32, Value<'a>)>, DecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = u32::try_from(self.varint()?).map_err(|_| DecodeError::Malformed)?;
        let number = tag >> 3;
        if number == 0 {
            return Err(DecodeError::Malformed);
        }
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => {
                self.take(8)?;
                Value::Fixed
            }
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| DecodeError::Truncated)?;
                Value::Bytes(self.take(len)?)
            }
            5 => {
                self.take(4)?;
                Value::Fixed
            }
            _ => return Err(DecodeError::Malformed),
        };
        Ok(Some((number, value)))
    }

    fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(DecodeError::Truncated)?;
            self.rest = rest;
            if shift == 63 && byte > 1 {
                return Err(DecodeError::Malformed);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Malformed)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

/// A message of the protocol.
pub trait Message: Sized {
    /// Appends the encoding to `out`.
    fn encode_into(&self, out: &mut Vec<u8>);

    /// Reads a whole message. Unknown fields are skipped.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;

    /// The encoding as bytes of its own.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(ROOM);
        self.encode_into(&mut out);
        out
    }
}

/// A type that can stand in a message.
pub trait Field: Sized {
    /// What a message has where the field is absent; `None` if it must be present.
    fn absent() -> Option<Self>;

    /// Appends tag and value, or nothing where the value is what [`Field::absent`] gives.
    fn put(&self, number: u32, out: &mut Vec<u8>);

    /// As [`Field::put`], but never nothing: an item of a list counts, whatever its value.
    fn put_item(&self, number: u32, out: &mut Vec<u8>) {
        self.put(number, out);
    }

    /// Reads one occurrence. `slot` is what earlier occurrences left.
    fn take(slot: &mut Option<Self>, number: u32, value: Value<'_>) -> Result<(), DecodeError>;
}

/// One of several messages, told apart by field number.
pub trait OneOf: Sized {
    /// Appends tag and value of the variant.
    fn put(&self, out: &mut Vec<u8>);

    /// Reads a field if its number is one of the variants'.
    fn take(number: u32, value: Value<'_>) -> Result<Option<Self>, DecodeError>;
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a field of wire type 2.
pub fn put_bytes(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(u64::from(number << 3 | 2), out);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Appends a nested message: its length is known only once it is written. A message that is too long for the one byte left free
/// for that is moved.
pub fn put_message<M: Message>(number: u32, message: &M, out: &mut Vec<u8>) {
    put_nested(number, out, |out| message.encode_into(out));
}

/// As [`put_message`], for what `write` appends.
pub fn put_nested(number: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    put_varint(u64::from(number << 3 | 2), out);
    let start = out.len();
    out.push(0);
    write(out);
    set_len(start, out);
}

/// Writes the length of what stands behind byte `at` there.
fn set_len(at: usize, out: &mut Vec<u8>) {
    let end = out.len();
    let mut len = end - at - 1;
    let mut more = 0;
    while len >> (7 * (more + 1)) > 0 {
        more += 1;
    }
    if more > 0 {
        out.resize(end + more, 0);
        out.copy_within(at + 1..end, at + 1 + more);
    }
    for byte in &mut out[at..at + more] {
        *byte = len as u8 | 0x80;
        len >>= 7;
    }
    out[at + more] = len as u8;
}

/// Most messages fit, without being moved while they grow.
pub(crate) const ROOM: usize = 256;

/// The bytes of a field of wire type 2.
pub fn bytes_of(number: u32, value: Value<'_>) -> Result<&[u8], DecodeError> {
    match value {
        Value::Bytes(bytes) => Ok(bytes),
        _ => Err(DecodeError::WireType(number)),
    }
}

macro_rules! varint_field {
    ($($type:ty),*) => {$(
        impl Field for $type {
            fn absent() -> Option<Self> {
                Some(0)
            }

            fn put(&self, number: u32, out: &mut Vec<u8>) {
                if *self != 0 {
                    self.put_item(number, out);
                }
            }

            fn put_item(&self, number: u32, out: &mut Vec<u8>) {
                put_varint(u64::from(number << 3), out);
                put_varint(u64::from(*self), out);
            }

            fn take(slot: &mut Option<Self>, number: u32, value: Value<'_>) -> Result<(), DecodeError> {
                let Value::Varint(value) = value else { return Err(DecodeError::WireType(number)) };
                *slot = Some(Self::try_from(value).map_err(|_| DecodeError::Limit(number))?);
                Ok(())
            }
        }
    )*};
}

varint_field!(u32, u64);

impl Field for bool {
    fn absent() -> Option<Self> {
        Some(false)
    }

    fn put(&self, number: u32, out: &mut Vec<u8>) {
        u32::from(*self).put(number, out);
    }

    fn put_item(&self, number: u32, out: &mut Vec<u8>) {
        u32::from(*self).put_item(number, out);
    }

    fn take(slot: &mut Option<Self>, number: u32, value: Value<'_>) -> Result<(), DecodeError> {
        let Value::Varint(value) = value else { return Err(DecodeError::WireType(number)) };
        *slot = Some(value != 0);
        Ok(())
    }
}

impl<const N: usize> Field for [u8; N] {
    fn absent() -> Option<Self> {
        None
    }

    fn put(&self, number: u32, out: &mut Vec<u8>) {
        put_bytes(number, self, out);
    }

    fn take(slot: &mut Option<Self>, number: u32, value: Value<'_>) -> Result<(), DecodeError> {
        let bytes = bytes_of(number, value)?;
        *slot = Some(bytes.try_into().map_err(|_| DecodeError::Invalid(number))?);
        Ok(())
    }
}

/// Up to `MAX` bytes.
#[derive(Clone, Default, Eq, Hash, PartialEq)]
pub struct Blob<const MAX: usize>(Vec<u8>);

impl<const MAX: usize> Blob<MAX> {
    /// Takes the bytes, or gives them back if they are too many.
    pub fn new(bytes: Vec<u8>) -> Result<Self, Vec<u8>> {
        if bytes.len() > MAX { Err(bytes) } else { Ok(Self(bytes)) }
    }

    /// The bytes.
    pub fn into_vec(self) -> Vec<u8> {
        self.0
    }
}

impl<const MAX: usize> std::ops::Deref for Blob<MAX> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl<const MAX: usize> fmt::Debug for Blob<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}

impl<const MAX: usize> Field for Blob<MAX> {
    fn absent() -> Option<Self> {
        Some(Self(Vec::new()))
    }

    fn put(&self, number: u32, out: &mut Vec<u8>) {
        if !self.0.is_empty() {
            self.put_item(number, out);
        }
    }

    fn put_item(&self, number: u32, out: &mut Vec<u8>) {
        put_bytes(number, &self.0, out);
    }

    fn take(slot: &mut Option<Self>, number: u32, value: Value<'_>) -> Result<(), DecodeError> {
        let bytes = bytes_of(number, value)?;
        if bytes.len() > MAX {
            return Err(DecodeError::Limit(number));
        }
        *slot = Some(Self(bytes.to_vec()));
        Ok(())
    }
}

/// UTF-8 text of up to `MAX` bytes.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Text<const MAX: usize>(String);

impl<const MAX: usize> Text<MAX> {
    /// Takes the text, cut at the last whole character that fits: it is only shown to people.
    pub fn new(text: &str) -> Self {
        let mut end = text.len().min(MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self(text[..end].to_owned())
    }
}

impl<const MAX: usize> std::ops::Deref for Text<MAX> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> Field for Text<MAX> {
    fn absent() -> Option<Self> {
        Some(Self(String::new()))
    }

    fn put(&self, number: u32, out: &mut Vec<u8>) {
        if !self.0.is_empty() {
            self.put_item(number, out);
        }
    }

    fn put_item(&self, number: u32, out: &mut Vec<u8>) {
        put_bytes(number, self.0.as_bytes(), out);
    }

    fn take(slot: &mut Option<Self>, number: u32, value: Value<'_>) -> Result<(), DecodeError> {
        let bytes = bytes_of(number, value)?;
        if bytes.len() > MAX {
            return Err(DecodeError::Limit(number));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::Invalid(number))?;
        *slot = Some(Self(text.to_owned()));
        Ok(())
    }
}

/// Up to `MAX` items.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct List<T, const MAX: usize>(Vec<T>);

impl<T, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const MAX: usize> List<T, MAX> {
    /// Takes the items, or gives them back if they are too many.
    pub fn new(items: Vec<T>) -> Result<Self, Vec<T>> {
        if items.len() > MAX { Err(items) } else { Ok(Self(items)) }
    }

    /// The items.
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T, const MAX: usize> std::ops::Deref for List<T, MAX> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Field, const MAX: usize> Field for List<T, MAX> {
    fn absent() -> Option<Self> {
        Some(Self(Vec::new()))
    }

    fn put(&self, number: u32, out: &mut Vec<u8>) {
        for item in &self.0 {
            item.put_item(number, out);
        }
    }

    fn take(slot: &mut Option<Self>, number: u32, value: Value<'_>) -> Result<(), DecodeError> {
        let items = &mut slot.get_or_insert_default().0;
        if items.len() == MAX {
            return Err(DecodeError::Limit(number));
        }
        let mut item = None;
        T::take(&mut item, number, value)?;
        items.push(item.ok_or(DecodeError::Missing(number))?);
        Ok(())
    }
}

impl<T: Field> Field for Option<T> {
    fn absent() -> Option<Self> {
        Some(None)
    }

    fn put(&self, number: u32, out: &mut Vec<u8>) {
        if let Some(value) = self {
            value.put(number, out);
        }
    }

    fn take(slot: &mut Option<Self>, number: u32, value: Value<'_>) -> Result<(), DecodeError> {
        T::take(slot.get_or_insert(None), number, value)
    }
}

/// Declares messages: `number name: Type` a field, and `oneof name: Type` for an optional [`OneOf`].
#[macro_export]
macro_rules! message {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$fmeta:meta])* $number:literal $field:ident : $type:ty, )*
            $( oneof $ofield:ident : $otype:ty, )?
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Eq, PartialEq)]
        pub struct $name {
            $( $(#[$fmeta])* pub $field: $type, )*
            $(
                /// One of several; `None` where this version does not know which.
                pub $ofield: Option<$otype>,
            )?
        }

        impl $crate::wire::Message for $name {
            #[allow(unused_variables)]
            fn encode_into(&self, out: &mut Vec<u8>) {
                $( $crate::wire::Field::put(&self.$field, $number, out); )*
                $( if let Some(variant) = &self.$ofield {
                    <$otype as $crate::wire::OneOf>::put(variant, out);
                } )?
            }

            #[allow(unused_mut)]
            fn decode(bytes: &[u8]) -> Result<Self, $crate::wire::DecodeError> {
                $( let mut $field: Option<$type> = None; )*
                $( let mut $ofield: Option<$otype> = None; )?
                let mut fields = $crate::wire::Fields::new(bytes);
                while let Some((number, _value)) = fields.next_field()? {
                    match number {
                        $( $number => <$type as $crate::wire::Field>::take(&mut $field, number, _value)?, )*
                        _ => {
                            $( if let Some(variant) = <$otype as $crate::wire::OneOf>::take(number, _value)? {
                                $ofield = Some(variant);
                            } )?
                        }
                    }
                }
                Ok(Self {
                    $( $field: match $field.or_else(<$type as $crate::wire::Field>::absent) {
                        Some(value) => value,
                        None => return Err($crate::wire::DecodeError::Missing($number)),
                    }, )*
                    $( $ofield, )?
                })
            }
        }

        impl $crate::wire::Field for $name {
            fn absent() -> Option<Self> {
                None
            }

            fn put(&self, number: u32, out: &mut Vec<u8>) {
                $crate::wire::put_message(number, self, out);
            }

            fn take(
                slot: &mut Option<Self>,
                number: u32,
                value: $crate::wire::Value<'_>,
            ) -> Result<(), $crate::wire::DecodeError> {
                let bytes = $crate::wire::bytes_of(number, value)?;
                *slot = Some(<Self as $crate::wire::Message>::decode(bytes)?);
                Ok(())
            }
        }
    )*};
}

/// Declares a choice of messages: `number Variant(Type)`.
#[macro_export]
macro_rules! oneof {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $(#[$vmeta:meta])* $number:literal $variant:ident($type:ty), )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Eq, PartialEq)]
        pub enum $name {
            $( $(#[$vmeta])* $variant($type), )*
        }

        impl $crate::wire::OneOf for $name {
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $( Self::$variant(value) => $crate::wire::Field::put(value, $number, out), )*
                }
            }

            fn take(
                number: u32,
                value: $crate::wire::Value<'_>,
            ) -> Result<Option<Self>, $crate::wire::DecodeError> {
                match number {
                    $( $number => {
                        let mut slot = None;
                        <$type as $crate::wire::Field>::take(&mut slot, number, value)?;
                        Ok(slot.map(Self::$variant))
                    } )*
                    _ => Ok(None),
                }
            }
        }

        $(
            impl From<$type> for $name {
                fn from(value: $type) -> Self {
                    Self::$variant(value)
                }
            }
        )*
    };
}

/// Declares an enumeration carried as a number, whose unknown values are kept.
#[macro_export]
macro_rules! code {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $(#[$vmeta:meta])* $variant:ident = $number:literal, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum $name {
            $( $(#[$vmeta])* $variant, )*
            /// A value this version does not know.
            Unknown(u32),
        }

        impl From<u32> for $name {
            fn from(number: u32) -> Self {
                match number {
                    $( $number => Self::$variant, )*
                    other => Self::Unknown(other),
                }
            }
        }

        impl From<$name> for u32 {
            fn from(code: $name) -> Self {
                match code {
                    $( $name::$variant => $number, )*
                    $name::Unknown(other) => other,
                }
            }
        }

        impl $crate::wire::Field for $name {
            fn absent() -> Option<Self> {
                Some(Self::from(0))
            }

            fn put(&self, number: u32, out: &mut Vec<u8>) {
                $crate::wire::Field::put(&u32::from(*self), number, out);
            }

            fn put_item(&self, number: u32, out: &mut Vec<u8>) {
                $crate::wire::Field::put_item(&u32::from(*self), number, out);
            }

            fn take(
                slot: &mut Option<Self>,
                number: u32,
                value: $crate::wire::Value<'_>,
            ) -> Result<(), $crate::wire::DecodeError> {
                let mut raw = None;
                <u32 as $crate::wire::Field>::take(&mut raw, number, value)?;
                *slot = raw.map(Self::from);
                Ok(())
            }
        }
    };
}

pub use crate::{code, message, oneof};
