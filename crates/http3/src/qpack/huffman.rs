//! The Huffman code of HPACK (RFC 7541, appendix B), which QPACK shares.
//!
//! The code is canonical: codes of one length follow each other in the order of their symbols, and lengths follow each other. So the
//! lengths are all that has to be kept; the rest is made of them when compiling.

/// The code's end marker, which no string contains.
const END: usize = 256;
const LONGEST: usize = 30;

/// How many bits the code of each symbol has.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

struct Tables {
    codes: [u32; 257],
    /// Symbols in the order of their codes.
    symbols: [u16; 257],
    /// For every length, where its symbols begin in `symbols`, and the code after its last, aligned to [`LONGEST`] bits.
    starts: [u16; LONGEST + 1],
    limits: [u32; LONGEST + 1],
    firsts: [u32; LONGEST + 1],
}

static TABLES: Tables = {
    let mut tables = Tables {
        codes: [0; 257],
        symbols: [0; 257],
        starts: [0; LONGEST + 1],
        limits: [0; LONGEST + 1],
        firsts: [0; LONGEST + 1],
    };
    let mut code = 0;
    let mut place = 0;
    let mut length = 1;
    while length <= LONGEST {
        code <<= 1;
        tables.starts[length] = place as u16;
        tables.firsts[length] = code;
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] as usize == length {
                tables.codes[symbol] = code;
                tables.symbols[place] = symbol as u16;
                code += 1;
                place += 1;
            }
            symbol += 1;
        }
        tables.limits[length] = code << (LONGEST - length);
        length += 1;
    }
    tables
};

/// How many bytes `bytes` become.
pub(crate) fn encoded_len(bytes: &[u8]) -> usize {
    bytes.iter().map(|byte| usize::from(LENGTHS[usize::from(*byte)])).sum::<usize>().div_ceil(8)
}

pub(crate) fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    let mut bits = 0u64;
    let mut count = 0;
    for &byte in bytes {
        let length = LENGTHS[usize::from(byte)];
        bits = bits << length | u64::from(TABLES.codes[usize::from(byte)]);
        count += length;
        while count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    if count > 0 {
        // Filled up with the beginning of the end marker, which is all ones.
        out.push((bits << (8 - count)) as u8 | 0xff >> count);
    }
}

/// `None` if that is no encoded string, or its bytes would be more than `max`.
pub(crate) fn decode(bytes: &[u8], max: usize) -> Option<Vec<u8>> {
    // The shortest code has five bits.
    let mut out = Vec::with_capacity((bytes.len() * 8 / 5).min(max));
    let mut rest = bytes.iter();
    let mut bits = 0u64;
    let mut count = 0;
    loop {
        while count <= 56 {
            let Some(byte) = rest.next() else { break };
            bits = bits << 8 | u64::from(*byte);
            count += 8;
        }
        // The next bits, aligned as `limits` are; past the end there are ones.
        let window = if count >= LONGEST {
            (bits >> (count - LONGEST)) as u32
        } else {
            ((bits << (LONGEST - count)) | ((1 << (LONGEST - count)) - 1)) as u32
        } & ((1 << LONGEST) - 1);
        let length = (5..LONGEST).find(|length| window < TABLES.limits[*length]).unwrap_or(LONGEST);
        if length > count {
            // What is left is less than a code: it must be the padding, shorter than a byte and all ones.
            return (count < 8 && window == (1 << LONGEST) - 1).then_some(out);
        }
        let place = (window >> (LONGEST - length)) - TABLES.firsts[length];
        let symbol = usize::from(TABLES.symbols[usize::from(TABLES.starts[length]) + place as usize]);
        if symbol == END || out.len() == max {
            return None;
        }
        out.push(symbol as u8);
        count -= length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(bytes, &mut out);
        assert_eq!(out.len(), encoded_len(bytes));
        out
    }

    #[test]
    fn examples_of_rfc_7541_c_4() {
        let examples: [(&[u8], &[u8]); 3] = [
            (b"www.example.com", &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff]),
            (b"no-cache", &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]),
            (b"custom-value", &[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf]),
        ];
        for (plain, coded) in examples {
            assert_eq!(encoded(plain), coded);
            assert_eq!(decode(coded, 100).unwrap(), plain);
        }
    }

    #[test]
    fn every_symbol_reads_back_beside_every_other() {
        for first in 0..=255 {
            for second in 0..=255 {
                let plain = [first, second, first];
                assert_eq!(decode(&encoded(&plain), 3).unwrap(), plain);
            }
        }
    }

    #[test]
    fn wrong_padding_the_end_marker_and_too_much_are_refused() {
        assert_eq!(decode(&[], 0), Some(vec![]));
        // 'a' is 00011.
        assert_eq!(decode(&[0b0001_1111], 1), Some(b"a".to_vec()));
        assert_eq!(decode(&[0b0001_1110], 1), None);
        assert_eq!(decode(&[0b0001_1111, 0xff], 1), None, "a whole byte of padding");
        assert_eq!(decode(&[0xff; 4], 9), None, "the end marker");
        assert_eq!(decode(&encoded(b"aaa"), 2), None);
    }
}
