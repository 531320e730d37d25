/* coquic/ffi/core.h - QUIC for programs with an event loop of their own.
 *
 * Link with -lcoquic_quinn, or ask pkg-config for coquic_quinn.
 *
 * The library opens no socket, starts no thread and sets no timer. The caller hands it datagrams and the time, and gets
 * results: datagrams to be sent, data that came, what became of connections, and when to come back.
 *
 * Time is the caller's: microseconds that do not run backwards, from any beginning. A call takes the time at which it is made.
 *
 * Ownership. What a call is given it reads, and copies, before it returns. What it gives (an endpoint, a result) is the
 * caller's until it is given back to the function that destroys it; bytes of effects are good until their result is
 * destroyed. An endpoint may be destroyed before its results. Destroying NULL does nothing; a question about NULL is
 * answered with 0.
 *
 * Errors. A call that gives something sets its last parameter to NULL first. INVALID_ARGUMENT: NULL, a size that is too
 * small, or a value that cannot be used. INTERNAL_ERROR: a defect; that endpoint can then only be destroyed. (The library
 * as cross/build makes it for routers ends the process instead: what it takes to go on is a sixth of it.) What the protocol
 * refuses - a stream that is not there, a connection that is gone - is OK with a local error in the result. Numbers that are
 * not listed here count as the first of their list.
 *
 * Threads. An endpoint may be used from any thread, by one at a time. Different endpoints do not know of each other.
 *
 * Structs whose first member is size are made by the caller, who sets it to sizeof. */
#ifndef COQUIC_FFI_CORE_H
#define COQUIC_FFI_CORE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define COQUIC_FFI_ABI_VERSION 12

/* A connection of one endpoint. They count from 1. */
typedef uint64_t coquic_connection_handle_t;
/* A network path; what it means only the caller knows, for example an index into a table of peers' addresses. */
typedef uint64_t coquic_route_handle_t;
/* As on the wire: the two lowest bits say who opened it (server: 1) and whether it goes one way (2). */
typedef uint64_t coquic_stream_id_t;
/* Microseconds of the caller's clock, which must not run backwards. */
typedef uint64_t coquic_time_us_t;

/* What a call returns. What the protocol refuses is no status but a local error of the result. */
typedef uint8_t coquic_status_t;
#define COQUIC_STATUS_OK 0
#define COQUIC_STATUS_INVALID_ARGUMENT 1
#define COQUIC_STATUS_OUT_OF_MEMORY 2
#define COQUIC_STATUS_INTERNAL_ERROR 3

/* Which side an endpoint is. */
typedef uint8_t coquic_role_t;
#define COQUIC_ROLE_CLIENT 0
#define COQUIC_ROLE_SERVER 1

/* What is done with a handshake after a Retry that does not fit it. Always a connection error; DISCARD is refused. */
typedef uint8_t coquic_retry_handshake_validation_policy_t;
#define COQUIC_RETRY_HANDSHAKE_VALIDATION_DISABLED 0
#define COQUIC_RETRY_HANDSHAKE_VALIDATION_DISCARD 1
#define COQUIC_RETRY_HANDSHAKE_VALIDATION_CONNECTION_ERROR 2

/* How the sending rate is found. COPA, PCC and PCC_VIVACE are refused. */
typedef uint8_t coquic_congestion_control_t;
#define COQUIC_CONGESTION_CONTROL_NEWRENO 0
#define COQUIC_CONGESTION_CONTROL_CUBIC 1
#define COQUIC_CONGESTION_CONTROL_BBR 2
#define COQUIC_CONGESTION_CONTROL_COPA 3
#define COQUIC_CONGESTION_CONTROL_PCC 4
#define COQUIC_CONGESTION_CONTROL_PCC_VIVACE 5

/* The two bits of an IP header for explicit congestion notification. */
typedef uint8_t coquic_ecn_codepoint_t;
#define COQUIC_ECN_UNAVAILABLE 0
#define COQUIC_ECN_NOT_ECT 1
#define COQUIC_ECN_ECT0 2
#define COQUIC_ECN_ECT1 3
#define COQUIC_ECN_CE 4

