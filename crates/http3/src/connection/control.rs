//! The peer's unidirectional streams, and the frames of its control stream (RFC 9114, sections 6.2 and 7.2).

use super::{
    Action, Connection, Event, Role, STREAM_CONTROL, STREAM_DECODER, STREAM_ENCODER, STREAM_PUSH, Target,
};
use crate::error::{Code, ConnectionError, Failure};
use crate::frame::{self, FrameReader, Payload, Piece};
use crate::settings::Settings;
use crate::varint;

/// The longest frame on a control stream that is kept.
const MAX_CONTROL_FRAME: u64 = 4096;

/// Streams of the peer whose first bytes have not come, besides those we know.
const MAX_INCOMING: usize = 128;

/// Pushes that were given up before their streams came.
const MAX_CANCELLED: usize = 4096;

#[derive(Debug)]
pub(super) enum Incoming {
    /// The type, and of a push its number, have not wholly come.
    Beginning(Vec<u8>),
    Control(ControlReader),
    Encoder,
    Decoder,
}

#[derive(Debug, Default)]
pub(super) struct ControlReader {
    frames: FrameReader,
    has_settings: bool,
}

impl Connection {
    pub(super) fn on_unidirectional(
        &mut self,
        id: u64,
        data: &[u8],
        fin: bool,
    ) -> Result<(), ConnectionError> {
        if !self.incoming.contains_key(&id) {
            if !self.is_new_unidirectional(id)? {
                return Ok(());
            }
            if self.incoming.len() == MAX_INCOMING {
                return error(Code::H3_EXCESSIVE_LOAD, "too many streams without a type");
            }
            self.incoming.insert(id, Box::new(Incoming::Beginning(Vec::new())));
        }
        match self.incoming.get_mut(&id).map(|incoming| &mut **incoming) {
            Some(Incoming::Beginning(bytes)) => {
                bytes.extend_from_slice(data);
                let bytes = std::mem::take(bytes);
                self.begin(id, bytes, fin)?;
            }
            Some(Incoming::Control(_)) => self.on_control(id, data)?,
            Some(Incoming::Encoder) => self.on_encoder(data)?,
            Some(Incoming::Decoder) => self.encoder.on_decoder_stream(data)?,
            None => {}
        }
        match self.incoming.get(&id).map(|incoming| &**incoming) {
            Some(Incoming::Beginning(_)) if fin => {
                self.incoming.remove(&id);
                Ok(())
            }
            Some(_) if fin => error(Code::H3_CLOSED_CRITICAL_STREAM, "a critical stream ended"),
            _ => Ok(()),
        }
    }

    pub(super) fn on_unidirectional_reset(&mut self, id: u64, code: Code) -> Result<(), ConnectionError> {
        match self.incoming.remove(&id).map(|incoming| *incoming) {
            Some(Incoming::Beginning(_)) => Ok(()),
            Some(_) => error(Code::H3_CLOSED_CRITICAL_STREAM, "a critical stream was reset"),
            None => {
                self.is_new_unidirectional(id)?;
                self.on_message_reset(id, code);
                Ok(())
            }
        }
    }

    fn is_new_unidirectional(&mut self, id: u64) -> Result<bool, ConnectionError> {
        let too_many =
            ConnectionError { code: Code::H3_EXCESSIVE_LOAD, reason: "too many streams were left out" };
        self.seen_unidirectional.is_new(id / 4).ok_or(too_many)
    }

    /// Handles the first bytes of a stream, if they are enough to know what it is.
    fn begin(&mut self, id: u64, bytes: Vec<u8>, fin: bool) -> Result<(), ConnectionError> {
        let mut rest = &bytes[..];
        let Some(ty) = varint::read(&mut rest) else {
            self.incoming.insert(id, Box::new(Incoming::Beginning(bytes)));
            return Ok(());
        };
        let critical = match ty {
            STREAM_CONTROL => Incoming::Control(ControlReader::default()),
            STREAM_ENCODER => Incoming::Encoder,
            STREAM_DECODER => Incoming::Decoder,
            STREAM_PUSH if self.role == Role::Server => {
                return error(Code::H3_STREAM_CREATION_ERROR, "a push stream of the client");
            }
            STREAM_PUSH => {
                let Some(push) = varint::read(&mut rest) else {
                    self.incoming.insert(id, Box::new(Incoming::Beginning(bytes)));
                    return Ok(());
                };
                self.incoming.remove(&id);
                return self.begin_push(id, push, rest, fin);
            }
            _ => {
                self.incoming.remove(&id);
                if !fin {
                    let code = Code::H3_STREAM_CREATION_ERROR;
                    self.actions.push_back(Action::StopSending { stream: id, code });
                }
                return Ok(());
            }
        };
        if !self.critical.insert(ty) {
            return error(Code::H3_STREAM_CREATION_ERROR, "a critical stream was opened twice");
        }
        self.incoming.insert(id, Box::new(critical));
        match ty {
            STREAM_CONTROL => self.on_control(id, rest),
            STREAM_ENCODER => self.on_encoder(rest),
            _ => self.encoder.on_decoder_stream(rest),
        }
    }

