use proptest::prelude::*;

use super::*;
use crate::error::Code;

fn field(name: &str, value: &str) -> Field {
    Field::new(name, value)
}

fn encode(encoder: &mut Encoder, stream: u64, fields: &[Field]) -> Vec<u8> {
    let fields: Vec<_> = fields.iter().map(Field::borrowed).collect();
    encoder.encode(stream, &fields, true)
}

/// RFC 9204, appendix B, step by step, as the decoder sees it.
#[test]
fn examples_of_appendix_b() {
    let mut decoder = Decoder::new(220, 8, 1000);
    // B.1: a literal with a name of the static table.
    let section = b"\x00\x00\x51\x0b/index.html";
    let fields = vec![field(":path", "/index.html")];
    assert_eq!(decoder.decode(0, section), Ok(Decoded::Fields(fields)));
    assert!(decoder.take_instructions().is_empty());

    // B.2: two insertions; the section that needs them comes first.
    let section = [0x03, 0x81, 0x10, 0x11];
    assert_eq!(decoder.decode(4, &section), Ok(Decoded::Blocked));
    decoder.on_encoder_stream(b"\x3f\xbd\x01\xc0\x0fwww.example.com").unwrap();
    assert!(decoder.unblocked().is_empty());
    decoder.on_encoder_stream(b"\xc1\x0c/sample/path").unwrap();
    assert_eq!(decoder.unblocked(), [4]);
    let fields = vec![field(":authority", "www.example.com"), field(":path", "/sample/path")];
    assert_eq!(decoder.decode(4, &section), Ok(Decoded::Fields(fields)));
    assert!(decoder.unblocked().is_empty());
    assert_eq!(decoder.take_instructions(), [0x84]);

    // B.3: an insertion nothing refers to yet.
    decoder.on_encoder_stream(b"\x4acustom-key\x0ccustom-value").unwrap();
    assert_eq!(decoder.take_instructions(), [0x01]);

    // B.4: a duplicate; the section is not decoded but cancelled in the example.
    decoder.on_encoder_stream(&[0x02]).unwrap();
    let section = [0x05, 0x00, 0x80, 0xc1, 0x81];
    let fields = vec![
        field(":authority", "www.example.com"),
        field(":path", "/"),
        field("custom-key", "custom-value"),
    ];
    let mut other = Decoder::new(220, 8, 1000);
    other
        .on_encoder_stream(
            b"\x3f\xbd\x01\xc0\x0fwww.example.com\xc1\x0c/sample/path\x4acustom-key\x0ccustom-value\x02",
        )
        .unwrap();
    assert_eq!(other.decode(8, &section), Ok(Decoded::Fields(fields)));
    decoder.cancel(8);
    assert_eq!(decoder.take_instructions(), [0x48, 0x01]);

    // B.5: an insertion that pushes the oldest entry out.
    decoder.on_encoder_stream(b"\x81\x0dcustom-value2").unwrap();
    let section = [0x06, 0x00, 0x80];
    assert_eq!(decoder.decode(12, &section), Ok(Decoded::Fields(vec![field("custom-key", "custom-value2")])));
    let section = [0x06, 0x00, 0x84];
    let error = decoder.decode(12, &section).unwrap_err();
    assert_eq!(error.code, Code::QPACK_DECOMPRESSION_FAILED);
}

#[test]
fn fields_that_come_again_become_a_byte() {
    let mut encoder = Encoder::new(4096);
    let mut decoder = Decoder::new(4096, 0, 10_000);
    encoder.set_limits(4096, 0);
    let fields = [field("user-agent", "a router"), field("x-of-our-own", "and its value")];
    // Nothing may wait, so the first section is all literals, while the entries are on their way.
    let first = encode(&mut encoder, 0, &fields);
    assert_eq!(decoder.decode(0, &first), Ok(Decoded::Fields(fields.to_vec())));
    decoder.on_encoder_stream(&encoder.take_instructions()).unwrap();
    encoder.on_decoder_stream(&decoder.take_instructions()).unwrap();
    let second = encode(&mut encoder, 4, &fields);
    assert_eq!(second.len(), 4);
    assert!(encoder.take_instructions().is_empty(), "nothing is inserted twice");
    assert_eq!(decoder.decode(4, &second), Ok(Decoded::Fields(fields.to_vec())));
}

