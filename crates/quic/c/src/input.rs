//! What C gives, as Rust values: pointers looked at, sizes respected, numbers that are not known taken as the first of their
//! list.
//!
//! Every function here that dereferences is unsafe by the promise that all functions of the header share: a pointer is NULL or
//! points to what its type says, of the size that the struct itself tells, for the time of the call.

use crate::types::*;
use coquic::*;
use std::ffi::c_char;
use std::mem::{offset_of, size_of};
use std::ptr;
use std::slice;

/// What cannot be used.
pub(crate) type Given<T> = Result<T, Status>;

/// Structs that begin with their size; those of older programs end earlier.
pub(crate) trait Versioned {
    /// Where each version of it ends.
    const ENDS: &'static [usize];
    /// What members have that a program does not know.
    fn defaults() -> Self;
}

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
    coquic_client_connection_config_t: zero_rtt coquic_zero_rtt_config_t;
    coquic_open_connection_t: address_validation_identity coquic_bytes_t;
    coquic_inbound_datagram_t: ecn u8;
    coquic_path_mtu_update_t: max_udp_payload_size usize, quoted_packet coquic_bytes_t;
    coquic_send_stream_data_t: fin u8, priority i32;
    coquic_send_datagram_data_t: bytes coquic_bytes_t, priority i32;
    coquic_reset_stream_t: application_error_code u64;
    coquic_stop_sending_t: application_error_code u64;
    coquic_close_connection_t: reason_phrase_length usize;
    coquic_request_connection_migration_t: address_validation_identity coquic_bytes_t;
}

impl Versioned for coquic_endpoint_config_t {
    const ENDS: &'static [usize] = &[
        offset_of!(Self, allow_peer_address_change) + 1,
        offset_of!(Self, max_server_connections) + size_of::<usize>(),
        offset_of!(Self, enable_out_of_order_receive) + 1,
        offset_of!(Self, orphan_zero_rtt_buffer) + size_of::<coquic_orphan_zero_rtt_buffer_config_t>(),
        offset_of!(Self, enable_reserved_version_probe) + 1,
        offset_of!(Self, enable_long_header_stateless_reset) + 1,
        offset_of!(Self, enable_minimal_closing_state_retention) + 1,
        offset_of!(Self, retry_handshake_validation_policy) + 1,
    ];

    fn defaults() -> Self {
        let of = EndpointConfig::default();
        Self {
            size: size_of::<Self>(),
            role: COQUIC_ROLE_CLIENT,
            reserved_role_padding: [0; 7],
            supported_versions: ptr::null(),
            supported_versions_count: 0,
            verify_peer: of.verify_peer.into(),
            retry_enabled: of.retry_enabled.into(),
            reserved_retry_padding: [0; 6],
            application_protocol: c"coquic".as_ptr(),
            application_protocol_length: 6,
            identity: ptr::null(),
            transport: transport_defaults(),
            max_outbound_datagram_size: of.max_outbound_datagram_size,
            zero_rtt: NO_ZERO_RTT,
            emit_shared_receive_stream_data: 0,
            enable_packet_inspection: 0,
            allow_peer_address_change: of.allow_peer_address_change.into(),
            reserved_server_connections_padding: [0; 5],
            max_server_connections: of.max_server_connections,
            enable_out_of_order_receive: 0,
            reserved_orphan_zero_rtt_padding: [0; 7],
            orphan_zero_rtt_buffer: coquic_orphan_zero_rtt_buffer_config_t {
                max_packets: 0,
                max_bytes: 0,
                max_age_us: 0,
            },
            enable_reserved_version_probe: 0,
            enable_long_header_stateless_reset: 0,
            enable_minimal_closing_state_retention: 0,
            reserved_endpoint_config_tail_padding: [0; 5],
            retry_handshake_validation_policy: COQUIC_RETRY_HANDSHAKE_VALIDATION_DISABLED,
        }
    }
}

const NO_BYTES: coquic_bytes_t = coquic_bytes_t { data: ptr::null(), length: 0 };
const NO_ZERO_RTT: coquic_zero_rtt_config_t = coquic_zero_rtt_config_t {
    attempt: 0,
    allow: 0,
    strict_updated_transport_parameters: 0,
    application_context: NO_BYTES,
};

