//! What `coquic/ffi/core.h` declares besides functions: numbers and layouts. The header says what they mean.
//!
//! The layouts are checked when this is compiled: for 64 bits against the numbers of the ABI's version 12, for 32 bits (where
//! 64-bit integers are aligned to 8, as on MIPS and ARM) against what follows from the same declarations.

#![allow(non_camel_case_types, reason = "the names are those of C")]
#![allow(dead_code, reason = "what this library never gives is declared, too")]
#![allow(unreachable_pub, reason = "the test of the header looks for it")]

use std::ffi::c_char;
use std::mem::{align_of, offset_of, size_of};

pub const COQUIC_FFI_ABI_VERSION: u32 = 12;
pub type coquic_connection_handle_t = u64;
pub type coquic_route_handle_t = u64;
pub type coquic_stream_id_t = u64;
pub type coquic_time_us_t = u64;

pub type coquic_status_t = u8;
pub const COQUIC_STATUS_OK: coquic_status_t = 0;
pub const COQUIC_STATUS_INVALID_ARGUMENT: coquic_status_t = 1;
pub const COQUIC_STATUS_OUT_OF_MEMORY: coquic_status_t = 2;
pub const COQUIC_STATUS_INTERNAL_ERROR: coquic_status_t = 3;

pub type coquic_role_t = u8;
pub const COQUIC_ROLE_CLIENT: coquic_role_t = 0;
pub const COQUIC_ROLE_SERVER: coquic_role_t = 1;

pub type coquic_retry_handshake_validation_policy_t = u8;
pub const COQUIC_RETRY_HANDSHAKE_VALIDATION_DISABLED: coquic_retry_handshake_validation_policy_t = 0;
pub const COQUIC_RETRY_HANDSHAKE_VALIDATION_DISCARD: coquic_retry_handshake_validation_policy_t = 1;
pub const COQUIC_RETRY_HANDSHAKE_VALIDATION_CONNECTION_ERROR: coquic_retry_handshake_validation_policy_t = 2;

pub type coquic_congestion_control_t = u8;
pub const COQUIC_CONGESTION_CONTROL_NEWRENO: coquic_congestion_control_t = 0;
pub const COQUIC_CONGESTION_CONTROL_CUBIC: coquic_congestion_control_t = 1;
pub const COQUIC_CONGESTION_CONTROL_BBR: coquic_congestion_control_t = 2;
pub const COQUIC_CONGESTION_CONTROL_COPA: coquic_congestion_control_t = 3;
pub const COQUIC_CONGESTION_CONTROL_PCC: coquic_congestion_control_t = 4;
pub const COQUIC_CONGESTION_CONTROL_PCC_VIVACE: coquic_congestion_control_t = 5;

pub type coquic_ecn_codepoint_t = u8;
pub const COQUIC_ECN_UNAVAILABLE: coquic_ecn_codepoint_t = 0;
pub const COQUIC_ECN_NOT_ECT: coquic_ecn_codepoint_t = 1;
pub const COQUIC_ECN_ECT0: coquic_ecn_codepoint_t = 2;
pub const COQUIC_ECN_ECT1: coquic_ecn_codepoint_t = 3;
pub const COQUIC_ECN_CE: coquic_ecn_codepoint_t = 4;

pub type coquic_ecn_policy_t = u8;
pub const COQUIC_ECN_POLICY_RFC9000_ECT0: coquic_ecn_policy_t = 0;
pub const COQUIC_ECN_POLICY_RFC8311_ECT1: coquic_ecn_policy_t = 1;

pub type coquic_state_change_t = u8;
pub const COQUIC_STATE_CHANGE_HANDSHAKE_READY: coquic_state_change_t = 0;
pub const COQUIC_STATE_CHANGE_HANDSHAKE_CONFIRMED: coquic_state_change_t = 1;
pub const COQUIC_STATE_CHANGE_FAILED: coquic_state_change_t = 2;