#[test]
fn the_peers_settings_bound_what_the_encoder_does() {
    let fields = [field("x-one", "1")];
    // No table offered.
    let mut encoder = Encoder::new(4096);
    encoder.set_limits(0, 10);
    encode(&mut encoder, 0, &fields);
    assert!(encoder.take_instructions().is_empty());
    // A larger one than we want.
    let mut encoder = Encoder::new(100);
    encoder.set_limits(1 << 40, 10);
    let mut decoder = Decoder::new(1 << 40, 10, 1000);
    let instructions = encoder.take_instructions();
    assert_eq!(instructions, [0x3f, 100 - 31]);
    decoder.on_encoder_stream(&instructions).unwrap();
    for stream in 0..20 {
        let fields = [field("x-one", &format!("value {stream}"))];
        let section = encode(&mut encoder, stream, &fields);
        decoder.on_encoder_stream(&encoder.take_instructions()).unwrap();
        assert_eq!(decoder.decode(stream, &section), Ok(Decoded::Fields(fields.to_vec())));
        encoder.on_decoder_stream(&decoder.take_instructions()).unwrap();
    }
    // Only so many streams may wait.
    let mut encoder = Encoder::new(4096);
    encoder.set_limits(4096, 2);
    let waits = |stream| {
        let section = encode(&mut encoder, stream, &[field("x-new", &format!("value {stream}"))]);
        section[0] != 0
    };
    assert_eq!([0, 4, 8, 12].map(waits), [true, true, false, false]);
}

#[test]
fn secrets_stay_out_of_the_table() {
    let mut encoder = Encoder::new(4096);
    encoder.set_limits(4096, 10);
    let _ = encoder.take_instructions();
    let mut own = field("x-token", "secret");
    own.sensitive = true;
    let fields = [field("authorization", "Basic Zm9v"), field("cookie", "session=1"), own];
    let section = encode(&mut encoder, 0, &fields);
    assert!(encoder.take_instructions().is_empty());
    let mut decoder = Decoder::new(4096, 10, 1000);
    let Ok(Decoded::Fields(decoded)) = decoder.decode(0, &section) else { panic!() };
    assert!(decoded.iter().all(|field| field.sensitive));
}

#[test]
fn invalid_encoder_instructions_are_refused() {
    for wrong in [
        &[0x3f, 0xbe, 0x01][..],                      // capacity 221
        &[0x00],                                      // a duplicate of nothing
        &[0x80, 0x01, b'a'],                          // a name of nothing
        &[0xff, 0x24, 0x01, b'a'],                    // static index 99
        b"\x3f\xbd\x01\xff\xc1\xff\xff\xff\x0f\x01a", // static index 2^32
        &[0x41, b'a', 0x01, b'a'],                    // does not fit: no capacity yet
        &[0x3f, 0xbd, 0x01, 0x7f, 0xff, 0x7f],        // a name longer than the table
    ] {
        let mut decoder = Decoder::new(220, 8, 1000);
        let error = decoder.on_encoder_stream(wrong).unwrap_err();
        assert_eq!(error.code, Code::QPACK_ENCODER_STREAM_ERROR, "{wrong:x?}");
    }
}

#[test]
fn invalid_sections_are_refused() {
    for wrong in [
        &[][..],
        &[0x00],
        &[0x0e, 0x00],                                     // a count out of range
        &[0x00, 0x80],                                     // a base below zero
        &[0x00, 0x00, 0x80],                               // an entry, though none is required
        &[0x00, 0x00, 0x10],                               // the same, after the base
        &[0x00, 0x00, 0xff, 0x24],                         // static index 99
        &[0x00, 0x00, 0xff, 0xc1, 0xff, 0xff, 0xff, 0x0f], // 2^32, with its value and without
        &[0x00, 0x00, 0x5f, 0xf1, 0xff, 0xff, 0xff, 0x0f, 0x00],
        &[0x00, 0x00, 0x51, 0x02, b'a'],
        &[0x00, 0x00, 0x51, 0x81, 0x00],
        &[0x02, 0x00, 0x81], // older than the oldest
        &[0x02, 0x00, 0x11], // newer than required
    ] {
        let mut decoder = Decoder::new(220, 8, 1000);
        decoder.on_encoder_stream(b"\x3f\xbd\x01\x41a\x01a\x41b\x01b").unwrap();
        let error = decoder.decode(0, wrong).unwrap_err();
        assert_eq!(error.code, Code::QPACK_DECOMPRESSION_FAILED, "{wrong:x?}");
    }
}

#[test]
fn invalid_decoder_instructions_are_refused() {
    for wrong in [&[0x80][..], &[0x00], &[0x02]] {
        let mut encoder = Encoder::new(4096);
        encoder.set_limits(4096, 0);
        encode(&mut encoder, 0, &[field("x-one", "1")]);
        let error = encoder.on_decoder_stream(wrong).unwrap_err();
        assert_eq!(error.code, Code::QPACK_DECODER_STREAM_ERROR, "{wrong:x?}");
    }
}