pub(crate) fn transport_defaults() -> coquic_transport_config_t {
    let of = TransportConfig::default();
    coquic_transport_config_t {
        max_idle_timeout: of.max_idle_timeout,
        max_udp_payload_size: of.max_udp_payload_size,
        pmtud_enabled: of.pmtud_enabled.into(),
        pmtud_base_datagram_size: of.pmtud_base_datagram_size,
        pmtud_max_datagram_size: of.pmtud_max_datagram_size,
        active_connection_id_limit: of.active_connection_id_limit,
        disable_active_migration: of.disable_active_migration.into(),
        defer_active_migration_path_validation: of.defer_active_migration_path_validation.into(),
        migration_recovery_retention_timeout_us: of.migration_recovery_retention_timeout_us,
        ack_delay_exponent: of.ack_delay_exponent,
        max_ack_delay: of.max_ack_delay,
        ack_eliciting_threshold: of.ack_eliciting_threshold,
        initial_max_data: of.initial_max_data,
        initial_max_stream_data_bidi_local: of.initial_max_stream_data_bidi_local,
        initial_max_stream_data_bidi_remote: of.initial_max_stream_data_bidi_remote,
        initial_max_stream_data_uni: of.initial_max_stream_data_uni,
        initial_max_streams_bidi: of.initial_max_streams_bidi,
        initial_max_streams_uni: of.initial_max_streams_uni,
        max_datagram_frame_size: of.max_datagram_frame_size,
        congestion_control: COQUIC_CONGESTION_CONTROL_NEWRENO,
        enable_hystart_plus_plus: of.enable_hystart_plus_plus.into(),
        send_stream_fairness: of.send_stream_fairness.into(),
        enable_latency_spin_bit: of.enable_latency_spin_bit.into(),
        grease_reserved_versions: of.grease_reserved_versions.into(),
        grease_quic_bit: of.grease_quic_bit.into(),
        enable_optimistic_ack_mitigation: of.enable_optimistic_ack_mitigation.into(),
        underfilled_packet_coalescing_delay_us: of.underfilled_packet_coalescing_delay_us,
        ecn_policy: COQUIC_ECN_POLICY_RFC9000_ECT0,
        pmtud_provisional_icmp_reductions: of.pmtud_provisional_icmp_reductions.into(),
    }
}

pub(crate) fn client_connection_defaults() -> coquic_client_connection_config_t {
    coquic_client_connection_config_t {
        size: size_of::<coquic_client_connection_config_t>(),
        source_connection_id: NO_BYTES,
        initial_destination_connection_id: NO_BYTES,
        original_destination_connection_id: NO_BYTES,
        has_original_destination_connection_id: 0,
        retry_source_connection_id: NO_BYTES,
        has_retry_source_connection_id: 0,
        retry_token: NO_BYTES,
        original_version: 1,
        initial_version: 1,
        reacted_to_version_negotiation: 0,
        server_name: c"localhost".as_ptr(),
        server_name_length: 9,
        resumption_state: ptr::null(),
        zero_rtt: NO_ZERO_RTT,
    }
}

/// A struct as far as the program knows it.
///
/// # Safety
/// As above.
pub(crate) unsafe fn known<T: Versioned + Copy>(given: *const T) -> Given<T> {
    if given.is_null() {
        return Err(Status::InvalidArgument);
    }
    // SAFETY: the struct begins with its size.
    let size = unsafe { given.cast::<usize>().read() };
    if size >= size_of::<T>() {
        // SAFETY: all of it is there.
        return Ok(unsafe { given.read() });
    }
    let known = T::ENDS.iter().rev().find(|end| **end <= size).ok_or(Status::InvalidArgument)?;
    let mut all = T::defaults();
    // SAFETY: the caller's struct has at least so many bytes, and any are values of its integers and pointers.
    unsafe { ptr::copy_nonoverlapping(given.cast::<u8>(), (&raw mut all).cast::<u8>(), *known) };
    Ok(all)
}

/// # Safety
/// As above; the bytes are good for `'a`, which must not outlast the call.
pub(crate) unsafe fn slice<'a, T>(data: *const T, length: usize) -> Given<&'a [T]> {
    if length == 0 {
        return Ok(&[]);
    }
    if data.is_null() || length > isize::MAX as usize / size_of::<T>() {
        return Err(Status::InvalidArgument);
    }
    // SAFETY: the caller's promise: so many are there.
    Ok(unsafe { slice::from_raw_parts(data, length) })
}

/// # Safety
/// As above; the bytes are good for `'a`, which must not outlast the call.
pub(crate) unsafe fn bytes<'a>(given: coquic_bytes_t) -> Given<&'a [u8]> {
    // SAFETY: as above.
    unsafe { slice(given.data, given.length) }
}

/// # Safety
/// As above; the bytes are good for `'a`, which must not outlast the call.
unsafe fn text<'a>(data: *const c_char, length: usize) -> Given<&'a [u8]> {
    // SAFETY: as above.
    unsafe { slice(data.cast(), length) }
}

