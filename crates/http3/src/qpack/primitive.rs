//! Integers and strings with a prefix (RFC 9204, section 4.1).

use super::huffman;
use crate::varint;

/// Why there is nothing to read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// More bytes have to come.
    Incomplete,
    Invalid,
    /// A string longer than allowed.
    TooLong,
}

/// Hands the instructions of a stream to `read` one by one; the beginning of one whose rest has not come is kept in `pending`.
pub(crate) fn feed(
    pending: &mut Vec<u8>,
    data: &[u8],
    mut read: impl FnMut(&mut &[u8]) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    pending.extend_from_slice(data);
    let mut input = &pending[..];
    while !input.is_empty() {
        let mut rest = input;
        match read(&mut rest) {
            Ok(()) => input = rest,
            Err(Unreadable::Incomplete) => break,
            Err(error) => return Err(error),
        }
    }
    let used = pending.len() - input.len();
    pending.drain(..used);
    Ok(())
}

/// Takes an integer whose first byte has `prefix` bits of it.
pub(crate) fn read_int(input: &mut &[u8], prefix: u32) -> Result<u64, Unreadable> {
    let (&first, mut rest) = input.split_first().ok_or(Unreadable::Incomplete)?;
    let most = (1 << prefix) - 1;
    let mut value = u64::from(first) & most;
    if value == most {
        // 62 bits are the most that has to be understood (section 4.1.1); nine times seven hold them.
        for shift in (0..63).step_by(7) {
            let (&byte, after) = rest.split_first().ok_or(Unreadable::Incomplete)?;
            rest = after;
            value += u64::from(byte & 0x7f) << shift;
            if value > varint::MAX {
                return Err(Unreadable::Invalid);
            }
            if byte & 0x80 == 0 {
                *input = rest;
                return Ok(value);
            }
        }
        return Err(Unreadable::Invalid);
    }
    *input = rest;
    Ok(value)
}

/// Takes a string whose length has a prefix of `prefix` bits, below the bit that says that it is Huffman-coded.
pub(crate) fn read_string(input: &mut &[u8], prefix: u32, max: usize) -> Result<Vec<u8>, Unreadable> {
    let coded = *input.first().ok_or(Unreadable::Incomplete)? & 1 << prefix != 0;
    let mut rest = *input;
    let length = read_int(&mut rest, prefix)?;
    // No symbol has more than 30 bits, so no string grows more than fourfold. Judged before the bytes are there, for they are kept till then.
    let longest = if coded { (max as u64).saturating_mul(4) } else { max as u64 };
    if length > longest {
        return Err(Unreadable::TooLong);
    }
    let (bytes, rest) = rest.split_at_checked(length as usize).ok_or(Unreadable::Incomplete)?;
    let string = if coded { huffman::decode(bytes, max).ok_or(Unreadable::Invalid)? } else { bytes.to_vec() };
    *input = rest;
    Ok(string)
}

/// Appends an integer; `pattern` are the bits above the prefix.
pub(crate) fn write_int(out: &mut Vec<u8>, pattern: u8, prefix: u32, value: u64) {
    let most = (1 << prefix) - 1;
    if value < most {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | most as u8);
    let mut left = value - most;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

/// Appends a string in the shorter of its forms.
pub(crate) fn write_string(out: &mut Vec<u8>, pattern: u8, prefix: u32, bytes: &[u8]) {
    let coded = huffman::encoded_len(bytes);
    if coded < bytes.len() {
        write_int(out, pattern | 1 << prefix, prefix, coded as u64);
        huffman::encode(bytes, out);
    } else {
        write_int(out, pattern, prefix, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_rfc_7541_c_1() {
        for (prefix, value, bytes) in [(5, 10, &[10][..]), (5, 1337, &[31, 154, 10]), (8, 42, &[42])] {
            let mut out = Vec::new();
            write_int(&mut out, 0, prefix, value);
            assert_eq!(out, bytes);
            assert_eq!(read_int(&mut &out[..], prefix), Ok(value));
            for short in 0..bytes.len() {
                assert_eq!(read_int(&mut &bytes[..short], prefix), Err(Unreadable::Incomplete));
            }
        }
    }

    #[test]
    fn integers_end_at_62_bits() {
        for prefix in 1..=8 {
            let mut out = Vec::new();
            write_int(&mut out, 0, prefix, varint::MAX);
            assert_eq!(read_int(&mut &out[..], prefix), Ok(varint::MAX));
            out.clear();
            write_int(&mut out, 0, prefix, varint::MAX + 1);
            assert_eq!(read_int(&mut &out[..], prefix), Err(Unreadable::Invalid));
        }
        // Longer than need be is legal; without an end it is not.
        assert_eq!(read_int(&mut &[0xff, 0x80, 0x80, 0][..], 8), Ok(255));
        assert_eq!(read_int(&mut &[0xff; 20][..], 8), Err(Unreadable::Invalid));
        assert_eq!(
            read_int(&mut &[[0xff, 0x80].as_slice(), &[0x80; 20]].concat()[..], 8),
            Err(Unreadable::Invalid)
        );
    }

    #[test]
    fn strings_are_judged_by_their_length_before_they_are_there() {
        assert_eq!(read_string(&mut &[0x05, b'a'][..], 7, 5), Err(Unreadable::Incomplete));
        assert_eq!(read_string(&mut &[0x06, b'a'][..], 7, 5), Err(Unreadable::TooLong));
        assert_eq!(read_string(&mut &[0x80 | 21, b'a'][..], 7, 5), Err(Unreadable::TooLong));
    }
}
