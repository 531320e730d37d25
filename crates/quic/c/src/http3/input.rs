//! What C gives, as Rust values; as in `crate::input`, whose promise about pointers holds here, too.

use super::types::*;
use crate::input::{Given, Versioned, bytes, known, slice};
use crate::types::*;
use coquic::Status;
use http3::whole::{Request, Response};
use http3::{Field, RequestHead, ResponseHead, Settings};
use std::ffi::c_char;
use std::mem::{offset_of, size_of};

macro_rules! sized {
    ($($name:ident: $($last:ident $of:ty),*;)*) => {$(
        impl Versioned for $name {
            const ENDS: &'static [usize] = &[$(offset_of!($name, $last) + size_of::<$of>()),*];
            fn defaults() -> Self {
                // SAFETY: integers and pointers, for all of which zero is a value.
                unsafe { std::mem::zeroed() }
            }
        }
    )*};
}

sized! {
    coquic_http3_settings_t: max_field_section_size coquic_http3_optional_u64_t, h3_datagram u8;
    coquic_http3_client_config_t: local_settings coquic_http3_settings_t,
        remembered_peer_settings coquic_http3_settings_t;
    coquic_http3_server_config_t: local_settings coquic_http3_settings_t;
    coquic_http3_request_head_t: headers_count usize, protocol_length usize;
    coquic_http3_response_head_t: headers_count usize;
    coquic_http3_request_t: trailers_count usize;
    coquic_http3_response_t: trailers_count usize;
}

/// # Safety
/// NULL, or a struct of the size that it tells.
pub(super) unsafe fn settings(given: *const coquic_http3_settings_t) -> Given<Settings> {
    // SAFETY: as above.
    let given = unsafe { known(given) }?;
    Ok(Settings {
        qpack_max_table_capacity: given.qpack_max_table_capacity,
        qpack_blocked_streams: given.qpack_blocked_streams,
        max_field_section_size: optional(given.max_field_section_size),
        enable_connect_protocol: given.enable_connect_protocol != 0,
        h3_datagram: given.h3_datagram != 0,
    })
}

/// # Safety
/// NULL, or what the type says.
pub(super) unsafe fn request(given: *const coquic_http3_request_t) -> Given<Request> {
    // SAFETY: as above, here and for every part.
    unsafe {
        let given = known(given)?;
        Ok(Request {
            head: request_head(&raw const given.head)?,
            body: bytes(given.body)?.to_vec(),
            trailers: fields(given.trailers, given.trailers_count)?,
        })
    }
}

/// # Safety
/// NULL, or what the type says.
pub(super) unsafe fn request_head(given: *const coquic_http3_request_head_t) -> Given<RequestHead> {
    // SAFETY: as above, here and for every part.
    unsafe {
        let given = known(given)?;
        let protocol = match given.has_protocol {
            0 => None,
            _ => Some(text(given.protocol, given.protocol_length)?),
        };
        Ok(RequestHead {
            method: text(given.method, given.method_length)?,
            scheme: text(given.scheme, given.scheme_length)?,
            authority: text(given.authority, given.authority_length)?,
            path: text(given.path, given.path_length)?,
            protocol,
            content_length: optional(given.content_length),
            fields: fields(given.headers, given.headers_count)?,
        })
    }
}

/// # Safety
/// NULL, or what the type says.
pub(super) unsafe fn response(given: *const coquic_http3_response_t) -> Given<Response> {
    // SAFETY: as above, here and for every part.
    unsafe {
        let given = known(given)?;
        let mut interim = Vec::new();
        for head in slice(given.interim_heads, given.interim_heads_count)? {
            interim.push(response_head(head)?);
        }
        Ok(Response {
            interim,
            head: response_head(&raw const given.head)?,
            body: bytes(given.body)?.to_vec(),
            trailers: fields(given.trailers, given.trailers_count)?,
        })
    }
}

/// # Safety
/// NULL, or what the type says.
pub(super) unsafe fn response_head(given: *const coquic_http3_response_head_t) -> Given<ResponseHead> {
    // SAFETY: as above, here and for every part.
    unsafe {
        let given = known(given)?;
        Ok(ResponseHead {
            status: given.status,
            content_length: optional(given.content_length),
            fields: fields(given.headers, given.headers_count)?,
        })
    }
}

/// # Safety
/// So many fields, or none.
pub(super) unsafe fn fields(given: *const coquic_http3_field_t, count: usize) -> Given<Vec<Field>> {
    // SAFETY: as above, here and for every part.
    unsafe {
        let field = |field: &coquic_http3_field_t| {
            Ok(Field::new(text(field.name, field.name_length)?, text(field.value, field.value_length)?))
        };
        slice(given, count)?.iter().map(field).collect()
    }
}

/// # Safety
/// So many bytes, or none.
pub(super) unsafe fn text(data: *const c_char, length: usize) -> Given<Vec<u8>> {
    // SAFETY: as above.
    unsafe { bytes(coquic_bytes_t { data: data.cast(), length }) }.map(<[u8]>::to_vec)
}

/// The struct at a pointer that may be NULL.
///
/// # Safety
/// NULL, or what the type says, for as long as `'a`.
pub(super) unsafe fn at<'a, T>(given: *const T) -> Given<&'a T> {
    // SAFETY: as above.
    unsafe { given.as_ref() }.ok_or(Status::InvalidArgument)
}

fn optional(given: coquic_http3_optional_u64_t) -> Option<u64> {
    (given.has_value != 0).then_some(given.value)
}