/// # Safety
/// As above.
pub(crate) unsafe fn endpoint_config(given: *const coquic_endpoint_config_t) -> Given<EndpointConfig> {
    // SAFETY: as above, here and for every part.
    unsafe {
        let given = known(given)?;
        let identity = match given.identity.as_ref() {
            None => None,
            Some(identity) => Some(TlsIdentity {
                certificate_pem: text(identity.certificate_pem, identity.certificate_pem_length)?.to_vec(),
                private_key_pem: text(identity.private_key_pem, identity.private_key_pem_length)?.to_vec(),
            }),
        };
        Ok(EndpointConfig {
            role: match given.role {
                COQUIC_ROLE_SERVER => Role::Server,
                _ => Role::Client,
            },
            supported_versions: slice(given.supported_versions, given.supported_versions_count)?.to_vec(),
            verify_peer: given.verify_peer != 0,
            retry_enabled: given.retry_enabled != 0,
            application_protocol: text(given.application_protocol, given.application_protocol_length)?
                .to_vec(),
            identity,
            transport: transport(&given.transport),
            max_outbound_datagram_size: given.max_outbound_datagram_size,
            zero_rtt: zero_rtt(given.zero_rtt)?,
            emit_shared_receive_stream_data: given.emit_shared_receive_stream_data != 0,
            enable_packet_inspection: given.enable_packet_inspection != 0,
            allow_peer_address_change: given.allow_peer_address_change != 0,
            max_server_connections: given.max_server_connections,
            enable_out_of_order_receive: given.enable_out_of_order_receive != 0,
            orphan_zero_rtt_buffer: OrphanZeroRttBufferConfig {
                max_packets: given.orphan_zero_rtt_buffer.max_packets,
                max_bytes: given.orphan_zero_rtt_buffer.max_bytes,
                max_age_us: given.orphan_zero_rtt_buffer.max_age_us,
            },
            enable_reserved_version_probe: given.enable_reserved_version_probe != 0,
            enable_long_header_stateless_reset: given.enable_long_header_stateless_reset != 0,
            enable_minimal_closing_state_retention: given.enable_minimal_closing_state_retention != 0,
            retry_handshake_validation_policy: match given.retry_handshake_validation_policy {
                COQUIC_RETRY_HANDSHAKE_VALIDATION_DISCARD => RetryHandshakeValidationPolicy::Discard,
                COQUIC_RETRY_HANDSHAKE_VALIDATION_CONNECTION_ERROR => {
                    RetryHandshakeValidationPolicy::ConnectionError
                }
                _ => RetryHandshakeValidationPolicy::Disabled,
            },
            ..EndpointConfig::default()
        })
    }
}

fn transport(given: &coquic_transport_config_t) -> TransportConfig {
    TransportConfig {
        max_idle_timeout: given.max_idle_timeout,
        max_udp_payload_size: given.max_udp_payload_size,
        pmtud_enabled: given.pmtud_enabled != 0,
        pmtud_base_datagram_size: given.pmtud_base_datagram_size,
        pmtud_max_datagram_size: given.pmtud_max_datagram_size,
        active_connection_id_limit: given.active_connection_id_limit,
        disable_active_migration: given.disable_active_migration != 0,
        defer_active_migration_path_validation: given.defer_active_migration_path_validation != 0,
        migration_recovery_retention_timeout_us: given.migration_recovery_retention_timeout_us,
        ack_delay_exponent: given.ack_delay_exponent,
        max_ack_delay: given.max_ack_delay,
        ack_eliciting_threshold: given.ack_eliciting_threshold,
        initial_max_data: given.initial_max_data,
        initial_max_stream_data_bidi_local: given.initial_max_stream_data_bidi_local,
        initial_max_stream_data_bidi_remote: given.initial_max_stream_data_bidi_remote,
        initial_max_stream_data_uni: given.initial_max_stream_data_uni,
        initial_max_streams_bidi: given.initial_max_streams_bidi,
        initial_max_streams_uni: given.initial_max_streams_uni,
        max_datagram_frame_size: given.max_datagram_frame_size,
        congestion_control: match given.congestion_control {
            COQUIC_CONGESTION_CONTROL_CUBIC => CongestionControl::Cubic,
            COQUIC_CONGESTION_CONTROL_BBR => CongestionControl::Bbr,
            COQUIC_CONGESTION_CONTROL_COPA => CongestionControl::Copa,
            COQUIC_CONGESTION_CONTROL_PCC => CongestionControl::Pcc,
            COQUIC_CONGESTION_CONTROL_PCC_VIVACE => CongestionControl::PccVivace,
            _ => CongestionControl::NewReno,
        },
        enable_hystart_plus_plus: given.enable_hystart_plus_plus != 0,
        send_stream_fairness: given.send_stream_fairness != 0,
        enable_latency_spin_bit: given.enable_latency_spin_bit != 0,
        grease_reserved_versions: given.grease_reserved_versions != 0,
        grease_quic_bit: given.grease_quic_bit != 0,
        enable_optimistic_ack_mitigation: given.enable_optimistic_ack_mitigation != 0,
        underfilled_packet_coalescing_delay_us: given.underfilled_packet_coalescing_delay_us,
        ecn_policy: match given.ecn_policy {
            COQUIC_ECN_POLICY_RFC8311_ECT1 => EcnPolicy::Rfc8311Ect1,
            _ => EcnPolicy::Rfc9000Ect0,
        },
        pmtud_provisional_icmp_reductions: given.pmtud_provisional_icmp_reductions != 0,
    }
}

