//! Golden vectors: bytes that version 1 must produce and understand for ever, and `qpc.proto` as their witness.
//!
//! `golden.txt` has a line for each vector: message name, a space, hexadecimal bytes. A vector is never edited; new
//! messages and fields get new lines.

#![allow(clippy::unwrap_used, missing_docs)]

mod samples;

use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use samples::{Sample, samples};

fn schema() -> DescriptorPool {
    let dir = env!("CARGO_MANIFEST_DIR");
    DescriptorPool::from_file_descriptor_set(protox::compile(["qpc.proto"], [dir]).unwrap()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn vectors_have_not_changed() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden.txt");
    let now: String = samples().iter().map(|s| format!("{} {}\n", s.name, hex(&s.bytes))).collect();
    if std::env::var_os("QPC_WRITE_GOLDEN").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    for (golden, now) in golden.lines().zip(now.lines()) {
        assert_eq!(golden, now);
    }
    assert_eq!(golden.lines().count(), now.lines().count(), "a vector was added or lost");
}

#[test]
fn vectors_read_back() {
    for Sample { name, bytes, again } in samples() {
        assert_eq!(hex(&again(&bytes).unwrap()), hex(&bytes), "{name}");
    }
}

/// A reader generated from the schema finds every byte of every vector in a field it knows, and writes the same.
#[test]
fn the_schema_describes_every_vector() {
    let pool = schema();
    for Sample { name, bytes, .. } in samples() {
        let descriptor =
            pool.get_message_by_name(&format!("qpc.v1.{name}")).unwrap_or_else(|| panic!("{name}"));
        let message = DynamicMessage::decode(descriptor, bytes.as_slice()).unwrap();
        assert_eq!(message.unknown_fields().count(), 0, "{name} has fields the schema lacks");
        assert_eq!(hex(&message.encode_to_vec()), hex(&bytes), "{name}");
    }
}

/// Every message and every variant that the schema names has a vector, so none can drift unseen.
#[test]
fn every_message_of_the_schema_has_a_vector() {
    let pool = schema();
    let names: Vec<_> = samples().iter().map(|s| s.name).collect();
    for message in pool.all_messages() {
        assert!(names.contains(&message.name()), "no vector for {}", message.name());
        for field in message.oneofs().flat_map(|oneof| oneof.fields().collect::<Vec<_>>()) {
            if field.containing_oneof().is_some_and(|oneof| oneof.is_synthetic()) {
                continue;
            }
            let tag = |bytes: &[u8]| {
                let parsed = DynamicMessage::decode(message.clone(), bytes).unwrap();
                parsed.has_field(&field)
            };
            let found = samples().iter().any(|s| s.name == message.name() && tag(&s.bytes));
            assert!(found, "no vector for {}.{}", message.name(), field.name());
        }
    }
}

/// A field added by a later version is skipped wherever it stands, at every depth, whatever its wire type.
#[test]
fn later_fields_are_skipped() {
    let later: [&[u8]; 4] = [
        &[0xf8, 0x3f, 0x2a],                            // field 1023, varint
        &[0xf9, 0x3f, 1, 2, 3, 4, 5, 6, 7, 8],          // 64 bits
        &[0xfa, 0x3f, 5, b'l', b'a', b't', b'e', b'r'], // bytes
        &[0xfd, 0x3f, 1, 2, 3, 4],                      // 32 bits
    ];
    for Sample { name, bytes, again } in samples() {
        for field in later {
            for extended in [[field, &bytes[..]].concat(), [&bytes[..], field].concat()] {
                assert_eq!(hex(&again(&extended).unwrap()), hex(&bytes), "{name}");
            }
        }
    }
    // And one level down: a login whose nested message has grown.
    use qpc_proto::message::{ClientFrame, Request};
    use qpc_proto::wire::Message;
    let frame = [0x08, 0x05, 0x92, 0x01, 0x0a, 0x0a, 0x03, b'b', b'o', b'b', 0xfa, 0x3f, 0x02, 1, 2];
    let decoded = ClientFrame::decode(&frame);
    // Field 18 is RegisterFinish, which lacks required fields here: the nested message is really looked into.
    assert!(decoded.is_err());
    let frame = [0x08, 0x05, 0x9a, 0x01, 0x0a, 0x0a, 0x03, b'b', b'o', b'b', 0xfa, 0x3f, 0x02, 1, 2];
    let Some(Request::LoginStart(login)) = ClientFrame::decode(&frame).unwrap().request else { panic!() };
    assert_eq!(login.user.as_str(), "bob");
}

/// A request of a later version is no error: it reads as a frame without a request that this version knows.
#[test]
fn later_requests_keep_their_id() {
    use qpc_proto::message::ClientFrame;
    use qpc_proto::wire::Message;
    let frame = ClientFrame::decode(&[0x08, 0x07, 0xfa, 0x3f, 0x01, 0xff]).unwrap();
    assert_eq!((frame.id, frame.request), (7, None));
}