/* Which mark is sent. RFC8311_ECT1 is refused. */
typedef uint8_t coquic_ecn_policy_t;
#define COQUIC_ECN_POLICY_RFC9000_ECT0 0
#define COQUIC_ECN_POLICY_RFC8311_ECT1 1

/* How far a connection has got. */
typedef uint8_t coquic_state_change_t;
#define COQUIC_STATE_CHANGE_HANDSHAKE_READY 0
#define COQUIC_STATE_CHANGE_HANDSHAKE_CONFIRMED 1
#define COQUIC_STATE_CHANGE_FAILED 2

/* Why a command was refused. */
typedef uint8_t coquic_local_error_code_t;
#define COQUIC_LOCAL_ERROR_UNSUPPORTED_OPERATION 0
#define COQUIC_LOCAL_ERROR_INVALID_STREAM_ID 1
#define COQUIC_LOCAL_ERROR_INVALID_STREAM_DIRECTION 2
#define COQUIC_LOCAL_ERROR_SEND_SIDE_CLOSED 3
#define COQUIC_LOCAL_ERROR_RECEIVE_SIDE_CLOSED 4
#define COQUIC_LOCAL_ERROR_FINAL_SIZE_CONFLICT 5
#define COQUIC_LOCAL_ERROR_DATAGRAM_NOT_SUPPORTED 6
#define COQUIC_LOCAL_ERROR_DATAGRAM_TOO_LARGE 7
#define COQUIC_LOCAL_ERROR_FLOW_CONTROL_VIOLATION 8

/* The beginning and end of a connection. After CLOSED its handle is not valid any more. */
typedef uint8_t coquic_lifecycle_t;
#define COQUIC_LIFECYCLE_CREATED 0
#define COQUIC_LIFECYCLE_ACCEPTED 1
#define COQUIC_LIFECYCLE_CLOSED 2

/* Why a connection is to go another way. PREFERRED_ADDRESS is refused. */
typedef uint8_t coquic_migration_reason_t;
#define COQUIC_MIGRATION_REASON_ACTIVE 0
#define COQUIC_MIGRATION_REASON_PREFERRED_ADDRESS 1

/* What became of early data. After REJECTED it is to be sent again, on streams counted anew. */
typedef uint8_t coquic_zero_rtt_status_t;
#define COQUIC_ZERO_RTT_UNAVAILABLE 0
#define COQUIC_ZERO_RTT_NOT_ATTEMPTED 1
#define COQUIC_ZERO_RTT_ATTEMPTED 2
#define COQUIC_ZERO_RTT_ACCEPTED 3
#define COQUIC_ZERO_RTT_REJECTED 4

/* Which way an inspected packet went. */
typedef uint8_t coquic_packet_inspection_direction_t;
#define COQUIC_PACKET_INSPECTION_OUTBOUND 0
#define COQUIC_PACKET_INSPECTION_INBOUND 1

/* What kind of packet was inspected. */
typedef uint8_t coquic_packet_inspection_packet_type_t;
#define COQUIC_PACKET_INSPECTION_INITIAL 0
#define COQUIC_PACKET_INSPECTION_ZERO_RTT 1
#define COQUIC_PACKET_INSPECTION_HANDSHAKE 2
#define COQUIC_PACKET_INSPECTION_ONE_RTT 3

/* Which member of a coquic_connection_input_t counts; REQUEST_KEY_UPDATE has none. */
typedef uint8_t coquic_connection_input_kind_t;
#define COQUIC_CONNECTION_INPUT_SEND_STREAM 0
#define COQUIC_CONNECTION_INPUT_SEND_DATAGRAM 1
#define COQUIC_CONNECTION_INPUT_RESET_STREAM 2
#define COQUIC_CONNECTION_INPUT_STOP_SENDING 3
#define COQUIC_CONNECTION_INPUT_CLOSE 4
#define COQUIC_CONNECTION_INPUT_REQUEST_KEY_UPDATE 5
#define COQUIC_CONNECTION_INPUT_REQUEST_MIGRATION 6