pub type coquic_local_error_code_t = u8;
pub const COQUIC_LOCAL_ERROR_UNSUPPORTED_OPERATION: coquic_local_error_code_t = 0;
pub const COQUIC_LOCAL_ERROR_INVALID_STREAM_ID: coquic_local_error_code_t = 1;
pub const COQUIC_LOCAL_ERROR_INVALID_STREAM_DIRECTION: coquic_local_error_code_t = 2;
pub const COQUIC_LOCAL_ERROR_SEND_SIDE_CLOSED: coquic_local_error_code_t = 3;
pub const COQUIC_LOCAL_ERROR_RECEIVE_SIDE_CLOSED: coquic_local_error_code_t = 4;
pub const COQUIC_LOCAL_ERROR_FINAL_SIZE_CONFLICT: coquic_local_error_code_t = 5;
pub const COQUIC_LOCAL_ERROR_DATAGRAM_NOT_SUPPORTED: coquic_local_error_code_t = 6;
pub const COQUIC_LOCAL_ERROR_DATAGRAM_TOO_LARGE: coquic_local_error_code_t = 7;
pub const COQUIC_LOCAL_ERROR_FLOW_CONTROL_VIOLATION: coquic_local_error_code_t = 8;

pub type coquic_lifecycle_t = u8;
pub const COQUIC_LIFECYCLE_CREATED: coquic_lifecycle_t = 0;
pub const COQUIC_LIFECYCLE_ACCEPTED: coquic_lifecycle_t = 1;
pub const COQUIC_LIFECYCLE_CLOSED: coquic_lifecycle_t = 2;

pub type coquic_migration_reason_t = u8;
pub const COQUIC_MIGRATION_REASON_ACTIVE: coquic_migration_reason_t = 0;
pub const COQUIC_MIGRATION_REASON_PREFERRED_ADDRESS: coquic_migration_reason_t = 1;

pub type coquic_zero_rtt_status_t = u8;
pub const COQUIC_ZERO_RTT_UNAVAILABLE: coquic_zero_rtt_status_t = 0;
pub const COQUIC_ZERO_RTT_NOT_ATTEMPTED: coquic_zero_rtt_status_t = 1;
pub const COQUIC_ZERO_RTT_ATTEMPTED: coquic_zero_rtt_status_t = 2;
pub const COQUIC_ZERO_RTT_ACCEPTED: coquic_zero_rtt_status_t = 3;
pub const COQUIC_ZERO_RTT_REJECTED: coquic_zero_rtt_status_t = 4;

pub type coquic_packet_inspection_direction_t = u8;
pub const COQUIC_PACKET_INSPECTION_OUTBOUND: coquic_packet_inspection_direction_t = 0;
pub const COQUIC_PACKET_INSPECTION_INBOUND: coquic_packet_inspection_direction_t = 1;

pub type coquic_packet_inspection_packet_type_t = u8;
pub const COQUIC_PACKET_INSPECTION_INITIAL: coquic_packet_inspection_packet_type_t = 0;
pub const COQUIC_PACKET_INSPECTION_ZERO_RTT: coquic_packet_inspection_packet_type_t = 1;
pub const COQUIC_PACKET_INSPECTION_HANDSHAKE: coquic_packet_inspection_packet_type_t = 2;
pub const COQUIC_PACKET_INSPECTION_ONE_RTT: coquic_packet_inspection_packet_type_t = 3;

pub type coquic_connection_input_kind_t = u8;
pub const COQUIC_CONNECTION_INPUT_SEND_STREAM: coquic_connection_input_kind_t = 0;
pub const COQUIC_CONNECTION_INPUT_SEND_DATAGRAM: coquic_connection_input_kind_t = 1;
pub const COQUIC_CONNECTION_INPUT_RESET_STREAM: coquic_connection_input_kind_t = 2;
pub const COQUIC_CONNECTION_INPUT_STOP_SENDING: coquic_connection_input_kind_t = 3;
pub const COQUIC_CONNECTION_INPUT_CLOSE: coquic_connection_input_kind_t = 4;
pub const COQUIC_CONNECTION_INPUT_REQUEST_KEY_UPDATE: coquic_connection_input_kind_t = 5;
pub const COQUIC_CONNECTION_INPUT_REQUEST_MIGRATION: coquic_connection_input_kind_t = 6;

