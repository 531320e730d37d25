//! Instructions and sections of any bytes: no panic, no fields beyond the limit, and what was decoded encodes and decodes to the same.

#![no_main]

use http3::qpack::{Decoded, Decoder, Encoder, FieldRef};
use libfuzzer_sys::fuzz_target;

const MAX_SECTION: u64 = 2000;

fuzz_target!(|input: (u8, &[u8], Vec<&[u8]>, &[u8])| {
    let (piece, instructions, sections, acknowledgements) = input;
    let mut decoder = Decoder::new(300, 4, MAX_SECTION);
    for piece in instructions.chunks(usize::from(piece).max(1)) {
        if decoder.on_encoder_stream(piece).is_err() {
            return;
        }
    }
    let mut encoder = Encoder::new(300);
    encoder.set_limits(300, 100);
    let mut receiver = Decoder::new(300, 100, MAX_SECTION);
    for (stream, section) in (0..).zip(sections) {
        let Ok(Decoded::Fields(fields)) = decoder.decode(stream, section) else { continue };
        let size: usize = fields.iter().map(|field| field.name.len() + field.value.len() + 32).sum();
        assert!(size as u64 <= MAX_SECTION);
        let borrowed: Vec<_> = fields
            .iter()
            .map(|field| FieldRef { name: &field.name, value: &field.value, sensitive: field.sensitive })
            .collect();
        let section = encoder.encode(stream, &borrowed, true);
        assert!(receiver.on_encoder_stream(&encoder.take_instructions()).is_ok());
        let Ok(Decoded::Fields(again)) = receiver.decode(stream, &section) else {
            panic!("what was encoded does not decode")
        };
        assert!(
            fields
                .iter()
                .map(|field| (&field.name, &field.value))
                .eq(again.iter().map(|field| (&field.name, &field.value)))
        );
        assert!(encoder.on_decoder_stream(&receiver.take_instructions()).is_ok());
    }
    let _ = encoder.on_decoder_stream(acknowledgements);
});