/* Which member of a coquic_effect_t counts. */
typedef uint8_t coquic_effect_kind_t;
#define COQUIC_EFFECT_SEND_DATAGRAM 0
#define COQUIC_EFFECT_RECEIVE_STREAM_DATA 1
#define COQUIC_EFFECT_RECEIVE_DATAGRAM_DATA 2
#define COQUIC_EFFECT_PEER_RESET_STREAM 3
#define COQUIC_EFFECT_PEER_STOP_SENDING 4
#define COQUIC_EFFECT_STATE_EVENT 5
#define COQUIC_EFFECT_CONNECTION_LIFECYCLE_EVENT 6
#define COQUIC_EFFECT_PEER_PREFERRED_ADDRESS_AVAILABLE 7
#define COQUIC_EFFECT_RESUMPTION_STATE_AVAILABLE 8
#define COQUIC_EFFECT_ZERO_RTT_STATUS_EVENT 9
#define COQUIC_EFFECT_PACKET_INSPECTION 10
#define COQUIC_EFFECT_NEW_TOKEN_AVAILABLE 11

/* Bytes of the library; good until what they were got from is destroyed. */
typedef struct {
    const uint8_t *data;
    size_t length;
} coquic_bytes_view_t;

/* Bytes of the caller, read during the call. data may be NULL if length is 0. */
typedef struct {
    const uint8_t *data;
    size_t length;
} coquic_bytes_t;

/* value counts if has_value is not 0. */
typedef struct {
    uint8_t has_value;
    coquic_route_handle_t value;
} coquic_optional_route_handle_t;

typedef struct {
    uint8_t has_value;
    coquic_connection_handle_t value;
} coquic_optional_connection_handle_t;

typedef struct {
    uint8_t has_value;
    coquic_stream_id_t value;
} coquic_optional_stream_id_t;

typedef struct {
    uint8_t has_value;
    coquic_time_us_t value;
} coquic_optional_time_us_t;

typedef struct {
    uint8_t has_value;
    uint64_t value;
} coquic_optional_u64_t;

/* A certificate chain, the end entity's certificate first, and its key. */
typedef struct {
    const char *certificate_pem;
    size_t certificate_pem_length;
    const char *private_key_pem;
    size_t private_key_pem_length;
} coquic_tls_identity_t;

/* Early data. */
typedef struct {
    uint8_t attempt; /* as a client */
    uint8_t allow; /* as a server */
    uint8_t strict_updated_transport_parameters; /* no effect */
    coquic_bytes_t application_context; /* a session resumed under another one sends no early data */
} coquic_zero_rtt_config_t;

/* Without effect: early packets before their Initial are dropped, and sent again by the peer. */
typedef struct {
    size_t max_packets;
    size_t max_bytes;
    coquic_time_us_t max_age_us;
} coquic_orphan_zero_rtt_buffer_config_t;

/* QUIC's settings. coquic_transport_config_init fills it with defaults. */
typedef struct {
    uint64_t max_idle_timeout; /* ms; 0: never */
    uint64_t max_udp_payload_size;
    uint8_t pmtud_enabled;
    size_t pmtud_base_datagram_size;
    size_t pmtud_max_datagram_size; /* 0: 1452, or max_outbound_datagram_size if that is more */
    uint64_t active_connection_id_limit; /* no effect: 5 */
    uint8_t disable_active_migration;
    uint8_t defer_active_migration_path_validation; /* no effect */
    coquic_time_us_t migration_recovery_retention_timeout_us; /* no effect */
    uint64_t ack_delay_exponent; /* no effect: 3 */
    uint64_t max_ack_delay; /* no effect: 25 ms */
    uint64_t ack_eliciting_threshold;
    uint64_t initial_max_data;
    uint64_t initial_max_stream_data_bidi_local; /* the largest of the three counts for all */
    uint64_t initial_max_stream_data_bidi_remote;
    uint64_t initial_max_stream_data_uni;
    uint64_t initial_max_streams_bidi; /* up to 65536; each takes memory in every connection from its beginning */
    uint64_t initial_max_streams_uni;
    uint64_t max_datagram_frame_size; /* 0: none */
    coquic_congestion_control_t congestion_control;
    uint8_t enable_hystart_plus_plus; /* no effect */
    uint8_t send_stream_fairness;
    uint8_t enable_latency_spin_bit;
    uint8_t grease_reserved_versions; /* no effect: always */
    uint8_t grease_quic_bit;
    uint8_t enable_optimistic_ack_mitigation; /* no effect: always */
    coquic_time_us_t underfilled_packet_coalescing_delay_us; /* no effect: 0 */
    coquic_ecn_policy_t ecn_policy;
    uint8_t pmtud_provisional_icmp_reductions; /* no effect */
} coquic_transport_config_t;