#[test]
fn blocked_streams_and_sizes_are_bounded() {
    let mut decoder = Decoder::new(220, 2, 100);
    for stream in [0, 4, 4] {
        assert_eq!(decoder.decode(stream, &[0x02, 0x00, 0x80]), Ok(Decoded::Blocked));
    }
    assert_eq!(decoder.decode(8, &[0x02, 0x00, 0x80]).unwrap_err().code, Code::QPACK_DECOMPRESSION_FAILED);

    let mut decoder = Decoder::new(0, 0, 100);
    // :authority with 58 bytes makes 100.
    let section = |length: u8| [&[0, 0, 0x50, length][..], &vec![b'a'; length.into()]].concat();
    assert!(matches!(decoder.decode(0, &section(58)), Ok(Decoded::Fields(_))));
    assert_eq!(decoder.decode(0, &section(59)), Ok(Decoded::TooLarge));
    assert_eq!(decoder.decode(0, &[0, 0, 0x50, 0x7f, 0xff, 0xff, 0x7f]), Ok(Decoded::TooLarge));
}

/// What one end may do to the other.
#[derive(Clone, Debug)]
enum Step {
    Encode(Vec<(u8, u8)>),
    /// So many bytes of the encoder's instructions arrive.
    Instructions(usize),
    /// A waiting section arrives.
    Section(usize),
    Acknowledge,
    Cancel(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop::collection::vec((0..12u8, 0..6u8), 0..8).prop_map(Step::Encode),
        3 => (0..60usize).prop_map(Step::Instructions),
        3 => any::<usize>().prop_map(Step::Section),
        1 => Just(Step::Acknowledge),
        1 => any::<usize>().prop_map(Step::Cancel),
    ]
}

proptest! {
    /// Whatever arrives when: every section decodes to what was encoded, and the limits hold.
    #[test]
    fn both_ends_agree_in_any_order(
        steps in prop::collection::vec(step(), 1..200),
        capacity in 0..600u64,
        max_blocked in 0..4u64,
    ) {
        let names = [
            ":authority", "accept", "user-agent", "x-a", "x-b", "x-a-very-long-name-of-a-field", "cookie", "etag", "x-c", "x-d", ":path", "x",
        ];
        let mut encoder = Encoder::new(capacity);
        let mut decoder = Decoder::new(capacity, max_blocked, 1 << 20);
        encoder.set_limits(capacity, max_blocked);
        let mut instructions = Vec::new();
        let mut waiting: Vec<(u64, Vec<u8>, Vec<Field>)> = Vec::new();
        let mut next = 0;
        let finish = [Step::Instructions(usize::MAX), Step::Acknowledge];
        for step in steps.into_iter().chain(finish) {
            match step {
                Step::Encode(fields) => {
                    let fields: Vec<_> = fields
                        .iter()
                        .map(|(name, value)| field(names[usize::from(*name)], &"value".repeat(usize::from(*value))))
                        .collect();
                    let section = encode(&mut encoder, next, &fields);
                    instructions.append(&mut encoder.take_instructions());
                    waiting.push((next, section, fields));
                    next += 4;
                }
                Step::Instructions(count) => {
                    let rest = instructions.split_off(count.min(instructions.len()));
                    decoder.on_encoder_stream(&instructions).unwrap();
                    instructions = rest;
                }
                Step::Section(which) if !waiting.is_empty() => {
                    let (stream, section, fields) = waiting.swap_remove(which % waiting.len());
                    check(&mut decoder, stream, section, fields, &mut waiting);
                }
                Step::Cancel(which) if !waiting.is_empty() => {
                    let (stream, ..) = waiting.swap_remove(which % waiting.len());
                    decoder.cancel(stream);
                }
                Step::Acknowledge => encoder.on_decoder_stream(&decoder.take_instructions()).unwrap(),
                Step::Section(_) | Step::Cancel(_) => {}
            }
        }
        for (stream, section, fields) in std::mem::take(&mut waiting) {
            check(&mut decoder, stream, section, fields, &mut waiting);
        }
        prop_assert!(waiting.is_empty(), "everything has come, and yet something waits");
        encoder.on_decoder_stream(&decoder.take_instructions()).unwrap();
    }

    #[test]
    fn no_input_upsets_the_decoder(instructions in any::<Vec<u8>>(), piece in 1..9usize, sections in any::<[Vec<u8>; 4]>()) {
        let mut decoder = Decoder::new(200, 2, 500);
        for piece in instructions.chunks(piece) {
            if decoder.on_encoder_stream(piece).is_err() {
                break;
            }
        }
        for (stream, section) in (0..).zip(&sections) {
            if let Ok(Decoded::Fields(fields)) = decoder.decode(stream, section) {
                let size: u64 = fields.iter().map(|field| size_of(&field.name, &field.value)).sum();
                prop_assert!(size <= 500);
            }
        }
    }
}

fn check(
    decoder: &mut Decoder,
    stream: u64,
    section: Vec<u8>,
    fields: Vec<Field>,
    waiting: &mut Vec<(u64, Vec<u8>, Vec<Field>)>,
) {
    match decoder.decode(stream, &section).unwrap() {
        Decoded::Blocked => waiting.push((stream, section, fields)),
        Decoded::Fields(mut decoded) => {
            for field in &mut decoded {
                field.sensitive = false;
            }
            assert_eq!(decoded, fields);
        }
        Decoded::TooLarge => panic!("nothing here is large"),
    }
}
