//! A stream of frames from either side: no panic, and what was read writes and reads back as the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use qpc_proto::envelope::Envelope;
use qpc_proto::frame::Decoder;
use qpc_proto::limits::MAX_CONTROL_FRAME;
use qpc_proto::message::{ClientFrame, Entry, RelayFrame};
use qpc_proto::wire::Message;

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, stream) = input;
    let mut decoder = Decoder::new(MAX_CONTROL_FRAME);
    for piece in stream.chunks(usize::from(piece).max(1)) {
        decoder.feed(piece);
        while let Ok(Some(frame)) = decoder.next_frame() {
            is_stable::<ClientFrame>(frame);
            is_stable::<RelayFrame>(frame);
            is_stable::<Entry>(frame);
            is_stable::<Envelope>(frame);
        }
    }
});

fn is_stable<M: Message + PartialEq>(bytes: &[u8]) {
    if let Ok(message) = M::decode(bytes) {
        assert!(M::decode(&message.encode()).is_ok_and(|again| again == message));
    }
}