/* An endpoint's settings. coquic_endpoint_config_init fills it with defaults, size too. A size that ends before a
 * member was added is taken, and the member has its default. */
typedef struct {
    size_t size;
    coquic_role_t role;
    uint8_t reserved_role_padding[7];
    const uint32_t *supported_versions; /* none: version 1, which must be among them and is the only one spoken */
    size_t supported_versions_count;
    uint8_t verify_peer; /* a client judges the server's certificate: trusted is $SSL_CERT_FILE, or who the system trusts */
    uint8_t retry_enabled; /* every client has to prove its address first */
    uint8_t reserved_retry_padding[6];
    const char *application_protocol;
    size_t application_protocol_length;
    const coquic_tls_identity_t *identity; /* a server needs one */
    coquic_transport_config_t transport;
    size_t max_outbound_datagram_size; /* unless path MTU discovery finds more */
    coquic_zero_rtt_config_t zero_rtt;
    uint8_t emit_shared_receive_stream_data; /* no effect */
    uint8_t enable_packet_inspection; /* must be 0 */
    uint8_t allow_peer_address_change;
    uint8_t reserved_server_connections_padding[5];
    size_t max_server_connections; /* 0: as many as come */
    uint8_t enable_out_of_order_receive;
    uint8_t reserved_orphan_zero_rtt_padding[7];
    coquic_orphan_zero_rtt_buffer_config_t orphan_zero_rtt_buffer;
    uint8_t enable_reserved_version_probe; /* must be 0 */
    uint8_t enable_long_header_stateless_reset; /* must be 0 */
    uint8_t enable_minimal_closing_state_retention; /* no effect */
    uint8_t reserved_endpoint_config_tail_padding[5];
    coquic_retry_handshake_validation_policy_t retry_handshake_validation_policy;
} coquic_endpoint_config_t;

/* A session to resume, from a resumption_state_available effect of the same endpoint. */
typedef struct {
    coquic_bytes_t serialized;
} coquic_resumption_state_t;

/* A connection to be opened. coquic_client_connection_config_init fills it with defaults, size too. */
typedef struct {
    size_t size;
    /* Up to 20 bytes, as many for each connection of the endpoint; empty: one connection. Not 4 where pointers have 32 bits. */
    coquic_bytes_t source_connection_id;
    coquic_bytes_t initial_destination_connection_id; /* 8 to 20 bytes; empty: 8. Only the length counts, the bytes are drawn */
    coquic_bytes_t original_destination_connection_id;
    uint8_t has_original_destination_connection_id; /* must be 0: Retry is answered inside */
    coquic_bytes_t retry_source_connection_id;
    uint8_t has_retry_source_connection_id; /* must be 0 */
    coquic_bytes_t retry_token; /* of a new_token_available effect */
    uint32_t original_version; /* 1 */
    uint32_t initial_version; /* 1 */
    uint8_t reacted_to_version_negotiation; /* must be 0 */
    const char *server_name;
    size_t server_name_length;
    const coquic_resumption_state_t *resumption_state; /* or NULL */
    coquic_zero_rtt_config_t zero_rtt;
} coquic_client_connection_config_t;

/* A connection to be opened, and which way. */
typedef struct {
    size_t size;
    coquic_client_connection_config_t connection;
    coquic_route_handle_t initial_route_handle;
    coquic_bytes_t address_validation_identity; /* no effect */
} coquic_open_connection_t;

