//! Messages as C sees them: structs of pointers into messages that an update keeps.

use super::types::*;
use crate::types::*;
use http3::whole::{Input, Request, Response};
use http3::{Field, RequestHead, ResponseHead, Target};
use std::ffi::c_char;
use std::mem::size_of;
use std::ptr;

/// The arrays that views point to. What a vector has allocated stays where it is when the vector moves.
#[derive(Default)]
pub(super) struct Arrays {
    fields: Vec<Vec<coquic_http3_field_view_t>>,
    heads: Vec<Vec<coquic_http3_response_head_view_t>>,
}

impl Arrays {
    pub(super) fn request(&mut self, request: &Request) -> coquic_http3_request_view_t {
        let (trailers, trailers_count) = self.fields(&request.trailers);
        let head = self.request_head(&request.head);
        coquic_http3_request_view_t { head, body: view(&request.body), trailers, trailers_count }
    }

    pub(super) fn request_head(&mut self, head: &RequestHead) -> coquic_http3_request_head_view_t {
        let (headers, headers_count) = self.fields(&head.fields);
        coquic_http3_request_head_view_t {
            method: view(&head.method),
            scheme: view(&head.scheme),
            authority: view(&head.authority),
            path: view(&head.path),
            has_protocol: head.protocol.is_some().into(),
            protocol: view(head.protocol.as_deref().unwrap_or_default()),
            content_length: optional(head.content_length),
            headers,
            headers_count,
        }
    }

    pub(super) fn response(&mut self, response: &Response) -> coquic_http3_response_view_t {
        let heads: Vec<_> = response.interim.iter().map(|head| self.response_head(head)).collect();
        let (interim_heads, interim_head_count) = array(&heads);
        self.heads.push(heads);
        let (trailers, trailers_count) = self.fields(&response.trailers);
        let head = self.response_head(&response.head);
        let body = view(&response.body);
        coquic_http3_response_view_t {
            interim_heads,
            interim_head_count,
            head,
            body,
            trailers,
            trailers_count,
        }
    }

    pub(super) fn fields(&mut self, fields: &[Field]) -> (*const coquic_http3_field_view_t, usize) {
        let views: Vec<_> = fields
            .iter()
            .map(|field| coquic_http3_field_view_t { name: view(&field.name), value: view(&field.value) })
            .collect();
        let array = array(&views);
        self.fields.push(views);
        array
    }

    fn response_head(&mut self, head: &ResponseHead) -> coquic_http3_response_head_view_t {
        let (headers, headers_count) = self.fields(&head.fields);
        let content_length = optional(head.content_length);
        coquic_http3_response_head_view_t { status: head.status, content_length, headers, headers_count }
    }
}

pub(super) fn priority(target: Target, value: &[u8]) -> coquic_http3_priority_update_event_t {
    let (id, push) = match target {
        Target::Request(id) => (id, 0),
        Target::Push(id) => (id, 1),
    };
    coquic_http3_priority_update_event_t { id, push, priority_field_value: view(value) }
}

pub(super) fn datagrams(datagrams: &[(u64, Vec<u8>)]) -> Vec<coquic_http3_datagram_event_t> {
    let event = |(stream_id, payload): &(u64, Vec<u8>)| coquic_http3_datagram_event_t {
        stream_id: *stream_id,
        payload: view(payload),
    };
    datagrams.iter().map(event).collect()
}

pub(super) fn connection_input(input: &Input) -> coquic_connection_input_t {
    let (kind, r#as) = match input {
        Input::Send { stream, data, fin } => {
            let send_stream = coquic_send_stream_data_t {
                size: size_of::<coquic_send_stream_data_t>(),
                stream_id: *stream,
                bytes: bytes(data),
                fin: (*fin).into(),
                priority: 0,
            };
            (COQUIC_CONNECTION_INPUT_SEND_STREAM, coquic_connection_input_as { send_stream })
        }
        Input::Datagram(data) => {
            let send_datagram = coquic_send_datagram_data_t {
                size: size_of::<coquic_send_datagram_data_t>(),
                bytes: bytes(data),
                priority: 0,
            };
            (COQUIC_CONNECTION_INPUT_SEND_DATAGRAM, coquic_connection_input_as { send_datagram })
        }
        Input::Reset { stream, code } => {
            let reset_stream = coquic_reset_stream_t {
                size: size_of::<coquic_reset_stream_t>(),
                stream_id: *stream,
                application_error_code: code.0,
            };
            (COQUIC_CONNECTION_INPUT_RESET_STREAM, coquic_connection_input_as { reset_stream })
        }
        Input::StopSending { stream, code } => {
            let stop_sending = coquic_stop_sending_t {
                size: size_of::<coquic_stop_sending_t>(),
                stream_id: *stream,
                application_error_code: code.0,
            };
            (COQUIC_CONNECTION_INPUT_STOP_SENDING, coquic_connection_input_as { stop_sending })
        }
        Input::Close(error) => {
            let close = coquic_close_connection_t {
                size: size_of::<coquic_close_connection_t>(),
                application_error_code: error.code.0,
                reason_phrase: error.reason.as_ptr().cast::<c_char>(),
                reason_phrase_length: error.reason.len(),
            };
            (COQUIC_CONNECTION_INPUT_CLOSE, coquic_connection_input_as { close })
        }
    };
    coquic_connection_input_t { kind, r#as }
}

pub(super) fn view(bytes: &[u8]) -> coquic_bytes_view_t {
    let (data, length) = array(bytes);
    coquic_bytes_view_t { data, length }
}

fn bytes(bytes: &[u8]) -> coquic_bytes_t {
    let (data, length) = array(bytes);
    coquic_bytes_t { data, length }
}

/// Nothing is NULL, not a pointer to nowhere.
fn array<T>(all: &[T]) -> (*const T, usize) {
    (if all.is_empty() { ptr::null() } else { all.as_ptr() }, all.len())
}

pub(super) fn optional(value: Option<u64>) -> coquic_http3_optional_u64_t {
    coquic_http3_optional_u64_t { has_value: value.is_some().into(), value: value.unwrap_or(0) }
}
