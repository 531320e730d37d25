//! The functions of `coquic/ffi/core.h`, in its order.

use crate::input::{self, Given};
use crate::types::*;
use coquic::*;
use ffi_bridge_guard::guard;
use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::ptr;

/// What C calls an endpoint. Where a panic left one borrowed, it can only be destroyed.
pub(crate) type Handle = RefCell<Endpoint>;

type Out = *mut *mut Output;

#[unsafe(no_mangle)]
extern "C" fn coquic_ffi_abi_version() -> u32 {
    COQUIC_FFI_ABI_VERSION
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_transport_config_init(config: *mut coquic_transport_config_t) {
    if !config.is_null() {
        // SAFETY: the caller's promise: room for one.
        unsafe { config.write(input::transport_defaults()) };
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_endpoint_config_init(config: *mut coquic_endpoint_config_t) {
    if !config.is_null() {
        // SAFETY: the caller's promise: room for one.
        unsafe { config.write(input::Versioned::defaults()) };
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_client_connection_config_init(config: *mut coquic_client_connection_config_t) {
    if !config.is_null() {
        // SAFETY: the caller's promise: room for one.
        unsafe { config.write(input::client_connection_defaults()) };
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_endpoint_create(
    config: *const coquic_endpoint_config_t,
    out_endpoint: *mut *mut Handle,
) -> coquic_status_t {
    status(|| {
        // SAFETY: the caller's promise: NULL or room for a pointer.
        let out = unsafe { emptied(out_endpoint) }?;
        // SAFETY: the caller's promise: NULL or a configuration.
        let config = unsafe { input::endpoint_config(config) }?;
        *out = Box::into_raw(Box::new(RefCell::new(Endpoint::new(&config)?)));
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_endpoint_destroy(endpoint: *mut Handle) {
    if !endpoint.is_null() {
        // What fails on the way down is not for C.
        // SAFETY: the caller's promise: it is from coquic_endpoint_create, and not used any more.
        let _ = guard(AssertUnwindSafe(|| drop(unsafe { Box::from_raw(endpoint) })));
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_endpoint_open_connection(
    endpoint: *mut Handle,
    input: *const coquic_open_connection_t,
    now: coquic_time_us_t,
    out_result: Out,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or an endpoint, room for a pointer, and what the input points to.
    unsafe {
        call(endpoint, out_result, |endpoint| {
            let input = input::open_connection(input)?;
            endpoint.open_connection(&input, now)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_endpoint_input_datagram(
    endpoint: *mut Handle,
    input: *const coquic_inbound_datagram_t,
    now: coquic_time_us_t,
    out_result: Out,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or an endpoint, room for a pointer, and what the input points to.
    unsafe {
        call(endpoint, out_result, |endpoint| {
            let input = input::inbound_datagram(input)?;
            endpoint.input_datagram(input, now)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_endpoint_update_path_mtu(
    endpoint: *mut Handle,
    input: *const coquic_path_mtu_update_t,
    now: coquic_time_us_t,
    out_result: Out,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or an endpoint, room for a pointer, and what the input points to.
    unsafe {
        call(endpoint, out_result, |endpoint| {
            let input = input::path_mtu_update(input)?;
            endpoint.update_path_mtu(&input, now)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_endpoint_timer_expired(
    endpoint: *mut Handle,
    now: coquic_time_us_t,
    out_result: Out,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or an endpoint, room for a pointer.
    unsafe { call(endpoint, out_result, |endpoint| endpoint.timer_expired(now)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_connection_send_stream(
    endpoint: *mut Handle,
    connection: coquic_connection_handle_t,
    input: *const coquic_send_stream_data_t,
    now: coquic_time_us_t,
    out_result: Out,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or an endpoint, room for a pointer, and what the input points to.
    unsafe {
        call(endpoint, out_result, |endpoint| {
            let input = input::send_stream(input)?;
            endpoint.connection_advance(connection, input, now)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_connection_send_datagram(
    endpoint: *mut Handle,
    connection: coquic_connection_handle_t,
    input: *const coquic_send_datagram_data_t,
    now: coquic_time_us_t,
    out_result: Out,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or an endpoint, room for a pointer, and what the input points to.
    unsafe {
        call(endpoint, out_result, |endpoint| {
            let input = input::send_datagram(input)?;
            endpoint.connection_advance(connection, input, now)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_connection_reset_stream(
    endpoint: *mut Handle,
    connection: coquic_connection_handle_t,
    input: *const coquic_reset_stream_t,
    now: coquic_time_us_t,
    out_result: Out,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or an endpoint, room for a pointer, and what the input points to.
    unsafe {
        call(endpoint, out_result, |endpoint| {
            let input = input::reset_stream(input)?;
            endpoint.connection_advance(connection, input, now)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_connection_stop_sending(
    endpoint: *mut Handle,
    connection: coquic_connection_handle_t,
    input: *const coquic_stop_sending_t,
    now: coquic_time_us_t,
    out_result: Out,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or an endpoint, room for a pointer, and what the input points to.
    unsafe {
        call(endpoint, out_result, |endpoint| {
            let input = input::stop_sending(input)?;
            endpoint.connection_advance(connection, input, now)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_connection_close(
    endpoint: *mut Handle,
    connection: coquic_connection_handle_t,
    input: *const coquic_close_connection_t,
    now: coquic_time_us_t,
    out_result: Out,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or an endpoint, room for a pointer, and what the input points to.
    unsafe {
        call(endpoint, out_result, |endpoint| {
            let input = input::close(input)?;
            endpoint.connection_advance(connection, input, now)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_connection_request_key_update(
    endpoint: *mut Handle,
    connection: coquic_connection_handle_t,
    now: coquic_time_us_t,
    out_result: Out,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or an endpoint, room for a pointer.
    unsafe { call(endpoint, out_result, |endpoint| endpoint.connection_request_key_update(connection, now)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_connection_request_migration(
    endpoint: *mut Handle,
    connection: coquic_connection_handle_t,
    input: *const coquic_request_connection_migration_t,
    now: coquic_time_us_t,
    out_result: Out,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or an endpoint, room for a pointer, and what the input points to.
    unsafe {
        call(endpoint, out_result, |endpoint| {
            let input = input::request_migration(input)?;
            endpoint.connection_advance(connection, input, now)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_connection_advance(
    endpoint: *mut Handle,
    connection: coquic_connection_handle_t,
    input: *const coquic_connection_input_t,
    now: coquic_time_us_t,
    out_result: Out,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or an endpoint, room for a pointer, and what the input points to.
    unsafe {
        call(endpoint, out_result, |endpoint| {
            let input = input::connection_input(input)?;
            endpoint.connection_advance(connection, input, now)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_quic_connect(
    endpoint: *mut Handle,
    input: *const coquic_open_connection_t,
    now: coquic_time_us_t,
    out_connection: *mut coquic_connection_handle_t,
    out_result: Out,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or an endpoint, room for a handle and a pointer, and what the input points to.
    unsafe {
        if let Some(handle) = out_connection.as_mut() {
            *handle = 0;
        }
        call(endpoint, out_result, |endpoint| {
            let out_connection = out_connection.as_mut().ok_or(Status::InvalidArgument)?;
            let input = input::open_connection(input)?;
            let (handle, result) = endpoint.quic_connect(&input, now)?;
            *out_connection = handle;
            Ok(result)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_quic_receive_datagram(
    endpoint: *mut Handle,
    input: *const coquic_inbound_datagram_t,
    now: coquic_time_us_t,
    out_result: Out,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or an endpoint, room for a pointer, and what the input points to.
    unsafe {
        call(endpoint, out_result, |endpoint| {
            let input = input::inbound_datagram(input)?;
            endpoint.input_datagram(input, now)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_quic_update_path_mtu(
    endpoint: *mut Handle,
    input: *const coquic_path_mtu_update_t,
    now: coquic_time_us_t,
    out_result: Out,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or an endpoint, room for a pointer, and what the input points to.
    unsafe {
        call(endpoint, out_result, |endpoint| {
            let input = input::path_mtu_update(input)?;
            endpoint.update_path_mtu(&input, now)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_quic_timer_expired(
    endpoint: *mut Handle,
    now: coquic_time_us_t,
    out_result: Out,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or an endpoint, room for a pointer.
    unsafe { call(endpoint, out_result, |endpoint| endpoint.timer_expired(now)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_quic_connection_send_stream(
    endpoint: *mut Handle,
    connection: coquic_connection_handle_t,
    input: *const coquic_send_stream_data_t,
    now: coquic_time_us_t,
    out_result: Out,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or an endpoint, room for a pointer, and what the input points to.
    unsafe {
        call(endpoint, out_result, |endpoint| {
            let input = input::send_stream(input)?;
            endpoint.connection_advance(connection, input, now)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_quic_connection_send_datagram(
    endpoint: *mut Handle,
    connection: coquic_connection_handle_t,
    input: *const coquic_send_datagram_data_t,
    now: coquic_time_us_t,
    out_result: Out,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or an endpoint, room for a pointer, and what the input points to.
    unsafe {
        call(endpoint, out_result, |endpoint| {
            let input = input::send_datagram(input)?;
            endpoint.connection_advance(connection, input, now)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_quic_connection_reset_stream(
    endpoint: *mut Handle,
    connection: coquic_connection_handle_t,
    input: *const coquic_reset_stream_t,
    now: coquic_time_us_t,
    out_result: Out,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or an endpoint, room for a pointer, and what the input points to.
    unsafe {
        call(endpoint, out_result, |endpoint| {
            let input = input::reset_stream(input)?;
            endpoint.connection_advance(connection, input, now)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_quic_connection_stop_sending(
    endpoint: *mut Handle,
    connection: coquic_connection_handle_t,
    input: *const coquic_stop_sending_t,
    now: coquic_time_us_t,
    out_result: Out,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or an endpoint, room for a pointer, and what the input points to.
    unsafe {
        call(endpoint, out_result, |endpoint| {
            let input = input::stop_sending(input)?;
            endpoint.connection_advance(connection, input, now)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_quic_connection_close(
    endpoint: *mut Handle,
    connection: coquic_connection_handle_t,
    input: *const coquic_close_connection_t,
    now: coquic_time_us_t,
    out_result: Out,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or an endpoint, room for a pointer, and what the input points to.
    unsafe {
        call(endpoint, out_result, |endpoint| {
            let input = input::close(input)?;
            endpoint.connection_advance(connection, input, now)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_quic_connection_request_key_update(
    endpoint: *mut Handle,
    connection: coquic_connection_handle_t,
    now: coquic_time_us_t,
    out_result: Out,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or an endpoint, room for a pointer.
    unsafe { call(endpoint, out_result, |endpoint| endpoint.connection_request_key_update(connection, now)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_quic_connection_advance(
    endpoint: *mut Handle,
    connection: coquic_connection_handle_t,
    input: *const coquic_connection_input_t,
    now: coquic_time_us_t,
    out_result: Out,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or an endpoint, room for a pointer, and what the input points to.
    unsafe {
        call(endpoint, out_result, |endpoint| {
            let input = input::connection_input(input)?;
            endpoint.connection_advance(connection, input, now)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_quic_stream_send(
    endpoint: *mut Handle,
    connection: coquic_connection_handle_t,
    stream_id: coquic_stream_id_t,
    bytes: coquic_bytes_t,
    fin: u8,
    now: coquic_time_us_t,
    out_result: Out,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or an endpoint, room for a pointer, and what the input points to.
    unsafe {
        call(endpoint, out_result, |endpoint| {
            let bytes = input::bytes(bytes)?;
            endpoint.quic_stream_send(connection, stream_id, bytes, fin != 0, now)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_quic_stream_finish(
    endpoint: *mut Handle,
    connection: coquic_connection_handle_t,
    stream_id: coquic_stream_id_t,
    now: coquic_time_us_t,
    out_result: Out,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or an endpoint, room for a pointer.
    unsafe { call(endpoint, out_result, |endpoint| endpoint.quic_stream_finish(connection, stream_id, now)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_quic_stream_reset(
    endpoint: *mut Handle,
    connection: coquic_connection_handle_t,
    stream_id: coquic_stream_id_t,
    application_error_code: u64,
    now: coquic_time_us_t,
    out_result: Out,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or an endpoint, room for a pointer.
    unsafe {
        call(endpoint, out_result, |endpoint| {
            endpoint.quic_stream_reset(connection, stream_id, application_error_code, now)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_quic_stream_stop_sending(
    endpoint: *mut Handle,
    connection: coquic_connection_handle_t,
    stream_id: coquic_stream_id_t,
    application_error_code: u64,
    now: coquic_time_us_t,
    out_result: Out,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or an endpoint, room for a pointer.
    unsafe {
        call(endpoint, out_result, |endpoint| {
            endpoint.quic_stream_stop_sending(connection, stream_id, application_error_code, now)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_endpoint_connection_count(endpoint: *const Handle) -> usize {
    // SAFETY: the caller's promise: NULL or an endpoint.
    unsafe { ask(endpoint, 0, Endpoint::connection_count) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_endpoint_has_send_continuation_pending(endpoint: *const Handle) -> u8 {
    // SAFETY: the caller's promise: NULL or an endpoint.
    unsafe { ask(endpoint, false, Endpoint::has_send_continuation_pending) }.into()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_endpoint_has_pending_stream_send(endpoint: *const Handle) -> u8 {
    // SAFETY: the caller's promise: NULL or an endpoint.
    unsafe { ask(endpoint, false, Endpoint::has_pending_stream_send) }.into()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_endpoint_next_wakeup(endpoint: *const Handle) -> coquic_optional_time_us_t {
    // SAFETY: the caller's promise: NULL or an endpoint.
    time(unsafe { ask(endpoint, None, Endpoint::next_wakeup) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_result_destroy(result: *mut Output) {
    if !result.is_null() {
        // SAFETY: the caller's promise: it is from a call of an endpoint, and not used any more.
        let _ = guard(AssertUnwindSafe(|| drop(QueryResult::from_output(unsafe { Box::from_raw(result) }))));
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_result_effect_count(result: *const Output) -> usize {
    // SAFETY: the caller's promise: NULL or a result.
    unsafe { result.as_ref() }.map_or(0, Output::effect_count)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_result_effect_at(
    result: *const Output,
    index: usize,
    out_effect: *mut coquic_effect_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL or a result.
    let effect = unsafe { result.as_ref() }.and_then(|result| result.effect(index).ok());
    match effect {
        // SAFETY: the caller's promise: room for one.
        Some(effect) if !out_effect.is_null() => unsafe { write_effect(&effect, out_effect) },
        _ => COQUIC_STATUS_INVALID_ARGUMENT,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_result_next_wakeup(result: *const Output) -> coquic_optional_time_us_t {
    // SAFETY: the caller's promise: NULL or a result.
    time(unsafe { result.as_ref() }.and_then(Output::next_wakeup))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_result_has_local_error(result: *const Output) -> u8 {
    // SAFETY: the caller's promise: NULL or a result.
    unsafe { result.as_ref() }.is_some_and(|result| result.local_error.is_some()).into()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_result_local_error(
    result: *const Output,
    out_error: *mut coquic_local_error_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL or a result.
    let error = unsafe { result.as_ref() }.and_then(|result| result.local_error);
    let (Some(error), false) = (error, out_error.is_null()) else { return COQUIC_STATUS_INVALID_ARGUMENT };
    let error = coquic_local_error_t {
        connection: coquic_optional_connection_handle_t {
            has_value: error.connection.is_some().into(),
            value: error.connection.unwrap_or(0),
        },
        code: match error.code {
            LocalErrorCode::UnsupportedOperation => COQUIC_LOCAL_ERROR_UNSUPPORTED_OPERATION,
            LocalErrorCode::InvalidStreamId => COQUIC_LOCAL_ERROR_INVALID_STREAM_ID,
            LocalErrorCode::InvalidStreamDirection => COQUIC_LOCAL_ERROR_INVALID_STREAM_DIRECTION,
            LocalErrorCode::SendSideClosed => COQUIC_LOCAL_ERROR_SEND_SIDE_CLOSED,
            LocalErrorCode::ReceiveSideClosed => COQUIC_LOCAL_ERROR_RECEIVE_SIDE_CLOSED,
            LocalErrorCode::FinalSizeConflict => COQUIC_LOCAL_ERROR_FINAL_SIZE_CONFLICT,
            LocalErrorCode::DatagramNotSupported => COQUIC_LOCAL_ERROR_DATAGRAM_NOT_SUPPORTED,
            LocalErrorCode::DatagramTooLarge => COQUIC_LOCAL_ERROR_DATAGRAM_TOO_LARGE,
            LocalErrorCode::FlowControlViolation => COQUIC_LOCAL_ERROR_FLOW_CONTROL_VIOLATION,
            LocalErrorCode::Unknown(code) => code,
        },
        stream_id: coquic_optional_stream_id_t {
            has_value: error.stream_id.is_some().into(),
            value: error.stream_id.unwrap_or(0),
        },
    };
    // SAFETY: the caller's promise: room for one.
    unsafe { out_error.write(error) };
    COQUIC_STATUS_OK
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_result_send_continuation_pending(result: *const Output) -> u8 {
    // SAFETY: the caller's promise: NULL or a result.
    unsafe { result.as_ref() }.is_some_and(|result| result.send_continuation_pending).into()
}

/// Runs something for C; a panic is a defect.
pub(crate) fn status(run: impl FnOnce() -> Given<()>) -> coquic_status_t {
    match guard(AssertUnwindSafe(run)) {
        Ok(Ok(())) => COQUIC_STATUS_OK,
        Ok(Err(status)) => status.code(),
        Err(_) => COQUIC_STATUS_INTERNAL_ERROR,
    }
}

/// Where something goes, with NULL in it for now.
///
/// # Safety
/// NULL, or room for a pointer.
pub(crate) unsafe fn emptied<'a, T>(out: *mut *mut T) -> Given<&'a mut *mut T> {
    if out.is_null() {
        return Err(Status::InvalidArgument);
    }
    // SAFETY: as above. What is there before may be anything.
    unsafe {
        out.write(ptr::null_mut());
        Ok(&mut *out)
    }
}

/// A call of an endpoint that gives a result.
///
/// # Safety
/// NULL, or an endpoint and room for a pointer.
unsafe fn call(
    endpoint: *mut Handle,
    out_result: Out,
    run: impl FnOnce(&mut Endpoint) -> Given<QueryResult>,
) -> coquic_status_t {
    // SAFETY: as above.
    let (Ok(out), Some(endpoint)) = (unsafe { (emptied(out_result), endpoint.as_ref()) }) else {
        return COQUIC_STATUS_INVALID_ARGUMENT;
    };
    // Only a panic has left it borrowed, and it stays so.
    let Ok(mut endpoint) = endpoint.try_borrow_mut() else { return COQUIC_STATUS_INTERNAL_ERROR };
    match guard(AssertUnwindSafe(|| run(&mut endpoint))) {
        Ok(Ok(result)) => {
            *out = Box::into_raw(result.into_output());
            COQUIC_STATUS_OK
        }
        Ok(Err(status)) => status.code(),
        Err(_) => {
            std::mem::forget(endpoint);
            COQUIC_STATUS_INTERNAL_ERROR
        }
    }
}

/// A question to an endpoint.
///
/// # Safety
/// NULL or an endpoint.
unsafe fn ask<T>(endpoint: *const Handle, otherwise: T, question: impl FnOnce(&Endpoint) -> T) -> T {
    // SAFETY: as above.
    match unsafe { endpoint.as_ref() }.map(RefCell::try_borrow) {
        Some(Ok(endpoint)) => question(&endpoint),
        _ => otherwise,
    }
}

fn time(value: Option<TimeUs>) -> coquic_optional_time_us_t {
    coquic_optional_time_us_t { has_value: value.is_some().into(), value: value.unwrap_or(0) }
}

fn view(bytes: &[u8]) -> coquic_bytes_view_t {
    coquic_bytes_view_t { data: bytes.as_ptr(), length: bytes.len() }
}

/// Only the member that counts is written: the largest is several times as large as those that come most.
///
/// # Safety
/// There is room for one.
#[inline]
unsafe fn write_effect(effect: &Effect<'_>, out: *mut coquic_effect_t) -> coquic_status_t {
    // SAFETY: as above.
    unsafe {
        match *effect {
            Effect::SendDatagram { connection, route_handle, bytes, ecn, is_pmtu_probe } => {
                (*out).kind = COQUIC_EFFECT_SEND_DATAGRAM;
                (*out).r#as.send_datagram = coquic_send_datagram_effect_t {
                    connection,
                    route_handle: coquic_optional_route_handle_t {
                        has_value: route_handle.is_some().into(),
                        value: route_handle.unwrap_or(0),
                    },
                    bytes: view(bytes),
                    ecn: match ecn {
                        EcnCodepoint::Unavailable => COQUIC_ECN_UNAVAILABLE,
                        EcnCodepoint::NotEct => COQUIC_ECN_NOT_ECT,
                        EcnCodepoint::Ect0 => COQUIC_ECN_ECT0,
                        EcnCodepoint::Ect1 => COQUIC_ECN_ECT1,
                        EcnCodepoint::Ce => COQUIC_ECN_CE,
                    },
                    is_pmtu_probe: is_pmtu_probe.into(),
                };
            }
            Effect::ReceiveStreamData { connection, stream_id, offset, bytes, fin, final_size } => {
                (*out).kind = COQUIC_EFFECT_RECEIVE_STREAM_DATA;
                (*out).r#as.receive_stream_data = coquic_receive_stream_data_effect_t {
                    connection,
                    stream_id,
                    offset,
                    bytes: view(bytes),
                    fin: fin.into(),
                    final_size: coquic_optional_u64_t {
                        has_value: final_size.is_some().into(),
                        value: final_size.unwrap_or(0),
                    },
                };
            }
            Effect::ReceiveDatagramData { connection, bytes } => {
                (*out).kind = COQUIC_EFFECT_RECEIVE_DATAGRAM_DATA;
                (*out).r#as.receive_datagram_data =
                    coquic_receive_datagram_data_effect_t { connection, bytes: view(bytes) };
            }
            Effect::PeerResetStream { connection, stream_id, application_error_code, final_size } => {
                (*out).kind = COQUIC_EFFECT_PEER_RESET_STREAM;
                (*out).r#as.peer_reset_stream = coquic_peer_reset_stream_effect_t {
                    connection,
                    stream_id,
                    application_error_code,
                    final_size,
                };
            }
            Effect::PeerStopSending { connection, stream_id, application_error_code } => {
                (*out).kind = COQUIC_EFFECT_PEER_STOP_SENDING;
                (*out).r#as.peer_stop_sending =
                    coquic_peer_stop_sending_effect_t { connection, stream_id, application_error_code };
            }
            Effect::StateEvent { connection, change } => {
                (*out).kind = COQUIC_EFFECT_STATE_EVENT;
                (*out).r#as.state_event = coquic_state_event_effect_t {
                    connection,
                    change: match change {
                        StateChange::HandshakeReady => COQUIC_STATE_CHANGE_HANDSHAKE_READY,
                        StateChange::HandshakeConfirmed => COQUIC_STATE_CHANGE_HANDSHAKE_CONFIRMED,
                        StateChange::Failed => COQUIC_STATE_CHANGE_FAILED,
                        StateChange::Unknown(change) => change,
                    },
                };
            }
            Effect::ConnectionLifecycleEvent { connection, event } => {
                (*out).kind = COQUIC_EFFECT_CONNECTION_LIFECYCLE_EVENT;
                (*out).r#as.connection_lifecycle_event = coquic_connection_lifecycle_event_effect_t {
                    connection,
                    event: match event {
                        Lifecycle::Created => COQUIC_LIFECYCLE_CREATED,
                        Lifecycle::Accepted => COQUIC_LIFECYCLE_ACCEPTED,
                        Lifecycle::Closed => COQUIC_LIFECYCLE_CLOSED,
                        Lifecycle::Unknown(event) => event,
                    },
                };
            }
            Effect::ResumptionStateAvailable { connection, serialized } => {
                (*out).kind = COQUIC_EFFECT_RESUMPTION_STATE_AVAILABLE;
                (*out).r#as.resumption_state_available =
                    coquic_resumption_state_available_effect_t { connection, serialized: view(serialized) };
            }
            Effect::ZeroRttStatusEvent { connection, status } => {
                (*out).kind = COQUIC_EFFECT_ZERO_RTT_STATUS_EVENT;
                (*out).r#as.zero_rtt_status_event = coquic_zero_rtt_status_event_effect_t {
                    connection,
                    status: match status {
                        ZeroRttStatus::Unavailable => COQUIC_ZERO_RTT_UNAVAILABLE,
                        ZeroRttStatus::NotAttempted => COQUIC_ZERO_RTT_NOT_ATTEMPTED,
                        ZeroRttStatus::Attempted => COQUIC_ZERO_RTT_ATTEMPTED,
                        ZeroRttStatus::Accepted => COQUIC_ZERO_RTT_ACCEPTED,
                        ZeroRttStatus::Rejected => COQUIC_ZERO_RTT_REJECTED,
                        ZeroRttStatus::Unknown(status) => status,
                    },
                };
            }
            Effect::NewTokenAvailable { connection, token } => {
                (*out).kind = COQUIC_EFFECT_NEW_TOKEN_AVAILABLE;
                (*out).r#as.new_token_available =
                    coquic_new_token_available_effect_t { connection, token: view(token) };
            }
            // The Rust library of the same version gives no other.
            _ => return COQUIC_STATUS_INTERNAL_ERROR,
        }
    }
    COQUIC_STATUS_OK
}