pub type coquic_effect_kind_t = u8;
pub const COQUIC_EFFECT_SEND_DATAGRAM: coquic_effect_kind_t = 0;
pub const COQUIC_EFFECT_RECEIVE_STREAM_DATA: coquic_effect_kind_t = 1;
pub const COQUIC_EFFECT_RECEIVE_DATAGRAM_DATA: coquic_effect_kind_t = 2;
pub const COQUIC_EFFECT_PEER_RESET_STREAM: coquic_effect_kind_t = 3;
pub const COQUIC_EFFECT_PEER_STOP_SENDING: coquic_effect_kind_t = 4;
pub const COQUIC_EFFECT_STATE_EVENT: coquic_effect_kind_t = 5;
pub const COQUIC_EFFECT_CONNECTION_LIFECYCLE_EVENT: coquic_effect_kind_t = 6;
pub const COQUIC_EFFECT_PEER_PREFERRED_ADDRESS_AVAILABLE: coquic_effect_kind_t = 7;
pub const COQUIC_EFFECT_RESUMPTION_STATE_AVAILABLE: coquic_effect_kind_t = 8;
pub const COQUIC_EFFECT_ZERO_RTT_STATUS_EVENT: coquic_effect_kind_t = 9;
pub const COQUIC_EFFECT_PACKET_INSPECTION: coquic_effect_kind_t = 10;
pub const COQUIC_EFFECT_NEW_TOKEN_AVAILABLE: coquic_effect_kind_t = 11;

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_bytes_view_t {
    pub data: *const u8,
    pub length: usize,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_bytes_t {
    pub data: *const u8,
    pub length: usize,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_optional_route_handle_t {
    pub has_value: u8,
    pub value: coquic_route_handle_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_optional_connection_handle_t {
    pub has_value: u8,
    pub value: coquic_connection_handle_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_optional_stream_id_t {
    pub has_value: u8,
    pub value: coquic_stream_id_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_optional_time_us_t {
    pub has_value: u8,
    pub value: coquic_time_us_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_optional_u64_t {
    pub has_value: u8,
    pub value: u64,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_tls_identity_t {
    pub certificate_pem: *const c_char,
    pub certificate_pem_length: usize,
    pub private_key_pem: *const c_char,
    pub private_key_pem_length: usize,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_zero_rtt_config_t {
    pub attempt: u8,
    pub allow: u8,
    pub strict_updated_transport_parameters: u8,
    pub application_context: coquic_bytes_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_orphan_zero_rtt_buffer_config_t {
    pub max_packets: usize,
    pub max_bytes: usize,
    pub max_age_us: coquic_time_us_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_transport_config_t {
    pub max_idle_timeout: u64,
    pub max_udp_payload_size: u64,
    pub pmtud_enabled: u8,
    pub pmtud_base_datagram_size: usize,
    pub pmtud_max_datagram_size: usize,
    pub active_connection_id_limit: u64,
    pub disable_active_migration: u8,
    pub defer_active_migration_path_validation: u8,
    pub migration_recovery_retention_timeout_us: coquic_time_us_t,
    pub ack_delay_exponent: u64,
    pub max_ack_delay: u64,
    pub ack_eliciting_threshold: u64,
    pub initial_max_data: u64,
    pub initial_max_stream_data_bidi_local: u64,
    pub initial_max_stream_data_bidi_remote: u64,
    pub initial_max_stream_data_uni: u64,
    pub initial_max_streams_bidi: u64,
    pub initial_max_streams_uni: u64,
    pub max_datagram_frame_size: u64,
    pub congestion_control: coquic_congestion_control_t,
    pub enable_hystart_plus_plus: u8,
    pub send_stream_fairness: u8,
    pub enable_latency_spin_bit: u8,
    pub grease_reserved_versions: u8,
    pub grease_quic_bit: u8,
    pub enable_optimistic_ack_mitigation: u8,
    pub underfilled_packet_coalescing_delay_us: coquic_time_us_t,
    pub ecn_policy: coquic_ecn_policy_t,
    pub pmtud_provisional_icmp_reductions: u8,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_endpoint_config_t {
    pub size: usize,
    pub role: coquic_role_t,
    pub reserved_role_padding: [u8; 7],
    pub supported_versions: *const u32,
    pub supported_versions_count: usize,
    pub verify_peer: u8,
    pub retry_enabled: u8,
    pub reserved_retry_padding: [u8; 6],
    pub application_protocol: *const c_char,
    pub application_protocol_length: usize,
    pub identity: *const coquic_tls_identity_t,
    pub transport: coquic_transport_config_t,
    pub max_outbound_datagram_size: usize,
    pub zero_rtt: coquic_zero_rtt_config_t,
    pub emit_shared_receive_stream_data: u8,
    pub enable_packet_inspection: u8,
    pub allow_peer_address_change: u8,
    pub reserved_server_connections_padding: [u8; 5],
    pub max_server_connections: usize,
    pub enable_out_of_order_receive: u8,
    pub reserved_orphan_zero_rtt_padding: [u8; 7],
    pub orphan_zero_rtt_buffer: coquic_orphan_zero_rtt_buffer_config_t,
    pub enable_reserved_version_probe: u8,
    pub enable_long_header_stateless_reset: u8,
    pub enable_minimal_closing_state_retention: u8,
    pub reserved_endpoint_config_tail_padding: [u8; 5],
    pub retry_handshake_validation_policy: coquic_retry_handshake_validation_policy_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_resumption_state_t {
    pub serialized: coquic_bytes_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_client_connection_config_t {
    pub size: usize,
    pub source_connection_id: coquic_bytes_t,
    pub initial_destination_connection_id: coquic_bytes_t,
    pub original_destination_connection_id: coquic_bytes_t,
    pub has_original_destination_connection_id: u8,
    pub retry_source_connection_id: coquic_bytes_t,
    pub has_retry_source_connection_id: u8,
    pub retry_token: coquic_bytes_t,
    pub original_version: u32,
    pub initial_version: u32,
    pub reacted_to_version_negotiation: u8,
    pub server_name: *const c_char,
    pub server_name_length: usize,
    pub resumption_state: *const coquic_resumption_state_t,
    pub zero_rtt: coquic_zero_rtt_config_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_open_connection_t {
    pub size: usize,
    pub connection: coquic_client_connection_config_t,
    pub initial_route_handle: coquic_route_handle_t,
    pub address_validation_identity: coquic_bytes_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_inbound_datagram_t {
    pub size: usize,
    pub bytes: coquic_bytes_t,
    pub route_handle: coquic_optional_route_handle_t,
    pub address_validation_identity: coquic_bytes_t,
    pub ecn: coquic_ecn_codepoint_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_path_mtu_update_t {
    pub size: usize,
    pub route_handle: coquic_optional_route_handle_t,
    pub max_udp_payload_size: usize,
    pub quoted_packet: coquic_bytes_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_send_stream_data_t {
    pub size: usize,
    pub stream_id: coquic_stream_id_t,
    pub bytes: coquic_bytes_t,
    pub fin: u8,
    pub priority: i32,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_send_datagram_data_t {
    pub size: usize,
    pub bytes: coquic_bytes_t,
    pub priority: i32,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_reset_stream_t {
    pub size: usize,
    pub stream_id: coquic_stream_id_t,
    pub application_error_code: u64,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_stop_sending_t {
    pub size: usize,
    pub stream_id: coquic_stream_id_t,
    pub application_error_code: u64,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_close_connection_t {
    pub size: usize,
    pub application_error_code: u64,
    pub reason_phrase: *const c_char,
    pub reason_phrase_length: usize,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_request_connection_migration_t {
    pub size: usize,
    pub route_handle: coquic_route_handle_t,
    pub reason: coquic_migration_reason_t,
    pub address_validation_identity: coquic_bytes_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub union coquic_connection_input_as {
    pub send_stream: coquic_send_stream_data_t,
    pub send_datagram: coquic_send_datagram_data_t,
    pub reset_stream: coquic_reset_stream_t,
    pub stop_sending: coquic_stop_sending_t,
    pub close: coquic_close_connection_t,
    pub request_migration: coquic_request_connection_migration_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_connection_input_t {
    pub kind: coquic_connection_input_kind_t,
    pub r#as: coquic_connection_input_as,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_local_error_t {
    pub connection: coquic_optional_connection_handle_t,
    pub code: coquic_local_error_code_t,
    pub stream_id: coquic_optional_stream_id_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_send_datagram_effect_t {
    pub connection: coquic_connection_handle_t,
    pub route_handle: coquic_optional_route_handle_t,
    pub bytes: coquic_bytes_view_t,
    pub ecn: coquic_ecn_codepoint_t,
    pub is_pmtu_probe: u8,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_receive_stream_data_effect_t {
    pub connection: coquic_connection_handle_t,
    pub stream_id: coquic_stream_id_t,
    pub offset: u64,
    pub bytes: coquic_bytes_view_t,
    pub fin: u8,
    pub final_size: coquic_optional_u64_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_receive_datagram_data_effect_t {
    pub connection: coquic_connection_handle_t,
    pub bytes: coquic_bytes_view_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_peer_reset_stream_effect_t {
    pub connection: coquic_connection_handle_t,
    pub stream_id: coquic_stream_id_t,
    pub application_error_code: u64,
    pub final_size: u64,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_peer_stop_sending_effect_t {
    pub connection: coquic_connection_handle_t,
    pub stream_id: coquic_stream_id_t,
    pub application_error_code: u64,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_state_event_effect_t {
    pub connection: coquic_connection_handle_t,
    pub change: coquic_state_change_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_connection_lifecycle_event_effect_t {
    pub connection: coquic_connection_handle_t,
    pub event: coquic_lifecycle_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_preferred_address_t {
    pub ipv4_address: [u8; 4],
    pub ipv4_port: u16,
    pub ipv6_address: [u8; 16],
    pub ipv6_port: u16,
    pub connection_id: coquic_bytes_view_t,
    pub stateless_reset_token: [u8; 16],
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_peer_preferred_address_available_effect_t {
    pub connection: coquic_connection_handle_t,
    pub preferred_address: coquic_preferred_address_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_resumption_state_available_effect_t {
    pub connection: coquic_connection_handle_t,
    pub serialized: coquic_bytes_view_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_zero_rtt_status_event_effect_t {
    pub connection: coquic_connection_handle_t,
    pub status: coquic_zero_rtt_status_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_packet_inspection_effect_t {
    pub connection: coquic_connection_handle_t,
    pub direction: coquic_packet_inspection_direction_t,
    pub packet_type: coquic_packet_inspection_packet_type_t,
    pub datagram_id: u64,
    pub datagram_length: usize,
    pub datagram_offset: usize,
    pub packet_length: usize,
    pub version: u32,
    pub destination_connection_id: coquic_bytes_view_t,
    pub source_connection_id: coquic_bytes_view_t,
    pub token: coquic_bytes_view_t,
    pub spin_bit: u8,
    pub key_phase: u8,
    pub packet_number_length: u8,
    pub packet_number: u64,
    pub encrypted_packet: coquic_bytes_view_t,
    pub plaintext_payload: coquic_bytes_view_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_new_token_available_effect_t {
    pub connection: coquic_connection_handle_t,
    pub token: coquic_bytes_view_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub union coquic_effect_as {
    pub send_datagram: coquic_send_datagram_effect_t,
    pub receive_stream_data: coquic_receive_stream_data_effect_t,
    pub receive_datagram_data: coquic_receive_datagram_data_effect_t,
    pub peer_reset_stream: coquic_peer_reset_stream_effect_t,
    pub peer_stop_sending: coquic_peer_stop_sending_effect_t,
    pub state_event: coquic_state_event_effect_t,
    pub connection_lifecycle_event: coquic_connection_lifecycle_event_effect_t,
    pub peer_preferred_address_available: coquic_peer_preferred_address_available_effect_t,
    pub resumption_state_available: coquic_resumption_state_available_effect_t,
    pub zero_rtt_status_event: coquic_zero_rtt_status_event_effect_t,
    pub packet_inspection: coquic_packet_inspection_effect_t,
    pub new_token_available: coquic_new_token_available_effect_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct coquic_effect_t {
    pub kind: coquic_effect_kind_t,
    pub r#as: coquic_effect_as,
}

/// Sizes and offsets, 64-bit / 32-bit.
macro_rules! layout {
    ($($name:ident $size:literal / $size32:literal $align:literal / $align32:literal
       { $($field:ident $offset:literal / $offset32:literal)* })*) => {$(
        #[cfg(target_pointer_width = "64")]
        const _: () = {
            assert!(size_of::<$name>() == $size && align_of::<$name>() == $align);
            $(assert!(offset_of!($name, $field) == $offset);)*
        };
        #[cfg(all(target_pointer_width = "32", not(target_arch = "x86")))]
        const _: () = {
            assert!(size_of::<$name>() == $size32 && align_of::<$name>() == $align32);
            $(assert!(offset_of!($name, $field) == $offset32);)*
        };
    )*};
}

layout! {
    coquic_bytes_view_t 16 / 8 8 / 4 {
        data 0 / 0
        length 8 / 4
    }
    coquic_bytes_t 16 / 8 8 / 4 {
        data 0 / 0
        length 8 / 4
    }
    coquic_optional_route_handle_t 16 / 16 8 / 8 {
        has_value 0 / 0
        value 8 / 8
    }
    coquic_optional_connection_handle_t 16 / 16 8 / 8 {
        has_value 0 / 0
        value 8 / 8
    }
    coquic_optional_stream_id_t 16 / 16 8 / 8 {
        has_value 0 / 0
        value 8 / 8
    }
    coquic_optional_time_us_t 16 / 16 8 / 8 {
        has_value 0 / 0
        value 8 / 8
    }
    coquic_optional_u64_t 16 / 16 8 / 8 {
        has_value 0 / 0
        value 8 / 8
    }
    coquic_tls_identity_t 32 / 16 8 / 4 {
        certificate_pem 0 / 0
        certificate_pem_length 8 / 4
        private_key_pem 16 / 8
        private_key_pem_length 24 / 12
    }
    coquic_zero_rtt_config_t 24 / 12 8 / 4 {
        attempt 0 / 0
        allow 1 / 1
        strict_updated_transport_parameters 2 / 2
        application_context 8 / 4
    }
    coquic_orphan_zero_rtt_buffer_config_t 24 / 16 8 / 8 {
        max_packets 0 / 0
        max_bytes 8 / 4
        max_age_us 16 / 8
    }
    coquic_transport_config_t 168 / 160 8 / 8 {
        max_idle_timeout 0 / 0
        max_udp_payload_size 8 / 8
        pmtud_enabled 16 / 16
        pmtud_base_datagram_size 24 / 20
        pmtud_max_datagram_size 32 / 24
        active_connection_id_limit 40 / 32
        disable_active_migration 48 / 40
        defer_active_migration_path_validation 49 / 41
        migration_recovery_retention_timeout_us 56 / 48
        ack_delay_exponent 64 / 56
        max_ack_delay 72 / 64
        ack_eliciting_threshold 80 / 72
        initial_max_data 88 / 80
        initial_max_stream_data_bidi_local 96 / 88
        initial_max_stream_data_bidi_remote 104 / 96
        initial_max_stream_data_uni 112 / 104
        initial_max_streams_bidi 120 / 112
        initial_max_streams_uni 128 / 120
        max_datagram_frame_size 136 / 128
        congestion_control 144 / 136
        enable_hystart_plus_plus 145 / 137
        send_stream_fairness 146 / 138
        enable_latency_spin_bit 147 / 139
        grease_reserved_versions 148 / 140
        grease_quic_bit 149 / 141
        enable_optimistic_ack_mitigation 150 / 142
        underfilled_packet_coalescing_delay_us 152 / 144
        ecn_policy 160 / 152
        pmtud_provisional_icmp_reductions 161 / 153
    }
    coquic_endpoint_config_t 328 / 272 8 / 8 {
        size 0 / 0
        role 8 / 4
        reserved_role_padding 9 / 5
        supported_versions 16 / 12
        supported_versions_count 24 / 16
        verify_peer 32 / 20
        retry_enabled 33 / 21
        reserved_retry_padding 34 / 22
        application_protocol 40 / 28
        application_protocol_length 48 / 32
        identity 56 / 36
        transport 64 / 40
        max_outbound_datagram_size 232 / 200
        zero_rtt 240 / 204
        emit_shared_receive_stream_data 264 / 216
        enable_packet_inspection 265 / 217
        allow_peer_address_change 266 / 218
        reserved_server_connections_padding 267 / 219
        max_server_connections 272 / 224
        enable_out_of_order_receive 280 / 228
        reserved_orphan_zero_rtt_padding 281 / 229
        orphan_zero_rtt_buffer 288 / 240
        enable_reserved_version_probe 312 / 256
        enable_long_header_stateless_reset 313 / 257
        enable_minimal_closing_state_retention 314 / 258
        reserved_endpoint_config_tail_padding 315 / 259
        retry_handshake_validation_policy 320 / 264
    }
    coquic_resumption_state_t 16 / 8 8 / 4 {
        serialized 0 / 0
    }
    coquic_client_connection_config_t 168 / 88 8 / 4 {
        size 0 / 0
        source_connection_id 8 / 4
        initial_destination_connection_id 24 / 12
        original_destination_connection_id 40 / 20
        has_original_destination_connection_id 56 / 28
        retry_source_connection_id 64 / 32
        has_retry_source_connection_id 80 / 40
        retry_token 88 / 44
        original_version 104 / 52
        initial_version 108 / 56
        reacted_to_version_negotiation 112 / 60
        server_name 120 / 64
        server_name_length 128 / 68
        resumption_state 136 / 72
        zero_rtt 144 / 76
    }
    coquic_open_connection_t 200 / 112 8 / 8 {
        size 0 / 0
        connection 8 / 4
        initial_route_handle 176 / 96
        address_validation_identity 184 / 104
    }
    coquic_inbound_datagram_t 64 / 48 8 / 8 {
        size 0 / 0
        bytes 8 / 4
        route_handle 24 / 16
        address_validation_identity 40 / 32
        ecn 56 / 40
    }
    coquic_path_mtu_update_t 48 / 40 8 / 8 {
        size 0 / 0
        route_handle 8 / 8
        max_udp_payload_size 24 / 24
        quoted_packet 32 / 28
    }
    coquic_send_stream_data_t 40 / 32 8 / 8 {
        size 0 / 0
        stream_id 8 / 8
        bytes 16 / 16
        fin 32 / 24
        priority 36 / 28
    }
    coquic_send_datagram_data_t 32 / 16 8 / 4 {
        size 0 / 0
        bytes 8 / 4
        priority 24 / 12
    }
    coquic_reset_stream_t 24 / 24 8 / 8 {
        size 0 / 0
        stream_id 8 / 8
        application_error_code 16 / 16
    }
    coquic_stop_sending_t 24 / 24 8 / 8 {
        size 0 / 0
        stream_id 8 / 8
        application_error_code 16 / 16
    }
    coquic_close_connection_t 32 / 24 8 / 8 {
        size 0 / 0
        application_error_code 8 / 8
        reason_phrase 16 / 16
        reason_phrase_length 24 / 20
    }
    coquic_request_connection_migration_t 40 / 32 8 / 8 {
        size 0 / 0
        route_handle 8 / 8
        reason 16 / 16
        address_validation_identity 24 / 20
    }
    coquic_connection_input_t 48 / 40 8 / 8 {
        kind 0 / 0
        r#as 8 / 8
    }
    coquic_local_error_t 40 / 40 8 / 8 {
        connection 0 / 0
        code 16 / 16
        stream_id 24 / 24
    }
    coquic_send_datagram_effect_t 48 / 40 8 / 8 {
        connection 0 / 0
        route_handle 8 / 8
        bytes 24 / 24
        ecn 40 / 32
        is_pmtu_probe 41 / 33
    }
    coquic_receive_stream_data_effect_t 64 / 56 8 / 8 {
        connection 0 / 0
        stream_id 8 / 8
        offset 16 / 16
        bytes 24 / 24
        fin 40 / 32
        final_size 48 / 40
    }
    coquic_receive_datagram_data_effect_t 24 / 16 8 / 8 {
        connection 0 / 0
        bytes 8 / 8
    }
    coquic_peer_reset_stream_effect_t 32 / 32 8 / 8 {
        connection 0 / 0
        stream_id 8 / 8
        application_error_code 16 / 16
        final_size 24 / 24
    }
    coquic_peer_stop_sending_effect_t 24 / 24 8 / 8 {
        connection 0 / 0
        stream_id 8 / 8
        application_error_code 16 / 16
    }
    coquic_state_event_effect_t 16 / 16 8 / 8 {
        connection 0 / 0
        change 8 / 8
    }
    coquic_connection_lifecycle_event_effect_t 16 / 16 8 / 8 {
        connection 0 / 0
        event 8 / 8
    }
    coquic_preferred_address_t 56 / 48 8 / 4 {
        ipv4_address 0 / 0
        ipv4_port 4 / 4
        ipv6_address 6 / 6
        ipv6_port 22 / 22
        connection_id 24 / 24
        stateless_reset_token 40 / 32
    }
    coquic_peer_preferred_address_available_effect_t 64 / 56 8 / 8 {
        connection 0 / 0
        preferred_address 8 / 8
    }
    coquic_resumption_state_available_effect_t 24 / 16 8 / 8 {
        connection 0 / 0
        serialized 8 / 8
    }
    coquic_zero_rtt_status_event_effect_t 16 / 16 8 / 8 {
        connection 0 / 0
        status 8 / 8
    }
    coquic_packet_inspection_effect_t 152 / 96 8 / 8 {
        connection 0 / 0
        direction 8 / 8
        packet_type 9 / 9
        datagram_id 16 / 16
        datagram_length 24 / 24
        datagram_offset 32 / 28
        packet_length 40 / 32
        version 48 / 36
        destination_connection_id 56 / 40
        source_connection_id 72 / 48
        token 88 / 56
        spin_bit 104 / 64
        key_phase 105 / 65
        packet_number_length 106 / 66
        packet_number 112 / 72
        encrypted_packet 120 / 80
        plaintext_payload 136 / 88
    }
    coquic_new_token_available_effect_t 24 / 16 8 / 8 {
        connection 0 / 0
        token 8 / 8
    }
    coquic_effect_t 160 / 104 8 / 8 {
        kind 0 / 0
        r#as 8 / 8
    }
}
