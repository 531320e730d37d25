//! QPACK (RFC 9204): fields compressed against a table that both ends keep.

mod decoder;
mod dynamic_table;
mod encoder;
mod huffman;
mod primitive;
mod static_table;
#[cfg(test)]
mod tests;

pub use decoder::{Decoded, Decoder};
pub(crate) use dynamic_table::size_of;
pub use encoder::Encoder;

/// A field: a name and a value, which are bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// In lower case.
    pub name: Vec<u8>,
    /// Without CR, LF and NUL.
    pub value: Vec<u8>,
    /// Nobody on the way may put it in a table, where its value could be guessed at. Set by the sender and passed on; `authorization`,
    /// `cookie` and `proxy-authorization` are always sent so.
    pub sensitive: bool,
}

impl Field {
    /// A field that is not sensitive.
    pub fn new(name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), value: value.into(), sensitive: false }
    }

    pub(crate) fn borrowed(&self) -> FieldRef<'_> {
        FieldRef { name: &self.name, value: &self.value, sensitive: self.sensitive }
    }
}

/// A field that is to be encoded.
#[derive(Clone, Copy, Debug)]
pub struct FieldRef<'a> {
    /// In lower case.
    pub name: &'a [u8],
    /// Without CR, LF and NUL.
    pub value: &'a [u8],
    /// See [`Field::sensitive`].
    pub sensitive: bool,
}
