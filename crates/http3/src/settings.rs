//! SETTINGS (RFC 9114, section 7.2.4), and how this end is configured.

use crate::error::{Code, ConnectionError};
use crate::varint;

const QPACK_MAX_TABLE_CAPACITY: u64 = 0x01;
const MAX_FIELD_SECTION_SIZE: u64 = 0x06;
const QPACK_BLOCKED_STREAMS: u64 = 0x07;
const ENABLE_CONNECT_PROTOCOL: u64 = 0x08;
const H3_DATAGRAM: u64 = 0x33;

/// How many settings a peer may send; there are five that mean something.
const MAX_SETTINGS: usize = 64;

/// What one end tells the other about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The largest dynamic table that its decoder keeps.
    pub qpack_max_table_capacity: u64,
    /// How many streams may wait for entries of that table.
    pub qpack_blocked_streams: u64,
    /// The largest field section that it accepts, if it says so.
    pub max_field_section_size: Option<u64>,
    /// Whether a server takes CONNECT with `:protocol` (RFC 9220).
    pub enable_connect_protocol: bool,
    /// Whether it takes HTTP datagrams (RFC 9297).
    pub h3_datagram: bool,
}

impl Settings {
    /// What holds until the peer's SETTINGS have come.
    pub const INITIAL: Self = Self {
        qpack_max_table_capacity: 0,
        qpack_blocked_streams: 0,
        max_field_section_size: None,
        enable_connect_protocol: false,
        h3_datagram: false,
    };

    /// The frame's payload. What has its initial value is left out.
    pub(crate) fn encode(&self, grease: Option<u64>) -> Vec<u8> {
        let mut payload = Vec::new();
        let mut setting = |id, value| {
            varint::write(&mut payload, id);
            varint::write(&mut payload, value);
        };
        for (id, value) in [
            (QPACK_MAX_TABLE_CAPACITY, self.qpack_max_table_capacity),
            (QPACK_BLOCKED_STREAMS, self.qpack_blocked_streams),
            (ENABLE_CONNECT_PROTOCOL, self.enable_connect_protocol.into()),
            (H3_DATAGRAM, self.h3_datagram.into()),
        ] {
            if value != 0 {
                setting(id, value.min(varint::MAX));
            }
        }
        if let Some(size) = self.max_field_section_size {
            setting(MAX_FIELD_SECTION_SIZE, size.min(varint::MAX));
        }
        if let Some(grease) = grease {
            setting(reserved(grease), grease & 0xff);
        }
        payload
    }

    pub(crate) fn decode(mut payload: &[u8]) -> Result<Self, ConnectionError> {
        let error = |code, reason| Err(ConnectionError { code, reason });
        let mut settings = Self::INITIAL;
        let mut seen = Vec::new();
        while !payload.is_empty() {
            let (Some(id), Some(value)) = (varint::read(&mut payload), varint::read(&mut payload)) else {
                return error(Code::H3_FRAME_ERROR, "SETTINGS ends within a setting");
            };
            if seen.contains(&id) {
                return error(Code::H3_SETTINGS_ERROR, "a setting comes twice");
            }
            if seen.len() == MAX_SETTINGS {
                return error(Code::H3_EXCESSIVE_LOAD, "too many settings");
            }
            seen.push(id);
            match id {
                QPACK_MAX_TABLE_CAPACITY => settings.qpack_max_table_capacity = value,
                QPACK_BLOCKED_STREAMS => settings.qpack_blocked_streams = value,
                MAX_FIELD_SECTION_SIZE => settings.max_field_section_size = Some(value),
                ENABLE_CONNECT_PROTOCOL | H3_DATAGRAM if value > 1 => {
                    return error(Code::H3_SETTINGS_ERROR, "a setting is neither 0 nor 1");
                }
                ENABLE_CONNECT_PROTOCOL => settings.enable_connect_protocol = value == 1,
                H3_DATAGRAM => settings.h3_datagram = value == 1,
                // Those of HTTP/2 that have no equivalent.
                0 | 2..=5 => return error(Code::H3_SETTINGS_ERROR, "a setting of HTTP/2"),
                _ => {}
            }
        }
        Ok(settings)
    }

    /// Whether somebody who relied on `remembered` can go on with these (RFC 9114, section 7.2.4.2; RFC 9204, section 3.2.3).
    pub(crate) fn keep(&self, remembered: &Self) -> Result<(), ConnectionError> {
        let capacity = remembered.qpack_max_table_capacity;
        if capacity != 0 && self.qpack_max_table_capacity != capacity {
            return Err(ConnectionError {
                code: Code::QPACK_DECODER_STREAM_ERROR,
                reason: "not the dynamic table that is remembered",
            });
        }
        let unlimited = |size: Option<u64>| size.unwrap_or(u64::MAX);
        let keeps = self.qpack_blocked_streams >= remembered.qpack_blocked_streams
            && unlimited(self.max_field_section_size) >= unlimited(remembered.max_field_section_size)
            && self.enable_connect_protocol >= remembered.enable_connect_protocol
            && self.h3_datagram >= remembered.h3_datagram;
        if keeps {
            Ok(())
        } else {
            Err(ConnectionError {
                code: Code::H3_SETTINGS_ERROR,
                reason: "the settings fall short of those remembered",
            })
        }
    }
}

