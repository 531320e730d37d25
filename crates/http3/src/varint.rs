//! The variable-length integers of QUIC (RFC 9000, section 16).

/// The largest number that can be written.
pub const MAX: u64 = (1 << 62) - 1;

/// Takes a number from the front of `input`; `None`, and nothing taken, if it is not all there.
pub fn read(input: &mut &[u8]) -> Option<u64> {
    let first = *input.first()?;
    let length = 1 << (first >> 6);
    let (bytes, rest) = input.split_at_checked(length)?;
    *input = rest;
    let head = u64::from(first & 0x3f);
    Some(bytes[1..].iter().fold(head, |value, byte| value << 8 | u64::from(*byte)))
}

/// Appends a number in its shortest form. Of a number above [`MAX`] the highest bits are lost.
pub fn write(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=0x3f => out.push(value as u8),
        0x40..=0x3fff => out.extend_from_slice(&(value as u16 | 1 << 14).to_be_bytes()),
        0x4000..=0x3fff_ffff => out.extend_from_slice(&(value as u32 | 2 << 30).to_be_bytes()),
        _ => out.extend_from_slice(&(value | 3 << 62).to_be_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_rfc_9000_a_1() {
        let examples: [(&[u8], u64); 5] = [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
            (&[0x40, 0x25], 37),
        ];
        for (bytes, value) in examples {
            let mut input = bytes;
            assert_eq!(read(&mut input), Some(value));
            assert!(input.is_empty());
            for short in 0..bytes.len() {
                let mut input = &bytes[..short];
                assert_eq!(read(&mut input), None);
                assert_eq!(input.len(), short);
            }
        }
    }

    #[test]
    fn what_is_written_reads_back_at_every_border() {
        for value in [0, 0x3f, 0x40, 0x3fff, 0x4000, 0x3fff_ffff, 0x4000_0000, MAX] {
            let mut bytes = Vec::new();
            write(&mut bytes, value);
            assert_eq!(read(&mut &bytes[..]), Some(value));
        }
    }
}