    fn begin_push(&mut self, id: u64, push: u64, rest: &[u8], fin: bool) -> Result<(), ConnectionError> {
        if self.max_push.is_none_or(|max| push > max) {
            return error(Code::H3_ID_ERROR, "a push beyond the limit");
        }
        match self.seen_pushes.is_new(push) {
            None => return error(Code::H3_EXCESSIVE_LOAD, "too many pushes were left out"),
            Some(false) => return error(Code::H3_ID_ERROR, "two streams of one push"),
            Some(true) => {}
        }
        let is_unwanted = self.unwanted.remove(&push)
            || self.cancelled.remove(&push)
            || self.goaway_sent.is_some_and(|first| push >= first);
        if is_unwanted || self.streams.len() >= self.config.max_requests {
            let code = Code::H3_REQUEST_CANCELLED;
            self.actions.push_back(Action::StopSending { stream: id, code });
            self.decoder.cancel(id);
            if !is_unwanted {
                self.events.push_back(Event::PushCancelled { push });
                self.pushes.remove(&push);
            }
            return Ok(());
        }
        self.open_push(id, push);
        self.feed(id, rest, fin);
        Ok(())
    }

    fn on_encoder(&mut self, data: &[u8]) -> Result<(), ConnectionError> {
        self.decoder.on_encoder_stream(data)?;
        self.feed_unblocked();
        Ok(())
    }

    fn on_control(&mut self, id: u64, mut data: &[u8]) -> Result<(), ConnectionError> {
        let Some(Incoming::Control(reader)) = self.incoming.get_mut(&id).map(|incoming| &mut **incoming)
        else {
            return Ok(());
        };
        let mut reader = std::mem::take(reader);
        loop {
            let (role, has_settings) = (self.role, reader.has_settings);
            match reader.frames.next(&mut data, |ty| judge(role, has_settings, ty)) {
                Ok(Some(Piece::Whole(ty, payload))) => {
                    reader.has_settings = true;
                    self.on_control_frame(ty, &payload)?;
                }
                Ok(Some(Piece::Part(_))) => {}
                Ok(None) => break,
                Err(Failure::Connection(error)) => return Err(error),
                Err(Failure::Stream(code)) => {
                    return error(code, "a frame of the control stream is too long");
                }
            }
        }
        self.incoming.insert(id, Box::new(Incoming::Control(reader)));
        Ok(())
    }

    fn on_control_frame(&mut self, ty: u64, mut payload: &[u8]) -> Result<(), ConnectionError> {
        if ty == frame::SETTINGS {
            return self.on_settings(Settings::decode(payload)?);
        }
        let Some(id) = varint::read(&mut payload) else {
            return error(Code::H3_FRAME_ERROR, "a frame is too short");
        };
        if matches!(ty, frame::PRIORITY_UPDATE_REQUEST | frame::PRIORITY_UPDATE_PUSH) {
            return self.on_priority(ty, id, payload);
        }
        if !payload.is_empty() {
            return error(Code::H3_FRAME_ERROR, "a frame is too long");
        }
        match ty {
            frame::GOAWAY => self.on_goaway(id),
            frame::MAX_PUSH_ID => {
                if self.max_push.is_some_and(|before| id < before) {
                    return error(Code::H3_ID_ERROR, "MAX_PUSH_ID went down");
                }
                self.max_push = Some(id);
                self.events.push_back(Event::MaxPushId(id));
                Ok(())
            }
            _ => self.on_cancel_push(id),
        }
    }

    fn on_settings(&mut self, settings: Settings) -> Result<(), ConnectionError> {
        if let Some(remembered) = self.remembered {
            settings.keep(&remembered)?;
        }
        self.has_settings = true;
        self.go_by(settings);
        self.events.push_back(Event::Settings(settings));
        Ok(())
    }