/* A received datagram. */
typedef struct {
    size_t size;
    coquic_bytes_t bytes;
    coquic_optional_route_handle_t route_handle;
    coquic_bytes_t address_validation_identity; /* the same bytes for the same address of a sender; empty: the route stands for it */
    coquic_ecn_codepoint_t ecn;
} coquic_inbound_datagram_t;

/* A router said that datagrams were too large. */
typedef struct {
    size_t size;
    coquic_optional_route_handle_t route_handle; /* none: every path */
    size_t max_udp_payload_size; /* below 1200 it is ignored */
    coquic_bytes_t quoted_packet; /* no effect: whether to believe it is the caller's decision */
} coquic_path_mtu_update_t;

/* Data for a stream, all of which is taken. A stream of one's own is opened by its first data. */
typedef struct {
    size_t size;
    coquic_stream_id_t stream_id;
    coquic_bytes_t bytes;
    uint8_t fin; /* nothing comes after it */
    int32_t priority; /* higher goes first */
} coquic_send_stream_data_t;

/* A datagram, which may get lost. */
typedef struct {
    size_t size;
    coquic_bytes_t bytes;
    int32_t priority; /* no effect */
} coquic_send_datagram_data_t;

/* A stream's sending side to be abandoned. */
typedef struct {
    size_t size;
    coquic_stream_id_t stream_id;
    uint64_t application_error_code;
} coquic_reset_stream_t;

/* A stream of which nothing more is wanted. */
typedef struct {
    size_t size;
    coquic_stream_id_t stream_id;
    uint64_t application_error_code;
} coquic_stop_sending_t;

/* A connection to be ended. */
typedef struct {
    size_t size;
    uint64_t application_error_code;
    const char *reason_phrase;
    size_t reason_phrase_length;
} coquic_close_connection_t;

/* A connection to go another way. */
typedef struct {
    size_t size;
    coquic_route_handle_t route_handle;
    coquic_migration_reason_t reason;
    coquic_bytes_t address_validation_identity; /* no effect */
} coquic_request_connection_migration_t;

/* Any command for a connection. */
typedef struct {
    coquic_connection_input_kind_t kind;
    union {
        coquic_send_stream_data_t send_stream;
        coquic_send_datagram_data_t send_datagram;
        coquic_reset_stream_t reset_stream;
        coquic_stop_sending_t stop_sending;
        coquic_close_connection_t close;
        coquic_request_connection_migration_t request_migration;
    } as;
} coquic_connection_input_t;

/* A command that was refused; nothing has changed. */
typedef struct {
    coquic_optional_connection_handle_t connection;
    coquic_local_error_code_t code;
    coquic_optional_stream_id_t stream_id;
} coquic_local_error_t;

/* A datagram to be sent; connection is 0 if it belongs to none. */
typedef struct {
    coquic_connection_handle_t connection;
    coquic_optional_route_handle_t route_handle;
    coquic_bytes_view_t bytes;
    coquic_ecn_codepoint_t ecn;
    uint8_t is_pmtu_probe; /* it must not be fragmented, and its loss is no harm */
} coquic_send_datagram_effect_t;

/* Data of a stream. With fin, final_size is the length of the stream. */
typedef struct {
    coquic_connection_handle_t connection;
    coquic_stream_id_t stream_id;
    uint64_t offset;
    coquic_bytes_view_t bytes;
    uint8_t fin;
    coquic_optional_u64_t final_size;
} coquic_receive_stream_data_effect_t;

/* A datagram of the peer's. */
typedef struct {
    coquic_connection_handle_t connection;
    coquic_bytes_view_t bytes;
} coquic_receive_datagram_data_effect_t;

/* The peer abandoned its sending side. final_size is how much of it was received. */
typedef struct {
    coquic_connection_handle_t connection;
    coquic_stream_id_t stream_id;
    uint64_t application_error_code;
    uint64_t final_size;
} coquic_peer_reset_stream_effect_t;

/* The peer does not want more; the sending side has been reset. */
typedef struct {
    coquic_connection_handle_t connection;
    coquic_stream_id_t stream_id;
    uint64_t application_error_code;
} coquic_peer_stop_sending_effect_t;