/// # Safety
/// As above.
unsafe fn zero_rtt(given: coquic_zero_rtt_config_t) -> Given<ZeroRttConfig> {
    Ok(ZeroRttConfig {
        attempt: given.attempt != 0,
        allow: given.allow != 0,
        strict_updated_transport_parameters: given.strict_updated_transport_parameters != 0,
        // SAFETY: as above.
        application_context: unsafe { bytes(given.application_context) }?.to_vec(),
    })
}

/// # Safety
/// As above.
pub(crate) unsafe fn open_connection(given: *const coquic_open_connection_t) -> Given<OpenConnection> {
    // SAFETY: as above, here and for every part.
    unsafe {
        let open = known(given)?;
        let given = known(&raw const open.connection)?;
        let present = |has: u8, value| match has {
            0 => Ok(None),
            _ => bytes(value).map(|value| Some(value.to_vec())),
        };
        let connection = ClientConnectionConfig {
            source_connection_id: bytes(given.source_connection_id)?.to_vec(),
            initial_destination_connection_id: bytes(given.initial_destination_connection_id)?.to_vec(),
            original_destination_connection_id: present(
                given.has_original_destination_connection_id,
                given.original_destination_connection_id,
            )?,
            retry_source_connection_id: present(
                given.has_retry_source_connection_id,
                given.retry_source_connection_id,
            )?,
            retry_token: bytes(given.retry_token)?.to_vec(),
            original_version: given.original_version,
            initial_version: given.initial_version,
            reacted_to_version_negotiation: given.reacted_to_version_negotiation != 0,
            server_name: text(given.server_name, given.server_name_length)?.to_vec(),
            resumption_state: match given.resumption_state.as_ref() {
                None => None,
                Some(state) => Some(ResumptionState { serialized: bytes(state.serialized)?.to_vec() }),
            },
            zero_rtt: zero_rtt(given.zero_rtt)?,
        };
        Ok(OpenConnection {
            connection,
            initial_route_handle: open.initial_route_handle,
            address_validation_identity: bytes(open.address_validation_identity)?.to_vec(),
        })
    }
}

fn route(given: coquic_optional_route_handle_t) -> Option<RouteHandle> {
    (given.has_value != 0).then_some(given.value)
}

/// # Safety
/// As above; the bytes are good for `'a`, which must not outlast the call.
pub(crate) unsafe fn inbound_datagram<'a>(
    given: *const coquic_inbound_datagram_t,
) -> Given<InboundDatagram<'a>> {
    // SAFETY: as above, here and for every part.
    unsafe {
        let given = known(given)?;
        Ok(InboundDatagram {
            bytes: bytes(given.bytes)?,
            route_handle: route(given.route_handle),
            address_validation_identity: bytes(given.address_validation_identity)?,
            ecn: match given.ecn {
                COQUIC_ECN_NOT_ECT => EcnCodepoint::NotEct,
                COQUIC_ECN_ECT0 => EcnCodepoint::Ect0,
                COQUIC_ECN_ECT1 => EcnCodepoint::Ect1,
                COQUIC_ECN_CE => EcnCodepoint::Ce,
                _ => EcnCodepoint::Unavailable,
            },
        })
    }
}

/// # Safety
/// As above.
pub(crate) unsafe fn path_mtu_update(given: *const coquic_path_mtu_update_t) -> Given<PathMtuUpdate> {
    // SAFETY: as above, here and for every part.
    unsafe {
        let given = known(given)?;
        Ok(PathMtuUpdate {
            route_handle: route(given.route_handle),
            max_udp_payload_size: given.max_udp_payload_size,
            quoted_packet: bytes(given.quoted_packet)?.to_vec(),
        })
    }
}