impl Default for Settings {
    /// What this crate announces unless told otherwise.
    fn default() -> Self {
        Self {
            qpack_max_table_capacity: 4096,
            qpack_blocked_streams: 16,
            max_field_section_size: Some(65536),
            enable_connect_protocol: false,
            h3_datagram: false,
        }
    }
}

/// An identifier that means nothing, of those reserved so that peers learn to ignore what they do not know.
pub(crate) const fn reserved(number: u64) -> u64 {
    0x1f * (number % (1 << 32)) + 0x21
}

/// How a connection is set up. The limits bound what a peer can make it keep.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the peer is told.
    pub settings: Settings,
    /// The dynamic table we use at most for what we send.
    pub encoder_capacity: u64,
    /// Requests that are open at the same time. A server rejects those beyond.
    pub max_requests: usize,
    /// The largest field section read if the settings name none, or a larger one.
    pub max_field_section: u64,
    /// Bytes kept of one stream that waits for entries of the dynamic table.
    pub max_held: usize,
    /// Bytes of content kept of one stream that wait to be sent; [`Connection::send_body`](crate::Connection::send_body) takes no more.
    pub max_unsent: usize,
    /// Sends a setting and a frame that mean nothing, made of this number; a random one is best.
    pub grease: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            encoder_capacity: 4096,
            max_requests: 100,
            max_field_section: 1 << 18,
            max_held: 1 << 18,
            max_unsent: 1 << 18,
            grease: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(payload: &[u8]) -> Code {
        Settings::decode(payload).unwrap_err().code
    }

    #[test]
    fn what_is_written_reads_back_and_unknown_settings_are_ignored() {
        for settings in [
            Settings::default(),
            Settings::INITIAL,
            Settings {
                enable_connect_protocol: true,
                h3_datagram: true,
                max_field_section_size: Some(0),
                ..Settings::default()
            },
        ] {
            assert_eq!(Settings::decode(&settings.encode(None)), Ok(settings));
            assert_eq!(Settings::decode(&settings.encode(Some(u64::MAX))), Ok(settings));
        }
        assert!(Settings::INITIAL.encode(None).is_empty());
    }

    #[test]
    fn wrong_settings_are_refused() {
        for wrong in [
            &[1, 5, 1, 5][..],
            &[0x21, 0, 0x21, 0],
            &[8, 2],
            &[0x33, 2],
            &[0, 0],
            &[2, 1],
            &[3, 1],
            &[4, 1],
            &[5, 1],
        ] {
            assert_eq!(code(wrong), Code::H3_SETTINGS_ERROR, "{wrong:?}");
        }
        for wrong in [&[1][..], &[0x40], &[6, 0x80, 0, 0]] {
            assert_eq!(code(wrong), Code::H3_FRAME_ERROR, "{wrong:?}");
        }
        let many: Vec<u8> =
            (0x4100..0x4200_u16).flat_map(|id| [id.to_be_bytes().as_slice(), &[0]].concat()).collect();
        assert_eq!(code(&many), Code::H3_EXCESSIVE_LOAD);
    }

    #[test]
    fn remembered_settings_may_only_grow() {
        let old = Settings { h3_datagram: true, ..Settings::default() };
        let code = |new: Settings, old: &Settings| new.keep(old).err().map(|error| error.code);
        assert_eq!(code(old, &old), None);
        let more = Settings { max_field_section_size: None, qpack_blocked_streams: 17, ..old };
        assert_eq!(code(more, &old), None);
        assert_eq!(code(Settings { max_field_section_size: None, ..old }, &Settings::INITIAL), None);
        let short = Some(Code::H3_SETTINGS_ERROR);
        assert_eq!(code(old, &Settings::INITIAL), short, "there was no limit");
        assert_eq!(code(Settings { qpack_blocked_streams: 15, ..old }, &old), short);
        assert_eq!(code(Settings { max_field_section_size: Some(65535), ..old }, &old), short);
        assert_eq!(code(Settings { h3_datagram: false, ..old }, &old), short);
        for other in [0, 8192] {
            let changed = code(Settings { qpack_max_table_capacity: other, ..old }, &old);
            assert_eq!(changed, Some(Code::QPACK_DECODER_STREAM_ERROR));
        }
    }
}