/* A connection has got further, or failed. */
typedef struct {
    coquic_connection_handle_t connection;
    coquic_state_change_t change;
} coquic_state_event_effect_t;

/* A connection begins or ends. */
typedef struct {
    coquic_connection_handle_t connection;
    coquic_lifecycle_t event;
} coquic_connection_lifecycle_event_effect_t;

/* A server's other address. */
typedef struct {
    uint8_t ipv4_address[4];
    uint16_t ipv4_port;
    uint8_t ipv6_address[16];
    uint16_t ipv6_port;
    coquic_bytes_view_t connection_id;
    uint8_t stateless_reset_token[16];
} coquic_preferred_address_t;

/* Never given by this library. */
typedef struct {
    coquic_connection_handle_t connection;
    coquic_preferred_address_t preferred_address;
} coquic_peer_preferred_address_available_effect_t;

/* A session that a later connection can resume, once. */
typedef struct {
    coquic_connection_handle_t connection;
    coquic_bytes_view_t serialized;
} coquic_resumption_state_available_effect_t;

/* What becomes of early data. */
typedef struct {
    coquic_connection_handle_t connection;
    coquic_zero_rtt_status_t status;
} coquic_zero_rtt_status_event_effect_t;

/* Never given by this library. */
typedef struct {
    coquic_connection_handle_t connection;
    coquic_packet_inspection_direction_t direction;
    coquic_packet_inspection_packet_type_t packet_type;
    uint64_t datagram_id;
    size_t datagram_length;
    size_t datagram_offset;
    size_t packet_length;
    uint32_t version;
    coquic_bytes_view_t destination_connection_id;
    coquic_bytes_view_t source_connection_id;
    coquic_bytes_view_t token;
    uint8_t spin_bit;
    uint8_t key_phase;
    uint8_t packet_number_length;
    uint64_t packet_number;
    coquic_bytes_view_t encrypted_packet;
    coquic_bytes_view_t plaintext_payload;
} coquic_packet_inspection_effect_t;

/* A token that spares a later connection the proof of its address: retry_token of its configuration. */
typedef struct {
    coquic_connection_handle_t connection;
    coquic_bytes_view_t token;
} coquic_new_token_available_effect_t;

/* What the caller has to do, or to know. Other kinds than those below are to be ignored. */
typedef struct {
    coquic_effect_kind_t kind;
    union {
        coquic_send_datagram_effect_t send_datagram;
        coquic_receive_stream_data_effect_t receive_stream_data;
        coquic_receive_datagram_data_effect_t receive_datagram_data;
        coquic_peer_reset_stream_effect_t peer_reset_stream;
        coquic_peer_stop_sending_effect_t peer_stop_sending;
        coquic_state_event_effect_t state_event;
        coquic_connection_lifecycle_event_effect_t connection_lifecycle_event;
        coquic_peer_preferred_address_available_effect_t peer_preferred_address_available;
        coquic_resumption_state_available_effect_t resumption_state_available;
        coquic_zero_rtt_status_event_effect_t zero_rtt_status_event;
        coquic_packet_inspection_effect_t packet_inspection;
        coquic_new_token_available_effect_t new_token_available;
    } as;
} coquic_effect_t;

/* One side of QUIC, and all its connections. */
typedef struct coquic_endpoint coquic_endpoint_t;
/* What a call gave: effects and what else is asked for below. */
typedef struct coquic_result coquic_result_t;

/* COQUIC_FFI_ABI_VERSION of the library that is running. */
uint32_t coquic_ffi_abi_version(void);

/* Fills it with defaults. */
void coquic_transport_config_init(coquic_transport_config_t *config);
void coquic_endpoint_config_init(coquic_endpoint_config_t *config);
void coquic_client_connection_config_init(coquic_client_connection_config_t *config);

/* An endpoint. INVALID_ARGUMENT: the settings want what there is not, or lack a usable certificate. */
coquic_status_t coquic_endpoint_create(const coquic_endpoint_config_t *config, coquic_endpoint_t **out_endpoint);