/// # Safety
/// As above; the bytes are good for `'a`, which must not outlast the call.
pub(crate) unsafe fn send_stream<'a>(given: *const coquic_send_stream_data_t) -> Given<ConnectionInput<'a>> {
    // SAFETY: as above, here and for every part.
    unsafe {
        let given = known(given)?;
        Ok(ConnectionInput::SendStream(SendStreamData {
            stream_id: given.stream_id,
            bytes: bytes(given.bytes)?,
            fin: given.fin != 0,
            priority: given.priority,
        }))
    }
}

/// # Safety
/// As above; the bytes are good for `'a`, which must not outlast the call.
pub(crate) unsafe fn send_datagram<'a>(
    given: *const coquic_send_datagram_data_t,
) -> Given<ConnectionInput<'a>> {
    // SAFETY: as above, here and for every part.
    unsafe {
        let given = known(given)?;
        let data = SendDatagramData { bytes: bytes(given.bytes)?, priority: given.priority };
        Ok(ConnectionInput::SendDatagram(data))
    }
}

/// # Safety
/// As above.
pub(crate) unsafe fn reset_stream<'a>(given: *const coquic_reset_stream_t) -> Given<ConnectionInput<'a>> {
    // SAFETY: as above.
    let coquic_reset_stream_t { stream_id, application_error_code, .. } = unsafe { known(given) }?;
    Ok(ConnectionInput::ResetStream(ResetStream { stream_id, application_error_code }))
}

/// # Safety
/// As above.
pub(crate) unsafe fn stop_sending<'a>(given: *const coquic_stop_sending_t) -> Given<ConnectionInput<'a>> {
    // SAFETY: as above.
    let coquic_stop_sending_t { stream_id, application_error_code, .. } = unsafe { known(given) }?;
    Ok(ConnectionInput::StopSending(StopSending { stream_id, application_error_code }))
}

/// # Safety
/// As above; the bytes are good for `'a`, which must not outlast the call.
pub(crate) unsafe fn close<'a>(given: *const coquic_close_connection_t) -> Given<ConnectionInput<'a>> {
    // SAFETY: as above, here and for every part.
    unsafe {
        let given = known(given)?;
        Ok(ConnectionInput::Close(CloseConnection {
            application_error_code: given.application_error_code,
            reason_phrase: text(given.reason_phrase, given.reason_phrase_length)?,
        }))
    }
}

/// # Safety
/// As above; the bytes are good for `'a`, which must not outlast the call.
pub(crate) unsafe fn request_migration<'a>(
    given: *const coquic_request_connection_migration_t,
) -> Given<ConnectionInput<'a>> {
    // SAFETY: as above, here and for every part.
    unsafe {
        let given = known(given)?;
        Ok(ConnectionInput::RequestMigration(RequestConnectionMigration {
            route_handle: given.route_handle,
            reason: match given.reason {
                COQUIC_MIGRATION_REASON_PREFERRED_ADDRESS => MigrationReason::PreferredAddress,
                _ => MigrationReason::Active,
            },
            address_validation_identity: bytes(given.address_validation_identity)?,
        }))
    }
}

/// # Safety
/// As above; the bytes are good for `'a`, which must not outlast the call.
pub(crate) unsafe fn connection_input<'a>(
    given: *const coquic_connection_input_t,
) -> Given<ConnectionInput<'a>> {
    if given.is_null() {
        return Err(Status::InvalidArgument);
    }
    // SAFETY: as above; which member of the union counts is the caller's promise.
    unsafe {
        match (*given).kind {
            COQUIC_CONNECTION_INPUT_SEND_DATAGRAM => send_datagram(&raw const (*given).r#as.send_datagram),
            COQUIC_CONNECTION_INPUT_RESET_STREAM => reset_stream(&raw const (*given).r#as.reset_stream),
            COQUIC_CONNECTION_INPUT_STOP_SENDING => stop_sending(&raw const (*given).r#as.stop_sending),
            COQUIC_CONNECTION_INPUT_CLOSE => close(&raw const (*given).r#as.close),
            COQUIC_CONNECTION_INPUT_REQUEST_KEY_UPDATE => Ok(ConnectionInput::RequestKeyUpdate),
            COQUIC_CONNECTION_INPUT_REQUEST_MIGRATION => {
                request_migration(&raw const (*given).r#as.request_migration)
            }
            _ => send_stream(&raw const (*given).r#as.send_stream),
        }
    }
}