    pub(super) fn go_by(&mut self, settings: Settings) {
        self.peer = settings;
        self.encoder.set_limits(settings.qpack_max_table_capacity, settings.qpack_blocked_streams);
        let instructions = self.encoder.take_instructions();
        self.outbox.push_urgent(self.encoder_stream(), &instructions);
    }

    fn on_goaway(&mut self, id: u64) -> Result<(), ConnectionError> {
        if self.role == Role::Client && id & 3 != 0 {
            return error(Code::H3_ID_ERROR, "GOAWAY names no request");
        }
        if self.goaway_received.is_some_and(|before| id > before) {
            return error(Code::H3_ID_ERROR, "GOAWAY went up");
        }
        self.goaway_received = Some(id);
        self.events.push_back(Event::GoAway { id });
        if self.role == Role::Client {
            self.reject_from(id);
        }
        Ok(())
    }

    fn on_priority(&mut self, ty: u64, id: u64, value: &[u8]) -> Result<(), ConnectionError> {
        let target =
            if ty == frame::PRIORITY_UPDATE_REQUEST { Target::Request(id) } else { Target::Push(id) };
        let is_valid = match target {
            Target::Request(id) => id & 3 == 0,
            Target::Push(id) => id < self.next_push,
        };
        if !is_valid {
            return error(Code::H3_ID_ERROR, "a priority of what cannot be");
        }
        self.events.push_back(Event::Priority { target, value: value.to_vec() });
        Ok(())
    }

    fn on_cancel_push(&mut self, push: u64) -> Result<(), ConnectionError> {
        let exists = match self.role {
            Role::Client => self.max_push.is_some_and(|max| push <= max),
            Role::Server => push < self.next_push,
        };
        if !exists {
            return error(Code::H3_ID_ERROR, "CANCEL_PUSH of what cannot be");
        }
        let known = self.pushes.remove(&push);
        let is_new = known.is_none();
        if let Some(known) = known {
            if let Some(id) = known.stream
                && let Some(stream) = self.streams.remove(&id)
            {
                self.abandon(id, &stream, Code::H3_REQUEST_CANCELLED);
            }
            self.events.push_back(Event::PushCancelled { push });
        }
        // What comes of it later is no matter; but its promise may be on its way (RFC 9114, section 7.2.3).
        if self.role == Role::Client && !self.seen_pushes.has(push) && !self.unwanted.contains(&push) {
            if is_new { &mut self.cancelled } else { &mut self.unwanted }.insert(push);
            if self.cancelled.len() + self.unwanted.len() > MAX_CANCELLED {
                return error(Code::H3_EXCESSIVE_LOAD, "too many pushes were cancelled");
            }
        }
        Ok(())
    }
}

/// Whether a frame has its place on a control stream.
fn judge(role: Role, has_settings: bool, ty: u64) -> Result<Payload, ConnectionError> {
    if has_settings == (ty == frame::SETTINGS) {
        return if has_settings {
            error(Code::H3_FRAME_UNEXPECTED, "SETTINGS came twice")
        } else {
            error(Code::H3_MISSING_SETTINGS, "SETTINGS is not the first frame")
        };
    }
    match ty {
        frame::SETTINGS | frame::GOAWAY | frame::CANCEL_PUSH => Ok(Payload::Whole(MAX_CONTROL_FRAME)),
        frame::MAX_PUSH_ID | frame::PRIORITY_UPDATE_REQUEST | frame::PRIORITY_UPDATE_PUSH
            if role == Role::Server =>
        {
            Ok(Payload::Whole(MAX_CONTROL_FRAME))
        }
        frame::DATA
        | frame::HEADERS
        | frame::PUSH_PROMISE
        | frame::MAX_PUSH_ID
        | frame::PRIORITY_UPDATE_REQUEST
        | frame::PRIORITY_UPDATE_PUSH => {
            error(Code::H3_FRAME_UNEXPECTED, "a frame that has no place on the control stream")
        }
        _ if frame::is_of_http2(ty) => error(Code::H3_FRAME_UNEXPECTED, "a frame of HTTP/2"),
        _ => Ok(Payload::Skip),
    }
}

fn error<T>(code: Code, reason: &'static str) -> Result<T, ConnectionError> {
    Err(ConnectionError { code, reason })
}