/* Ends it without a word to its peers. Its results stay good. */
void coquic_endpoint_destroy(coquic_endpoint_t *endpoint);

/* Begins a connection; its handle is in the LIFECYCLE_CREATED effect. */
coquic_status_t coquic_endpoint_open_connection(coquic_endpoint_t *endpoint, const coquic_open_connection_t *input,
    coquic_time_us_t now, coquic_result_t **out_result);

/* Takes a datagram. */
coquic_status_t coquic_endpoint_input_datagram(coquic_endpoint_t *endpoint, const coquic_inbound_datagram_t *input,
    coquic_time_us_t now, coquic_result_t **out_result);

/* Takes what a router said about the size of datagrams. */
coquic_status_t coquic_endpoint_update_path_mtu(coquic_endpoint_t *endpoint, const coquic_path_mtu_update_t *input,
    coquic_time_us_t now, coquic_result_t **out_result);

/* Does what is due; it may be called early and late. */
coquic_status_t coquic_endpoint_timer_expired(coquic_endpoint_t *endpoint, coquic_time_us_t now, coquic_result_t
    **out_result);

/* Commands for a connection. A connection that is not there gives a local error. */
coquic_status_t coquic_connection_send_stream(coquic_endpoint_t *endpoint, coquic_connection_handle_t connection,
    const coquic_send_stream_data_t *input, coquic_time_us_t now, coquic_result_t **out_result);
coquic_status_t coquic_connection_send_datagram(coquic_endpoint_t *endpoint, coquic_connection_handle_t connection,
    const coquic_send_datagram_data_t *input, coquic_time_us_t now, coquic_result_t **out_result);
coquic_status_t coquic_connection_reset_stream(coquic_endpoint_t *endpoint, coquic_connection_handle_t connection,
    const coquic_reset_stream_t *input, coquic_time_us_t now, coquic_result_t **out_result);
coquic_status_t coquic_connection_stop_sending(coquic_endpoint_t *endpoint, coquic_connection_handle_t connection,
    const coquic_stop_sending_t *input, coquic_time_us_t now, coquic_result_t **out_result);
coquic_status_t coquic_connection_close(coquic_endpoint_t *endpoint, coquic_connection_handle_t connection, const
    coquic_close_connection_t *input, coquic_time_us_t now, coquic_result_t **out_result);
coquic_status_t coquic_connection_request_key_update(coquic_endpoint_t *endpoint, coquic_connection_handle_t
    connection, coquic_time_us_t now, coquic_result_t **out_result);
coquic_status_t coquic_connection_request_migration(coquic_endpoint_t *endpoint, coquic_connection_handle_t
    connection, const coquic_request_connection_migration_t *input, coquic_time_us_t now, coquic_result_t
    **out_result);
coquic_status_t coquic_connection_advance(coquic_endpoint_t *endpoint, coquic_connection_handle_t connection, const
    coquic_connection_input_t *input, coquic_time_us_t now, coquic_result_t **out_result);

/* The same by other names. coquic_quic_connect also gives the handle, or 0 with a local error. */
coquic_status_t coquic_quic_connect(coquic_endpoint_t *endpoint, const coquic_open_connection_t *input,
    coquic_time_us_t now, coquic_connection_handle_t *out_connection, coquic_result_t **out_result);
coquic_status_t coquic_quic_receive_datagram(coquic_endpoint_t *endpoint, const coquic_inbound_datagram_t *input,
    coquic_time_us_t now, coquic_result_t **out_result);
coquic_status_t coquic_quic_update_path_mtu(coquic_endpoint_t *endpoint, const coquic_path_mtu_update_t *input,
    coquic_time_us_t now, coquic_result_t **out_result);
coquic_status_t coquic_quic_timer_expired(coquic_endpoint_t *endpoint, coquic_time_us_t now, coquic_result_t
    **out_result);
coquic_status_t coquic_quic_connection_send_stream(coquic_endpoint_t *endpoint, coquic_connection_handle_t
    connection, const coquic_send_stream_data_t *input, coquic_time_us_t now, coquic_result_t **out_result);
