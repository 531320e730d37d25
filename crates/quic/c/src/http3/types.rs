//! What `coquic/ffi/http3.h` declares besides functions. The layouts are checked as those of `core.h` are.

#![allow(non_camel_case_types, reason = "the names are those of C")]
#![allow(dead_code, reason = "what this library never gives is declared, too")]
#![allow(unreachable_pub, reason = "this is the list of the header, which is public")]

use crate::types::*;
use std::ffi::c_char;
use std::mem::{align_of, offset_of, size_of};

pub type coquic_http3_error_code_t = u16;
pub const COQUIC_HTTP3_ERROR_NO_ERROR: coquic_http3_error_code_t = 0x0100;
pub const COQUIC_HTTP3_ERROR_GENERAL_PROTOCOL_ERROR: coquic_http3_error_code_t = 0x0101;
pub const COQUIC_HTTP3_ERROR_INTERNAL_ERROR: coquic_http3_error_code_t = 0x0102;
pub const COQUIC_HTTP3_ERROR_STREAM_CREATION_ERROR: coquic_http3_error_code_t = 0x0103;
pub const COQUIC_HTTP3_ERROR_CLOSED_CRITICAL_STREAM: coquic_http3_error_code_t = 0x0104;
pub const COQUIC_HTTP3_ERROR_FRAME_UNEXPECTED: coquic_http3_error_code_t = 0x0105;
pub const COQUIC_HTTP3_ERROR_FRAME_ERROR: coquic_http3_error_code_t = 0x0106;
pub const COQUIC_HTTP3_ERROR_EXCESSIVE_LOAD: coquic_http3_error_code_t = 0x0107;
pub const COQUIC_HTTP3_ERROR_ID_ERROR: coquic_http3_error_code_t = 0x0108;
pub const COQUIC_HTTP3_ERROR_SETTINGS_ERROR: coquic_http3_error_code_t = 0x0109;
pub const COQUIC_HTTP3_ERROR_MISSING_SETTINGS: coquic_http3_error_code_t = 0x010a;
pub const COQUIC_HTTP3_ERROR_REQUEST_REJECTED: coquic_http3_error_code_t = 0x010b;
pub const COQUIC_HTTP3_ERROR_REQUEST_CANCELLED: coquic_http3_error_code_t = 0x010c;
pub const COQUIC_HTTP3_ERROR_REQUEST_INCOMPLETE: coquic_http3_error_code_t = 0x010d;
pub const COQUIC_HTTP3_ERROR_MESSAGE_ERROR: coquic_http3_error_code_t = 0x010e;
pub const COQUIC_HTTP3_ERROR_CONNECT_ERROR: coquic_http3_error_code_t = 0x010f;
pub const COQUIC_HTTP3_ERROR_VERSION_FALLBACK: coquic_http3_error_code_t = 0x0110;
pub const COQUIC_HTTP3_ERROR_QPACK_DECOMPRESSION_FAILED: coquic_http3_error_code_t = 0x0200;
pub const COQUIC_HTTP3_ERROR_QPACK_ENCODER_STREAM_ERROR: coquic_http3_error_code_t = 0x0201;
pub const COQUIC_HTTP3_ERROR_QPACK_DECODER_STREAM_ERROR: coquic_http3_error_code_t = 0x0202;
pub const COQUIC_HTTP3_ERROR_DATAGRAM_ERROR: coquic_http3_error_code_t = 0x0033;

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_http3_optional_u64_t {
    pub has_value: u8,
    pub value: u64,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_http3_settings_t {
    pub size: usize,
    pub qpack_max_table_capacity: u64,
    pub qpack_blocked_streams: u64,
    pub max_field_section_size: coquic_http3_optional_u64_t,
    pub enable_connect_protocol: u8,
    pub h3_datagram: u8,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_http3_client_config_t {
    pub size: usize,
    pub local_settings: coquic_http3_settings_t,
    pub has_remembered_peer_settings: u8,
    pub remembered_peer_settings: coquic_http3_settings_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_http3_server_config_t {
    pub size: usize,
    pub local_settings: coquic_http3_settings_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_http3_field_t {
    pub name: *const c_char,
    pub name_length: usize,
    pub value: *const c_char,
    pub value_length: usize,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_http3_field_view_t {
    pub name: coquic_bytes_view_t,
    pub value: coquic_bytes_view_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_http3_request_head_t {
    pub size: usize,
    pub method: *const c_char,
    pub method_length: usize,
    pub scheme: *const c_char,
    pub scheme_length: usize,
    pub authority: *const c_char,
    pub authority_length: usize,
    pub path: *const c_char,
    pub path_length: usize,
    pub content_length: coquic_http3_optional_u64_t,
    pub headers: *const coquic_http3_field_t,
    pub headers_count: usize,
    pub has_protocol: u8,
    pub protocol: *const c_char,
    pub protocol_length: usize,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_http3_response_head_t {
    pub size: usize,
    pub status: u16,
    pub content_length: coquic_http3_optional_u64_t,
    pub headers: *const coquic_http3_field_t,
    pub headers_count: usize,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_http3_request_t {
    pub size: usize,
    pub head: coquic_http3_request_head_t,
    pub body: coquic_bytes_t,
    pub trailers: *const coquic_http3_field_t,
    pub trailers_count: usize,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_http3_request_head_view_t {
    pub method: coquic_bytes_view_t,
    pub scheme: coquic_bytes_view_t,
    pub authority: coquic_bytes_view_t,
    pub path: coquic_bytes_view_t,
    pub has_protocol: u8,
    pub protocol: coquic_bytes_view_t,
    pub content_length: coquic_http3_optional_u64_t,
    pub headers: *const coquic_http3_field_view_t,
    pub headers_count: usize,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_http3_response_head_view_t {
    pub status: u16,
    pub content_length: coquic_http3_optional_u64_t,
    pub headers: *const coquic_http3_field_view_t,
    pub headers_count: usize,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_http3_request_view_t {
    pub head: coquic_http3_request_head_view_t,
    pub body: coquic_bytes_view_t,
    pub trailers: *const coquic_http3_field_view_t,
    pub trailers_count: usize,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_http3_response_view_t {
    pub interim_heads: *const coquic_http3_response_head_view_t,
    pub interim_head_count: usize,
    pub head: coquic_http3_response_head_view_t,
    pub body: coquic_bytes_view_t,
    pub trailers: *const coquic_http3_field_view_t,
    pub trailers_count: usize,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_http3_client_response_event_t {
    pub stream_id: coquic_stream_id_t,
    pub request: coquic_http3_request_view_t,
    pub response: coquic_http3_response_view_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_http3_client_request_error_event_t {
    pub stream_id: coquic_stream_id_t,
    pub request: coquic_http3_request_view_t,
    pub application_error_code: u64,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_http3_client_push_response_event_t {
    pub request_stream_id: coquic_stream_id_t,
    pub push_id: u64,
    pub request: coquic_http3_request_head_view_t,
    pub response: coquic_http3_response_view_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_http3_client_push_error_event_t {
    pub push_id: u64,
    pub has_request: u8,
    pub request: coquic_http3_request_head_view_t,
    pub application_error_code: u64,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_http3_priority_update_event_t {
    pub id: u64,
    pub push: u8,
    pub priority_field_value: coquic_bytes_view_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_http3_datagram_event_t {
    pub stream_id: coquic_stream_id_t,
    pub payload: coquic_bytes_view_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_http3_server_request_cancelled_event_t {
    pub stream_id: coquic_stream_id_t,
    pub has_head: u8,
    pub head: coquic_http3_request_head_view_t,
    pub body: coquic_bytes_view_t,
    pub trailers: *const coquic_http3_field_view_t,
    pub trailers_count: usize,
    pub application_error_code: u64,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_http3_error_t {
    pub code: coquic_http3_error_code_t,
    pub stream_id: coquic_optional_stream_id_t,
    pub detail_buffer: *mut c_char,
    pub detail_buffer_capacity: usize,
    pub detail_length: usize,
    pub detail_truncated: u8,
}

/// Beyond the original.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_http3_response_t {
    pub size: usize,
    pub interim_heads: *const coquic_http3_response_head_t,
    pub interim_heads_count: usize,
    pub head: coquic_http3_response_head_t,
    pub body: coquic_bytes_t,
    pub trailers: *const coquic_http3_field_t,
    pub trailers_count: usize,
}

/// Beyond the original.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_http3_server_request_event_t {
    pub stream_id: coquic_stream_id_t,
    pub request: coquic_http3_request_view_t,
}

layout! {
    coquic_http3_optional_u64_t 16 / 16 8 / 8 {
        has_value 0 / 0
        value 8 / 8
    }
    coquic_http3_settings_t 48 / 48 8 / 8 {
        size 0 / 0
        qpack_max_table_capacity 8 / 8
        qpack_blocked_streams 16 / 16
        max_field_section_size 24 / 24
        enable_connect_protocol 40 / 40
        h3_datagram 41 / 41
    }
    coquic_http3_client_config_t 112 / 112 8 / 8 {
        size 0 / 0
        local_settings 8 / 8
        has_remembered_peer_settings 56 / 56
        remembered_peer_settings 64 / 64
    }
    coquic_http3_server_config_t 56 / 56 8 / 8 {
        size 0 / 0
        local_settings 8 / 8
    }
    coquic_http3_field_t 32 / 16 8 / 4 {
        name 0 / 0
        name_length 8 / 4
        value 16 / 8
        value_length 24 / 12
    }
    coquic_http3_field_view_t 32 / 16 8 / 4 {
        name 0 / 0
        value 16 / 8
    }
    coquic_http3_request_head_t 128 / 80 8 / 8 {
        size 0 / 0
        method 8 / 4
        method_length 16 / 8
        scheme 24 / 12
        scheme_length 32 / 16
        authority 40 / 20
        authority_length 48 / 24
        path 56 / 28
        path_length 64 / 32
        content_length 72 / 40
        headers 88 / 56
        headers_count 96 / 60
        has_protocol 104 / 64
        protocol 112 / 68
        protocol_length 120 / 72
    }
    coquic_http3_response_head_t 48 / 32 8 / 8 {
        size 0 / 0
        status 8 / 4
        content_length 16 / 8
        headers 32 / 24
        headers_count 40 / 28
    }
    coquic_http3_request_t 168 / 104 8 / 8 {
        size 0 / 0
        head 8 / 8
        body 136 / 88
        trailers 152 / 96
        trailers_count 160 / 100
    }
    coquic_http3_request_head_view_t 120 / 72 8 / 8 {
        method 0 / 0
        scheme 16 / 8
        authority 32 / 16
        path 48 / 24
        has_protocol 64 / 32
        protocol 72 / 36
        content_length 88 / 48
        headers 104 / 64
        headers_count 112 / 68
    }
    coquic_http3_response_head_view_t 40 / 32 8 / 8 {
        status 0 / 0
        content_length 8 / 8
        headers 24 / 24
        headers_count 32 / 28
    }
    coquic_http3_request_view_t 152 / 88 8 / 8 {
        head 0 / 0
        body 120 / 72
        trailers 136 / 80
        trailers_count 144 / 84
    }
    coquic_http3_response_view_t 88 / 56 8 / 8 {
        interim_heads 0 / 0
        interim_head_count 8 / 4
        head 16 / 8
        body 56 / 40
        trailers 72 / 48
        trailers_count 80 / 52
    }
    coquic_http3_client_response_event_t 248 / 152 8 / 8 {
        stream_id 0 / 0
        request 8 / 8
        response 160 / 96
    }
    coquic_http3_client_request_error_event_t 168 / 104 8 / 8 {
        stream_id 0 / 0
        request 8 / 8
        application_error_code 160 / 96
    }
    coquic_http3_client_push_response_event_t 224 / 144 8 / 8 {
        request_stream_id 0 / 0
        push_id 8 / 8
        request 16 / 16
        response 136 / 88
    }
    coquic_http3_client_push_error_event_t 144 / 96 8 / 8 {
        push_id 0 / 0
        has_request 8 / 8
        request 16 / 16
        application_error_code 136 / 88
    }
    coquic_http3_priority_update_event_t 32 / 24 8 / 8 {
        id 0 / 0
        push 8 / 8
        priority_field_value 16 / 12
    }
    coquic_http3_datagram_event_t 24 / 16 8 / 8 {
        stream_id 0 / 0
        payload 8 / 8
    }
    coquic_http3_server_request_cancelled_event_t 176 / 112 8 / 8 {
        stream_id 0 / 0
        has_head 8 / 8
        head 16 / 16
        body 136 / 88
        trailers 152 / 96
        trailers_count 160 / 100
        application_error_code 168 / 104
    }
    coquic_http3_error_t 56 / 40 8 / 8 {
        code 0 / 0
        stream_id 8 / 8
        detail_buffer 24 / 24
        detail_buffer_capacity 32 / 28
        detail_length 40 / 32
        detail_truncated 48 / 36
    }
    coquic_http3_response_t 104 / 64 8 / 8 {
        size 0 / 0
        interim_heads 8 / 4
        interim_heads_count 16 / 8
        head 24 / 16
        body 72 / 48
        trailers 88 / 56
        trailers_count 96 / 60
    }
    coquic_http3_server_request_event_t 160 / 96 8 / 8 {
        stream_id 0 / 0
        request 8 / 8
    }
}
