//! The functions of `coquic/ffi/http3.h`, in its order.

use super::input;
use super::side::{
    Client, ClientState, ClientUpdate, Server, ServerState, ServerUpdate, Side, count, get, with,
};
use super::types::*;
use super::view;
use crate::functions::{emptied, status};
use crate::input::{Given, Versioned, bytes};
use crate::types::*;
use coquic::{Output, Status};
use ffi_bridge_guard::guard;
use http3::{Error, Settings, Target};
use std::cell::RefCell;
use std::ffi::c_char;
use std::mem::size_of;
use std::panic::AssertUnwindSafe;
use std::ptr;

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_settings_init(settings: *mut coquic_http3_settings_t) {
    // SAFETY: the caller's promise: NULL or room for one.
    unsafe { put(settings, default_settings()) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_config_init(config: *mut coquic_http3_client_config_t) {
    let settings = default_settings();
    let all = coquic_http3_client_config_t {
        size: size_of::<coquic_http3_client_config_t>(),
        local_settings: settings,
        has_remembered_peer_settings: 0,
        remembered_peer_settings: settings,
    };
    // SAFETY: the caller's promise: NULL or room for one.
    unsafe { put(config, all) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_config_init(config: *mut coquic_http3_server_config_t) {
    let all = coquic_http3_server_config_t {
        size: size_of::<coquic_http3_server_config_t>(),
        local_settings: default_settings(),
    };
    // SAFETY: the caller's promise: NULL or room for one.
    unsafe { put(config, all) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_endpoint_config_init(config: *mut coquic_endpoint_config_t) {
    // SAFETY: the caller's promise: NULL or room for one.
    unsafe { put(config, endpoint_config()) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_endpoint_config_init(config: *mut coquic_endpoint_config_t) {
    let all = coquic_endpoint_config_t { role: COQUIC_ROLE_SERVER, verify_peer: 0, ..endpoint_config() };
    // SAFETY: the caller's promise: NULL or room for one.
    unsafe { put(config, all) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_create(
    config: *const coquic_http3_client_config_t,
    out_client: *mut *mut Client,
) -> coquic_status_t {
    status(|| {
        // SAFETY: the caller's promise: NULL or room for a pointer, NULL or a configuration.
        let (out, settings, remembered) = unsafe {
            let out = emptied(out_client)?;
            let config = crate::input::known(config)?;
            let remembered = match config.has_remembered_peer_settings {
                0 => None,
                _ => Some(input::settings(&raw const config.remembered_peer_settings)?),
            };
            (out, input::settings(&raw const config.local_settings)?, remembered)
        };
        *out = Box::into_raw(Box::new(ClientState::new(settings, remembered).into()));
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_destroy(client: *mut Client) {
    // SAFETY: the caller's promise: NULL, or from the function above and not used any more.
    unsafe { destroy(client) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_submit_request(
    client: *mut Client,
    request: *const coquic_http3_request_t,
    out_stream_id: *mut coquic_stream_id_t,
    out_error: *mut coquic_http3_error_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or what the types say.
    unsafe {
        put(out_stream_id, 0);
        submit(client, None, out_error, |client| {
            let request = input::request(request)?;
            if out_stream_id.is_null() {
                return Err(Status::InvalidArgument);
            }
            Ok(client.submit_request(request).map(|stream| put(out_stream_id, stream)))
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_submit_max_push_id(
    client: *mut Client,
    push_id: u64,
    out_error: *mut coquic_http3_error_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or what the types say.
    unsafe { submit(client, None, out_error, |client| Ok(client.connection().allow_pushes(push_id))) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_cancel_push(
    client: *mut Client,
    push_id: u64,
    out_error: *mut coquic_http3_error_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or what the types say.
    unsafe { submit(client, None, out_error, |client| Ok(client.cancel_push(push_id))) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_submit_priority_update_for_request(
    client: *mut Client,
    stream_id: coquic_stream_id_t,
    priority_field_value: *const c_char,
    priority_field_value_length: usize,
    out_error: *mut coquic_http3_error_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or what the types say.
    unsafe {
        submit(client, Some(stream_id), out_error, |client| {
            let value = input::text(priority_field_value, priority_field_value_length)?;
            Ok(client.connection().update_priority(Target::Request(stream_id), &value))
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_submit_priority_update_for_push(
    client: *mut Client,
    push_id: u64,
    priority_field_value: *const c_char,
    priority_field_value_length: usize,
    out_error: *mut coquic_http3_error_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or what the types say.
    unsafe {
        submit(client, None, out_error, |client| {
            let value = input::text(priority_field_value, priority_field_value_length)?;
            Ok(client.connection().update_priority(Target::Push(push_id), &value))
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_submit_datagram(
    client: *mut Client,
    stream_id: coquic_stream_id_t,
    payload: coquic_bytes_t,
    out_error: *mut coquic_http3_error_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or what the types say.
    unsafe {
        submit(client, Some(stream_id), out_error, |client| {
            Ok(client.connection().send_datagram(stream_id, bytes(payload)?))
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_abort_connect_stream(
    client: *mut Client,
    stream_id: coquic_stream_id_t,
    out_error: *mut coquic_http3_error_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or what the types say.
    unsafe {
        submit(client, Some(stream_id), out_error, |client| Ok(client.connection().abort_connect(stream_id)))
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_on_quic_result(
    client: *mut Client,
    result: *const Output,
    now: coquic_time_us_t,
    out_update: *mut *mut ClientUpdate,
) -> coquic_status_t {
    let _ = now;
    // SAFETY: the caller's promise: NULL, or what the types say.
    unsafe {
        let result = input::at(result);
        update(client, out_update, |client| Ok(client.take_in(result?)))
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_poll(
    client: *mut Client,
    now: coquic_time_us_t,
    out_update: *mut *mut ClientUpdate,
) -> coquic_status_t {
    let _ = now;
    // SAFETY: the caller's promise: NULL, or what the types say.
    unsafe { update(client, out_update, |_| Ok(false)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_has_failed(client: *const Client) -> u8 {
    // SAFETY: the caller's promise: NULL, or what the type says.
    let client = unsafe { client.as_ref() };
    // What a panic left borrowed has failed.
    client
        .is_some_and(|client| {
            client.try_borrow_mut().map_or(true, |mut client| client.connection().has_ended())
        })
        .into()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_peer_settings(
    client: *mut Client,
    out_settings: *mut coquic_http3_settings_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or what the types say.
    unsafe {
        with(client, |client| {
            let settings = client.peer_settings().filter(|_| !out_settings.is_null());
            put(out_settings, c_settings(settings.ok_or(Status::InvalidArgument)?));
            Ok(())
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_update_destroy(update: *mut ClientUpdate) {
    // SAFETY: the caller's promise: NULL, or from one of the functions above and not used any more.
    unsafe { destroy(update) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_update_connection_input_count(update: *const ClientUpdate) -> usize {
    // SAFETY: the caller's promise: NULL or an update.
    unsafe { count(update, |update| &update.connection_inputs) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_update_connection_input_at(
    update: *const ClientUpdate,
    index: usize,
    out_input: *mut coquic_connection_input_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL or an update, NULL or room for one.
    unsafe { get(update, index, out_input, |update| &update.connection_inputs) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_update_response_count(update: *const ClientUpdate) -> usize {
    // SAFETY: the caller's promise: NULL or an update.
    unsafe { count(update, |update| &update.responses) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_update_response_at(
    update: *const ClientUpdate,
    index: usize,
    out_event: *mut coquic_http3_client_response_event_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL or an update, NULL or room for one.
    unsafe { get(update, index, out_event, |update| &update.responses) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_update_request_error_count(update: *const ClientUpdate) -> usize {
    // SAFETY: the caller's promise: NULL or an update.
    unsafe { count(update, |update| &update.request_errors) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_update_request_error_at(
    update: *const ClientUpdate,
    index: usize,
    out_event: *mut coquic_http3_client_request_error_event_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL or an update, NULL or room for one.
    unsafe { get(update, index, out_event, |update| &update.request_errors) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_update_push_response_count(update: *const ClientUpdate) -> usize {
    // SAFETY: the caller's promise: NULL or an update.
    unsafe { count(update, |update| &update.push_responses) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_update_push_response_at(
    update: *const ClientUpdate,
    index: usize,
    out_event: *mut coquic_http3_client_push_response_event_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL or an update, NULL or room for one.
    unsafe { get(update, index, out_event, |update| &update.push_responses) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_update_push_error_count(update: *const ClientUpdate) -> usize {
    // SAFETY: the caller's promise: NULL or an update.
    unsafe { count(update, |update| &update.push_errors) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_update_push_error_at(
    update: *const ClientUpdate,
    index: usize,
    out_event: *mut coquic_http3_client_push_error_event_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL or an update, NULL or room for one.
    unsafe { get(update, index, out_event, |update| &update.push_errors) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_update_priority_update_count(update: *const ClientUpdate) -> usize {
    // SAFETY: the caller's promise: NULL or an update.
    unsafe { count(update, |update| &update.priority_updates) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_update_priority_update_at(
    update: *const ClientUpdate,
    index: usize,
    out_event: *mut coquic_http3_priority_update_event_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL or an update, NULL or room for one.
    unsafe { get(update, index, out_event, |update| &update.priority_updates) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_update_datagram_count(update: *const ClientUpdate) -> usize {
    // SAFETY: the caller's promise: NULL or an update.
    unsafe { count(update, |update| &update.datagrams) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_update_datagram_at(
    update: *const ClientUpdate,
    index: usize,
    out_event: *mut coquic_http3_datagram_event_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL or an update, NULL or room for one.
    unsafe { get(update, index, out_event, |update| &update.datagrams) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_update_has_pending_work(update: *const ClientUpdate) -> u8 {
    // SAFETY: the caller's promise: NULL or an update.
    unsafe { update.as_ref() }.is_some_and(|update| update.flags.has_pending_work).into()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_update_terminal_failure(update: *const ClientUpdate) -> u8 {
    // SAFETY: the caller's promise: NULL or an update.
    unsafe { update.as_ref() }.is_some_and(|update| update.flags.terminal_failure).into()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_client_update_handled_local_error(update: *const ClientUpdate) -> u8 {
    // SAFETY: the caller's promise: NULL or an update.
    unsafe { update.as_ref() }.is_some_and(|update| update.flags.handled_local_error).into()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_create(
    config: *const coquic_http3_server_config_t,
    out_server: *mut *mut Server,
) -> coquic_status_t {
    status(|| {
        // SAFETY: the caller's promise: NULL or room for a pointer, NULL or a configuration.
        let (out, settings) = unsafe {
            let out = emptied(out_server)?;
            let config = crate::input::known(config)?;
            (out, input::settings(&raw const config.local_settings)?)
        };
        *out = Box::into_raw(Box::new(ServerState::new(settings).into()));
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_destroy(server: *mut Server) {
    // SAFETY: the caller's promise: NULL, or from the function above and not used any more.
    unsafe { destroy(server) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_submit_push_promise(
    server: *mut Server,
    request_stream_id: coquic_stream_id_t,
    head: *const coquic_http3_request_head_t,
    out_push_id: *mut u64,
    out_error: *mut coquic_http3_error_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or what the types say.
    unsafe {
        put(out_push_id, 0);
        submit(server, Some(request_stream_id), out_error, |server| {
            let head = input::request_head(head)?;
            if out_push_id.is_null() {
                return Err(Status::InvalidArgument);
            }
            let promised = server.connection().promise_push(request_stream_id, &head);
            Ok(promised.map(|push| put(out_push_id, push)))
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_submit_push_response_head(
    server: *mut Server,
    push_id: u64,
    head: *const coquic_http3_response_head_t,
    out_error: *mut coquic_http3_error_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or what the types say.
    unsafe {
        submit(server, None, out_error, |server| {
            let head = input::response_head(head)?;
            Ok(server.push_head(push_id, &head))
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_submit_push_response_body(
    server: *mut Server,
    push_id: u64,
    body: coquic_bytes_t,
    fin: u8,
    out_error: *mut coquic_http3_error_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or what the types say.
    unsafe {
        submit(server, None, out_error, |server| {
            let body = bytes(body)?;
            Ok(server.push_stream(push_id).and_then(|stream| server.send_body(stream, body, fin != 0)))
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_submit_push_response_trailers(
    server: *mut Server,
    push_id: u64,
    trailers: *const coquic_http3_field_t,
    trailers_count: usize,
    fin: u8,
    out_error: *mut coquic_http3_error_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or what the types say.
    unsafe {
        submit(server, None, out_error, |server| {
            let trailers = input::fields(trailers, trailers_count)?;
            let stream = server.push_stream(push_id);
            Ok(stream.and_then(|stream| server.connection().send_trailers(stream, &trailers, fin != 0)))
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_finish_push_response(
    server: *mut Server,
    push_id: u64,
    enforce_content_length: u8,
    out_error: *mut coquic_http3_error_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or what the types say.
    unsafe {
        submit(server, None, out_error, |server| {
            let stream = server.push_stream(push_id);
            Ok(stream.and_then(|stream| server.connection().finish(stream, enforce_content_length != 0)))
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_cancel_push(
    server: *mut Server,
    push_id: u64,
    out_error: *mut coquic_http3_error_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or what the types say.
    unsafe { submit(server, None, out_error, |server| Ok(server.connection().cancel_push(push_id))) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_submit_priority_update_for_request(
    server: *mut Server,
    stream_id: coquic_stream_id_t,
    priority_field_value: *const c_char,
    priority_field_value_length: usize,
    out_error: *mut coquic_http3_error_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or what the types say.
    unsafe {
        submit(server, Some(stream_id), out_error, |server| {
            let value = input::text(priority_field_value, priority_field_value_length)?;
            Ok(server.connection().update_priority(Target::Request(stream_id), &value))
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_submit_priority_update_for_push(
    server: *mut Server,
    push_id: u64,
    priority_field_value: *const c_char,
    priority_field_value_length: usize,
    out_error: *mut coquic_http3_error_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or what the types say.
    unsafe {
        submit(server, None, out_error, |server| {
            let value = input::text(priority_field_value, priority_field_value_length)?;
            Ok(server.connection().update_priority(Target::Push(push_id), &value))
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_submit_datagram(
    server: *mut Server,
    stream_id: coquic_stream_id_t,
    payload: coquic_bytes_t,
    out_error: *mut coquic_http3_error_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or what the types say.
    unsafe {
        submit(server, Some(stream_id), out_error, |server| {
            Ok(server.connection().send_datagram(stream_id, bytes(payload)?))
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_abort_connect_stream(
    server: *mut Server,
    stream_id: coquic_stream_id_t,
    out_error: *mut coquic_http3_error_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or what the types say.
    unsafe {
        submit(server, Some(stream_id), out_error, |server| Ok(server.connection().abort_connect(stream_id)))
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_on_quic_result(
    server: *mut Server,
    result: *const Output,
    now: coquic_time_us_t,
    out_update: *mut *mut ServerUpdate,
) -> coquic_status_t {
    let _ = now;
    // SAFETY: the caller's promise: NULL, or what the types say.
    unsafe {
        let result = input::at(result);
        update(server, out_update, |server| Ok(server.take_in(result?)))
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_poll(
    server: *mut Server,
    now: coquic_time_us_t,
    out_update: *mut *mut ServerUpdate,
) -> coquic_status_t {
    let _ = now;
    // SAFETY: the caller's promise: NULL, or what the types say.
    unsafe { update(server, out_update, |_| Ok(false)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_has_failed(server: *const Server) -> u8 {
    // SAFETY: the caller's promise: NULL, or what the type says.
    let server = unsafe { server.as_ref() };
    // What a panic left borrowed has failed.
    server
        .is_some_and(|server| {
            server.try_borrow_mut().map_or(true, |mut server| server.connection().has_ended())
        })
        .into()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_update_destroy(update: *mut ServerUpdate) {
    // SAFETY: the caller's promise: NULL, or from one of the functions above and not used any more.
    unsafe { destroy(update) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_update_connection_input_count(update: *const ServerUpdate) -> usize {
    // SAFETY: the caller's promise: NULL or an update.
    unsafe { count(update, |update| &update.connection_inputs) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_update_connection_input_at(
    update: *const ServerUpdate,
    index: usize,
    out_input: *mut coquic_connection_input_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL or an update, NULL or room for one.
    unsafe { get(update, index, out_input, |update| &update.connection_inputs) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_update_request_cancelled_count(
    update: *const ServerUpdate,
) -> usize {
    // SAFETY: the caller's promise: NULL or an update.
    unsafe { count(update, |update| &update.cancelled) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_update_request_cancelled_at(
    update: *const ServerUpdate,
    index: usize,
    out_event: *mut coquic_http3_server_request_cancelled_event_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL or an update, NULL or room for one.
    unsafe { get(update, index, out_event, |update| &update.cancelled) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_update_priority_update_count(update: *const ServerUpdate) -> usize {
    // SAFETY: the caller's promise: NULL or an update.
    unsafe { count(update, |update| &update.priority_updates) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_update_priority_update_at(
    update: *const ServerUpdate,
    index: usize,
    out_event: *mut coquic_http3_priority_update_event_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL or an update, NULL or room for one.
    unsafe { get(update, index, out_event, |update| &update.priority_updates) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_update_datagram_count(update: *const ServerUpdate) -> usize {
    // SAFETY: the caller's promise: NULL or an update.
    unsafe { count(update, |update| &update.datagrams) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_update_datagram_at(
    update: *const ServerUpdate,
    index: usize,
    out_event: *mut coquic_http3_datagram_event_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL or an update, NULL or room for one.
    unsafe { get(update, index, out_event, |update| &update.datagrams) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_update_has_pending_work(update: *const ServerUpdate) -> u8 {
    // SAFETY: the caller's promise: NULL or an update.
    unsafe { update.as_ref() }.is_some_and(|update| update.flags.has_pending_work).into()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_update_terminal_failure(update: *const ServerUpdate) -> u8 {
    // SAFETY: the caller's promise: NULL or an update.
    unsafe { update.as_ref() }.is_some_and(|update| update.flags.terminal_failure).into()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_update_handled_local_error(update: *const ServerUpdate) -> u8 {
    // SAFETY: the caller's promise: NULL or an update.
    unsafe { update.as_ref() }.is_some_and(|update| update.flags.handled_local_error).into()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_request_view_header_at(
    request: *const coquic_http3_request_view_t,
    index: usize,
    out_field: *mut coquic_http3_field_view_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL or a view whose update lives, NULL or room for one.
    unsafe { item(request, index, out_field, |request| (request.head.headers, request.head.headers_count)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_request_view_trailer_at(
    request: *const coquic_http3_request_view_t,
    index: usize,
    out_field: *mut coquic_http3_field_view_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL or a view whose update lives, NULL or room for one.
    unsafe { item(request, index, out_field, |request| (request.trailers, request.trailers_count)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_request_head_view_header_at(
    head: *const coquic_http3_request_head_view_t,
    index: usize,
    out_field: *mut coquic_http3_field_view_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL or a view whose update lives, NULL or room for one.
    unsafe { item(head, index, out_field, |head| (head.headers, head.headers_count)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_response_view_interim_head_at(
    response: *const coquic_http3_response_view_t,
    index: usize,
    out_head: *mut coquic_http3_response_head_view_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL or a view whose update lives, NULL or room for one.
    unsafe {
        item(response, index, out_head, |response| (response.interim_heads, response.interim_head_count))
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_response_view_header_at(
    response: *const coquic_http3_response_view_t,
    index: usize,
    out_field: *mut coquic_http3_field_view_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL or a view whose update lives, NULL or room for one.
    unsafe {
        item(response, index, out_field, |response| (response.head.headers, response.head.headers_count))
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_response_view_trailer_at(
    response: *const coquic_http3_response_view_t,
    index: usize,
    out_field: *mut coquic_http3_field_view_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL or a view whose update lives, NULL or room for one.
    unsafe { item(response, index, out_field, |response| (response.trailers, response.trailers_count)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_response_head_view_header_at(
    head: *const coquic_http3_response_head_view_t,
    index: usize,
    out_field: *mut coquic_http3_field_view_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL or a view whose update lives, NULL or room for one.
    unsafe { item(head, index, out_field, |head| (head.headers, head.headers_count)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_request_cancelled_view_trailer_at(
    event: *const coquic_http3_server_request_cancelled_event_t,
    index: usize,
    out_field: *mut coquic_http3_field_view_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL or a view whose update lives, NULL or room for one.
    unsafe { item(event, index, out_field, |event| (event.trailers, event.trailers_count)) }
}

// Beyond the original.

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_take_requests(server: *mut Server, take: u8) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL or a server.
    unsafe {
        with(server, |server| {
            server.takes_requests = take != 0;
            Ok(())
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_update_request_count(update: *const ServerUpdate) -> usize {
    // SAFETY: the caller's promise: NULL or an update.
    unsafe { count(update, |update| &update.requests) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_update_request_at(
    update: *const ServerUpdate,
    index: usize,
    out_event: *mut coquic_http3_server_request_event_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL or an update, NULL or room for one.
    unsafe { get(update, index, out_event, |update| &update.requests) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_submit_response(
    server: *mut Server,
    stream_id: coquic_stream_id_t,
    response: *const coquic_http3_response_t,
    out_error: *mut coquic_http3_error_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or what the types say.
    unsafe {
        submit(server, Some(stream_id), out_error, |server| {
            let response = input::response(response)?;
            Ok(server.server.submit_response(stream_id, &response))
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_submit_response_head(
    server: *mut Server,
    stream_id: coquic_stream_id_t,
    head: *const coquic_http3_response_head_t,
    out_error: *mut coquic_http3_error_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or what the types say.
    unsafe {
        submit(server, Some(stream_id), out_error, |server| {
            let head = input::response_head(head)?;
            Ok(server.connection().send_response(stream_id, &head, false))
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_submit_response_body(
    server: *mut Server,
    stream_id: coquic_stream_id_t,
    body: coquic_bytes_t,
    fin: u8,
    out_error: *mut coquic_http3_error_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or what the types say.
    unsafe {
        submit(server, Some(stream_id), out_error, |server| {
            Ok(server.send_body(stream_id, bytes(body)?, fin != 0))
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_submit_response_trailers(
    server: *mut Server,
    stream_id: coquic_stream_id_t,
    trailers: *const coquic_http3_field_t,
    trailers_count: usize,
    fin: u8,
    out_error: *mut coquic_http3_error_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or what the types say.
    unsafe {
        submit(server, Some(stream_id), out_error, |server| {
            let trailers = input::fields(trailers, trailers_count)?;
            Ok(server.connection().send_trailers(stream_id, &trailers, fin != 0))
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_finish_response(
    server: *mut Server,
    stream_id: coquic_stream_id_t,
    enforce_content_length: u8,
    out_error: *mut coquic_http3_error_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or what the types say.
    unsafe {
        submit(server, Some(stream_id), out_error, |server| {
            Ok(server.connection().finish(stream_id, enforce_content_length != 0))
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn coquic_http3_server_shutdown(
    server: *mut Server,
    out_error: *mut coquic_http3_error_t,
) -> coquic_status_t {
    // SAFETY: the caller's promise: NULL, or what the types say.
    unsafe { submit(server, None, out_error, |server| Ok(server.connection().shutdown())) }
}

fn default_settings() -> coquic_http3_settings_t {
    c_settings(Settings::default())
}

fn c_settings(of: Settings) -> coquic_http3_settings_t {
    coquic_http3_settings_t {
        size: size_of::<coquic_http3_settings_t>(),
        qpack_max_table_capacity: of.qpack_max_table_capacity,
        qpack_blocked_streams: of.qpack_blocked_streams,
        max_field_section_size: view::optional(of.max_field_section_size),
        enable_connect_protocol: of.enable_connect_protocol.into(),
        h3_datagram: of.h3_datagram.into(),
    }
}

fn endpoint_config() -> coquic_endpoint_config_t {
    coquic_endpoint_config_t {
        application_protocol: c"h3".as_ptr(),
        application_protocol_length: 2,
        ..coquic_endpoint_config_t::defaults()
    }
}

/// A call that sends something. What HTTP/3 refuses is no status but in the error.
///
/// # Safety
/// NULL, or a client or server; NULL, or an error with its buffer.
unsafe fn submit<S: Side>(
    object: *mut RefCell<S>,
    stream: Option<u64>,
    out_error: *mut coquic_http3_error_t,
    run: impl FnOnce(&mut S) -> Given<Result<(), Error>>,
) -> coquic_status_t {
    // SAFETY: as above.
    unsafe {
        report(out_error, None, None);
        with(object, |object| {
            if let Err(error) = run(object)? {
                report(out_error, Some(error), stream);
            }
            Ok(())
        })
    }
}

/// # Safety
/// NULL, or an error with its buffer.
unsafe fn report(out_error: *mut coquic_http3_error_t, error: Option<Error>, stream: Option<u64>) {
    // SAFETY: as above.
    let Some(out) = (unsafe { out_error.as_mut() }) else { return };
    let (code, detail) = match error {
        None => (COQUIC_HTTP3_ERROR_NO_ERROR, String::new()),
        Some(error @ Error::NotEnabled("datagrams")) => {
            (COQUIC_HTTP3_ERROR_DATAGRAM_ERROR, error.to_string())
        }
        // All codes have 16 bits.
        Some(error) => (error.code().0 as u16, error.to_string()),
    };
    out.code = code;
    out.stream_id =
        coquic_optional_stream_id_t { has_value: stream.is_some().into(), value: stream.unwrap_or(0) };
    out.detail_length = detail.len();
    let room = if out.detail_buffer.is_null() { 0 } else { out.detail_buffer_capacity };
    let length = detail.len().min(room);
    out.detail_truncated = (length < detail.len()).into();
    // SAFETY: the caller's promise: the buffer has that capacity.
    unsafe {
        ptr::copy_nonoverlapping(detail.as_ptr(), out.detail_buffer.cast(), length);
        if length < room {
            out.detail_buffer.add(length).write(0);
        }
    }
}

/// A call that gives an update.
///
/// # Safety
/// NULL, or a client or server; NULL, or room for a pointer.
unsafe fn update<S: Side>(
    object: *mut RefCell<S>,
    out_update: *mut *mut S::Update,
    run: impl FnOnce(&mut S) -> Given<bool>,
) -> coquic_status_t {
    // SAFETY: as above.
    unsafe {
        let out = emptied(out_update);
        with(object, |object| {
            let out = out?;
            let handled_local_error = run(object)?;
            *out = Box::into_raw(Box::new(object.update(handled_local_error)));
            Ok(())
        })
    }
}

/// # Safety
/// NULL or a view, NULL or room for one.
unsafe fn item<V, T: Copy>(
    view: *const V,
    index: usize,
    out: *mut T,
    array: impl FnOnce(&V) -> (*const T, usize),
) -> coquic_status_t {
    status(|| {
        // SAFETY: as above, and the view's arrays are there.
        unsafe {
            let (data, length) = array(input::at(view)?);
            let item = *crate::input::slice(data, length)?.get(index).ok_or(Status::InvalidArgument)?;
            if out.is_null() {
                return Err(Status::InvalidArgument);
            }
            out.write(item);
        }
        Ok(())
    })
}

/// # Safety
/// NULL, or room for one.
unsafe fn put<T>(out: *mut T, value: T) {
    if !out.is_null() {
        // SAFETY: as above.
        unsafe { out.write(value) };
    }
}

/// # Safety
/// NULL, or from a box and not used any more.
unsafe fn destroy<T>(object: *mut T) {
    if !object.is_null() {
        // What fails on the way down is not for C.
        // SAFETY: as above.
        let _ = guard(AssertUnwindSafe(|| drop(unsafe { Box::from_raw(object) })));
    }
}