coquic_status_t coquic_quic_connection_send_datagram(coquic_endpoint_t *endpoint, coquic_connection_handle_t
    connection, const coquic_send_datagram_data_t *input, coquic_time_us_t now, coquic_result_t **out_result);
coquic_status_t coquic_quic_connection_reset_stream(coquic_endpoint_t *endpoint, coquic_connection_handle_t
    connection, const coquic_reset_stream_t *input, coquic_time_us_t now, coquic_result_t **out_result);
coquic_status_t coquic_quic_connection_stop_sending(coquic_endpoint_t *endpoint, coquic_connection_handle_t
    connection, const coquic_stop_sending_t *input, coquic_time_us_t now, coquic_result_t **out_result);
coquic_status_t coquic_quic_connection_close(coquic_endpoint_t *endpoint, coquic_connection_handle_t connection,
    const coquic_close_connection_t *input, coquic_time_us_t now, coquic_result_t **out_result);
coquic_status_t coquic_quic_connection_request_key_update(coquic_endpoint_t *endpoint, coquic_connection_handle_t
    connection, coquic_time_us_t now, coquic_result_t **out_result);
coquic_status_t coquic_quic_connection_advance(coquic_endpoint_t *endpoint, coquic_connection_handle_t connection,
    const coquic_connection_input_t *input, coquic_time_us_t now, coquic_result_t **out_result);
coquic_status_t coquic_quic_stream_send(coquic_endpoint_t *endpoint, coquic_connection_handle_t connection,
    coquic_stream_id_t stream_id, coquic_bytes_t bytes, uint8_t fin, coquic_time_us_t now, coquic_result_t
    **out_result);
coquic_status_t coquic_quic_stream_finish(coquic_endpoint_t *endpoint, coquic_connection_handle_t connection,
    coquic_stream_id_t stream_id, coquic_time_us_t now, coquic_result_t **out_result);
coquic_status_t coquic_quic_stream_reset(coquic_endpoint_t *endpoint, coquic_connection_handle_t connection,
    coquic_stream_id_t stream_id, uint64_t application_error_code, coquic_time_us_t now, coquic_result_t
    **out_result);
coquic_status_t coquic_quic_stream_stop_sending(coquic_endpoint_t *endpoint, coquic_connection_handle_t connection,
    coquic_stream_id_t stream_id, uint64_t application_error_code, coquic_time_us_t now, coquic_result_t
    **out_result);

/* Connections whose handles are valid. */
size_t coquic_endpoint_connection_count(const coquic_endpoint_t *endpoint);

/* There is more to be sent at once: coquic_endpoint_timer_expired gives it. */
uint8_t coquic_endpoint_has_send_continuation_pending(const coquic_endpoint_t *endpoint);

/* Some connection has data that was not sent yet: the path or the peer does not take more. */
uint8_t coquic_endpoint_has_pending_stream_send(const coquic_endpoint_t *endpoint);

/* When coquic_endpoint_timer_expired is to be called. */
coquic_optional_time_us_t coquic_endpoint_next_wakeup(const coquic_endpoint_t *endpoint);

/* Takes a result back, and with it what its effects point to. */
void coquic_result_destroy(coquic_result_t *result);

/* Effects, in the order in which they are to be handled. A connection's first data can come before the state that it is ready. */
size_t coquic_result_effect_count(const coquic_result_t *result);
coquic_status_t coquic_result_effect_at(const coquic_result_t *result, size_t index, coquic_effect_t *out_effect);

/* As of the endpoint when it gave the result. */
coquic_optional_time_us_t coquic_result_next_wakeup(const coquic_result_t *result);

/* Whether the command was refused, and why. */
uint8_t coquic_result_has_local_error(const coquic_result_t *result);
coquic_status_t coquic_result_local_error(const coquic_result_t *result, coquic_local_error_t *out_error);

/* There is more to be sent at once: coquic_endpoint_timer_expired gives it. */
uint8_t coquic_result_send_continuation_pending(const coquic_result_t *result);

#ifdef __cplusplus
}
#endif

#endif
