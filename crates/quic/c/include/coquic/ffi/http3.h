/* coquic/ffi/http3.h - HTTP/3 over connections of core.h.
 *
 * A client, or a server, belongs to one connection: the one that begins in the first result it is given, or else that of its
 * first effect; what concerns other connections it passes over. Every result of the connection is handed to it; it gives an
 * update, with what the connection is to do (each input for coquic_connection_advance, in order; the results are handed to it
 * after the last) and with what has happened. After calls that submit something, coquic_http3_..._poll gives the update.
 *
 * Messages come whole, with their content; one connection keeps at most 16 MiB of content that is not complete (4 MiB where pointers
 * have 32 bits), and 16 interim heads of a response; what is beyond that fails. Of CONNECT the event comes with the head, events of the
 * same stream bring content as it comes, and one without content is the end of what the peer sends.
 *
 * A server has 100 requests at a time, pushes counted with them, and rejects those beyond (COQUIC_HTTP3_ERROR_REQUEST_REJECTED), however
 * many streams its QUIC allows. A client's number is not limited; requests beyond what the server's QUIC allows wait.
 *
 * Ownership, statuses and threads are as in core.h. What an update's events point to is good until the update is destroyed. What
 * HTTP/3 refuses is COQUIC_STATUS_OK with a code other than COQUIC_HTTP3_ERROR_NO_ERROR in the error, which may be NULL. */
#ifndef COQUIC_FFI_HTTP3_H
#define COQUIC_FFI_HTTP3_H

#include "coquic/ffi/core.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Error codes of RFC 9114, RFC 9204 and RFC 9297. */
typedef uint16_t coquic_http3_error_code_t;
#define COQUIC_HTTP3_ERROR_NO_ERROR 0x0100
#define COQUIC_HTTP3_ERROR_GENERAL_PROTOCOL_ERROR 0x0101
#define COQUIC_HTTP3_ERROR_INTERNAL_ERROR 0x0102
#define COQUIC_HTTP3_ERROR_STREAM_CREATION_ERROR 0x0103
#define COQUIC_HTTP3_ERROR_CLOSED_CRITICAL_STREAM 0x0104
#define COQUIC_HTTP3_ERROR_FRAME_UNEXPECTED 0x0105
#define COQUIC_HTTP3_ERROR_FRAME_ERROR 0x0106
#define COQUIC_HTTP3_ERROR_EXCESSIVE_LOAD 0x0107
#define COQUIC_HTTP3_ERROR_ID_ERROR 0x0108
#define COQUIC_HTTP3_ERROR_SETTINGS_ERROR 0x0109
#define COQUIC_HTTP3_ERROR_MISSING_SETTINGS 0x010a
#define COQUIC_HTTP3_ERROR_REQUEST_REJECTED 0x010b
#define COQUIC_HTTP3_ERROR_REQUEST_CANCELLED 0x010c
#define COQUIC_HTTP3_ERROR_REQUEST_INCOMPLETE 0x010d
#define COQUIC_HTTP3_ERROR_MESSAGE_ERROR 0x010e
#define COQUIC_HTTP3_ERROR_CONNECT_ERROR 0x010f
#define COQUIC_HTTP3_ERROR_VERSION_FALLBACK 0x0110
#define COQUIC_HTTP3_ERROR_QPACK_DECOMPRESSION_FAILED 0x0200
#define COQUIC_HTTP3_ERROR_QPACK_ENCODER_STREAM_ERROR 0x0201
#define COQUIC_HTTP3_ERROR_QPACK_DECODER_STREAM_ERROR 0x0202
#define COQUIC_HTTP3_ERROR_DATAGRAM_ERROR 0x0033

typedef struct coquic_http3_client coquic_http3_client_t;
typedef struct coquic_http3_client_update coquic_http3_client_update_t;
typedef struct coquic_http3_server coquic_http3_server_t;
typedef struct coquic_http3_server_update coquic_http3_server_update_t;

typedef struct coquic_http3_optional_u64_t {
    uint8_t has_value;
    uint64_t value;
} coquic_http3_optional_u64_t;

/* What this end tells the other: the table it decodes with, how many streams may wait for it, the largest field section
 * it takes, and whether it takes CONNECT with a protocol (RFC 9220) and datagrams (RFC 9297). */
typedef struct coquic_http3_settings_t {
    size_t size;
    uint64_t qpack_max_table_capacity;
    uint64_t qpack_blocked_streams;
    coquic_http3_optional_u64_t max_field_section_size;
    uint8_t enable_connect_protocol;
    uint8_t h3_datagram;
} coquic_http3_settings_t;

/* With the settings that the server had in the connection that is resumed (coquic_http3_client_peer_settings), requests are sent in
 * 0-RTT if QUIC tries that; without them, and if it does not, when the handshake is ready. Who can hear the network can have such a
 * request done again: submit no other than those that may be. */
typedef struct coquic_http3_client_config_t {
    size_t size;
    coquic_http3_settings_t local_settings;
    uint8_t has_remembered_peer_settings;
    coquic_http3_settings_t remembered_peer_settings;
} coquic_http3_client_config_t;

typedef struct coquic_http3_server_config_t {
    size_t size;
    coquic_http3_settings_t local_settings;
} coquic_http3_server_config_t;

/* A field that is sent. Names are in lower case. */
typedef struct coquic_http3_field_t {
    const char *name;
    size_t name_length;
    const char *value;
    size_t value_length;
} coquic_http3_field_t;

typedef struct coquic_http3_field_view_t {
    coquic_bytes_view_t name;
    coquic_bytes_view_t value;
} coquic_http3_field_view_t;

/* The head of a request. With a content length, the field is added if it is not among the headers. A protocol makes it
 * an extended CONNECT. */
typedef struct coquic_http3_request_head_t {
    size_t size;
    const char *method;
    size_t method_length;
    const char *scheme;
    size_t scheme_length;
    const char *authority;
    size_t authority_length;
    const char *path;
    size_t path_length;
    coquic_http3_optional_u64_t content_length;
    const coquic_http3_field_t *headers;
    size_t headers_count;
    uint8_t has_protocol;
    const char *protocol;
    size_t protocol_length;
} coquic_http3_request_head_t;

typedef struct coquic_http3_response_head_t {
    size_t size;
    uint16_t status;
    coquic_http3_optional_u64_t content_length;
    const coquic_http3_field_t *headers;
    size_t headers_count;
} coquic_http3_response_head_t;

typedef struct coquic_http3_request_t {
    size_t size;
    coquic_http3_request_head_t head;
    coquic_bytes_t body;
    const coquic_http3_field_t *trailers;
    size_t trailers_count;
} coquic_http3_request_t;

/* Beyond the original. */
typedef struct coquic_http3_response_t {
    size_t size;
    const coquic_http3_response_head_t *interim_heads;
    size_t interim_heads_count;
    coquic_http3_response_head_t head;
    coquic_bytes_t body;
    const coquic_http3_field_t *trailers;
    size_t trailers_count;
} coquic_http3_response_t;

typedef struct coquic_http3_request_head_view_t {
    coquic_bytes_view_t method;
    coquic_bytes_view_t scheme;
    coquic_bytes_view_t authority;
    coquic_bytes_view_t path;
    uint8_t has_protocol;
    coquic_bytes_view_t protocol;
    coquic_http3_optional_u64_t content_length;
    const coquic_http3_field_view_t *headers;
    size_t headers_count;
} coquic_http3_request_head_view_t;

typedef struct coquic_http3_response_head_view_t {
    uint16_t status;
    coquic_http3_optional_u64_t content_length;
    const coquic_http3_field_view_t *headers;
    size_t headers_count;
} coquic_http3_response_head_view_t;

typedef struct coquic_http3_request_view_t {
    coquic_http3_request_head_view_t head;
    coquic_bytes_view_t body;
    const coquic_http3_field_view_t *trailers;
    size_t trailers_count;
} coquic_http3_request_view_t;

typedef struct coquic_http3_response_view_t {
    const coquic_http3_response_head_view_t *interim_heads;
    size_t interim_head_count;
    coquic_http3_response_head_view_t head;
    coquic_bytes_view_t body;
    const coquic_http3_field_view_t *trailers;
    size_t trailers_count;
} coquic_http3_response_view_t;

/* A response, with the request as it was submitted. */
typedef struct coquic_http3_client_response_event_t {
    coquic_stream_id_t stream_id;
    coquic_http3_request_view_t request;
    coquic_http3_response_view_t response;
} coquic_http3_client_response_event_t;

/* A request that gets no response. With COQUIC_HTTP3_ERROR_REQUEST_REJECTED it may be sent again: on this connection if the server has refused
 * 0-RTT and no more than that, else on another. */
typedef struct coquic_http3_client_request_error_event_t {
    coquic_stream_id_t stream_id;
    coquic_http3_request_view_t request;
    uint64_t application_error_code;
} coquic_http3_client_request_error_event_t;

/* A response the server sent unasked, and what it promised to be the answer to. */
typedef struct coquic_http3_client_push_response_event_t {
    coquic_stream_id_t request_stream_id;
    uint64_t push_id;
    coquic_http3_request_head_view_t request;
    coquic_http3_response_view_t response;
} coquic_http3_client_push_response_event_t;

typedef struct coquic_http3_client_push_error_event_t {
    uint64_t push_id;
    uint8_t has_request;
    coquic_http3_request_head_view_t request;
    uint64_t application_error_code;
} coquic_http3_client_push_error_event_t;

/* How the client wants a response, or a push, to be sent: a dictionary of RFC 9218. */
typedef struct coquic_http3_priority_update_event_t {
    uint64_t id;
    uint8_t push;
    coquic_bytes_view_t priority_field_value;
} coquic_http3_priority_update_event_t;

typedef struct coquic_http3_datagram_event_t {
    coquic_stream_id_t stream_id;
    coquic_bytes_view_t payload;
} coquic_http3_datagram_event_t;

/* A request that was given up, with what had come of it and was not handed out. */
typedef struct coquic_http3_server_request_cancelled_event_t {
    coquic_stream_id_t stream_id;
    uint8_t has_head;
    coquic_http3_request_head_view_t head;
    coquic_bytes_view_t body;
    const coquic_http3_field_view_t *trailers;
    size_t trailers_count;
    uint64_t application_error_code;
} coquic_http3_server_request_cancelled_event_t;

/* Beyond the original: a request. */
typedef struct coquic_http3_server_request_event_t {
    coquic_stream_id_t stream_id;
    coquic_http3_request_view_t request;
} coquic_http3_server_request_event_t;

/* The caller gives the buffer, which may be NULL. detail_length is the whole length; there is a NUL behind the text if
 * it fits. */
typedef struct coquic_http3_error_t {
    coquic_http3_error_code_t code;
    coquic_optional_stream_id_t stream_id;
    char *detail_buffer;
    size_t detail_buffer_capacity;
    size_t detail_length;
    uint8_t detail_truncated;
} coquic_http3_error_t;

/* Settings that do, and the configuration of an endpoint for HTTP/3: ALPN "h3"; servers do not ask for certificates. */
void coquic_http3_settings_init(coquic_http3_settings_t *settings);
void coquic_http3_client_config_init(coquic_http3_client_config_t *config);
void coquic_http3_server_config_init(coquic_http3_server_config_t *config);
void coquic_http3_client_endpoint_config_init(coquic_endpoint_config_t *config);
void coquic_http3_server_endpoint_config_init(coquic_endpoint_config_t *config);

/* A client, before the connection is opened or after. */
coquic_status_t coquic_http3_client_create(const coquic_http3_client_config_t *config, coquic_http3_client_t
    **out_client);
void coquic_http3_client_destroy(coquic_http3_client_t *client);

/* A request, which is sent when the handshake is ready, or in 0-RTT (see the configuration). The stream is 0 if it was refused. */
coquic_status_t coquic_http3_client_submit_request(coquic_http3_client_t *client, const coquic_http3_request_t
    *request, coquic_stream_id_t *out_stream_id, coquic_http3_error_t *out_error);

/* Lets the server push, up to this number; gives a push up. */
coquic_status_t coquic_http3_client_submit_max_push_id(coquic_http3_client_t *client, uint64_t push_id,
    coquic_http3_error_t *out_error);
coquic_status_t coquic_http3_client_cancel_push(coquic_http3_client_t *client, uint64_t push_id,
    coquic_http3_error_t *out_error);

/* Tells the server how to send a response. */
coquic_status_t coquic_http3_client_submit_priority_update_for_request(coquic_http3_client_t *client,
    coquic_stream_id_t stream_id, const char *priority_field_value, size_t priority_field_value_length,
    coquic_http3_error_t *out_error);
coquic_status_t coquic_http3_client_submit_priority_update_for_push(coquic_http3_client_t *client, uint64_t
    push_id, const char *priority_field_value, size_t priority_field_value_length, coquic_http3_error_t *out_error);

/* A datagram that belongs to a request, if both ends take them. */
coquic_status_t coquic_http3_client_submit_datagram(coquic_http3_client_t *client, coquic_stream_id_t stream_id,
    coquic_bytes_t payload, coquic_http3_error_t *out_error);

/* Ends a CONNECT request because what is behind it broke: COQUIC_HTTP3_ERROR_CONNECT_ERROR. */
coquic_status_t coquic_http3_client_abort_connect_stream(coquic_http3_client_t *client, coquic_stream_id_t
    stream_id, coquic_http3_error_t *out_error);

/* Hands in a result of the connection, or nothing. */
coquic_status_t coquic_http3_client_on_quic_result(coquic_http3_client_t *client, const coquic_result_t *result,
    coquic_time_us_t now, coquic_http3_client_update_t **out_update);
coquic_status_t coquic_http3_client_poll(coquic_http3_client_t *client, coquic_time_us_t now,
    coquic_http3_client_update_t **out_update);

/* Whether the connection has ended. */
uint8_t coquic_http3_client_has_failed(const coquic_http3_client_t *client);

/* Beyond the original: the server's settings, for remembered_peer_settings of a later connection. COQUIC_STATUS_INVALID_ARGUMENT as long as
 * they have not come. */
coquic_status_t coquic_http3_client_peer_settings(coquic_http3_client_t *client, coquic_http3_settings_t *out_settings);

void coquic_http3_client_update_destroy(coquic_http3_client_update_t *update);

/* What the connection is to do. */
size_t coquic_http3_client_update_connection_input_count(const coquic_http3_client_update_t *update);
coquic_status_t coquic_http3_client_update_connection_input_at(const coquic_http3_client_update_t *update,
    size_t index, coquic_connection_input_t *out_input);

/* What has happened. Servers send no priorities (RFC 9218, section 7.2), so there are none. */
size_t coquic_http3_client_update_response_count(const coquic_http3_client_update_t *update);
coquic_status_t coquic_http3_client_update_response_at(const coquic_http3_client_update_t *update, size_t index,
    coquic_http3_client_response_event_t *out_event);
size_t coquic_http3_client_update_request_error_count(const coquic_http3_client_update_t *update);
coquic_status_t coquic_http3_client_update_request_error_at(const coquic_http3_client_update_t *update, size_t
    index, coquic_http3_client_request_error_event_t *out_event);
size_t coquic_http3_client_update_push_response_count(const coquic_http3_client_update_t *update);
coquic_status_t coquic_http3_client_update_push_response_at(const coquic_http3_client_update_t *update, size_t
    index, coquic_http3_client_push_response_event_t *out_event);
size_t coquic_http3_client_update_push_error_count(const coquic_http3_client_update_t *update);
coquic_status_t coquic_http3_client_update_push_error_at(const coquic_http3_client_update_t *update, size_t
    index, coquic_http3_client_push_error_event_t *out_event);
size_t coquic_http3_client_update_priority_update_count(const coquic_http3_client_update_t *update);
coquic_status_t coquic_http3_client_update_priority_update_at(const coquic_http3_client_update_t *update, size_t
    index, coquic_http3_priority_update_event_t *out_event);
size_t coquic_http3_client_update_datagram_count(const coquic_http3_client_update_t *update);
coquic_status_t coquic_http3_client_update_datagram_at(const coquic_http3_client_update_t *update, size_t index,
    coquic_http3_datagram_event_t *out_event);

/* Requests wait for the handshake; the connection has ended; the result had a local error, which was seen to. */
uint8_t coquic_http3_client_update_has_pending_work(const coquic_http3_client_update_t *update);
uint8_t coquic_http3_client_update_terminal_failure(const coquic_http3_client_update_t *update);
uint8_t coquic_http3_client_update_handled_local_error(const coquic_http3_client_update_t *update);

/* A server, for a connection that was accepted. If its program does not take requests (see below), it answers POST to
 * /_coquic/echo, /_coquic/inspect and /_coquic/speed/upload, GET and HEAD to /_coquic/speed/ping and
 * /_coquic/speed/download?bytes=N, and 404 to all else. */
coquic_status_t coquic_http3_server_create(const coquic_http3_server_config_t *config, coquic_http3_server_t
    **out_server);
void coquic_http3_server_destroy(coquic_http3_server_t *server);

/* A promise to answer a request that was not sent, with a request whose response has not ended. Then the response: its
 * head, content, trailers, and its end, which comes with fin or by itself. Without enforce_content_length it may be
 * shorter than it said. */
coquic_status_t coquic_http3_server_submit_push_promise(coquic_http3_server_t *server, coquic_stream_id_t
    request_stream_id, const coquic_http3_request_head_t *head, uint64_t *out_push_id, coquic_http3_error_t
    *out_error);
coquic_status_t coquic_http3_server_submit_push_response_head(coquic_http3_server_t *server, uint64_t push_id,
    const coquic_http3_response_head_t *head, coquic_http3_error_t *out_error);
coquic_status_t coquic_http3_server_submit_push_response_body(coquic_http3_server_t *server, uint64_t push_id,
    coquic_bytes_t body, uint8_t fin, coquic_http3_error_t *out_error);
coquic_status_t coquic_http3_server_submit_push_response_trailers(coquic_http3_server_t *server, uint64_t
    push_id, const coquic_http3_field_t *trailers, size_t trailers_count, uint8_t fin, coquic_http3_error_t
    *out_error);
coquic_status_t coquic_http3_server_finish_push_response(coquic_http3_server_t *server, uint64_t push_id,
    uint8_t enforce_content_length, coquic_http3_error_t *out_error);
coquic_status_t coquic_http3_server_cancel_push(coquic_http3_server_t *server, uint64_t push_id,
    coquic_http3_error_t *out_error);

/* Refused: only clients may send these (RFC 9218, section 7.2). */
coquic_status_t coquic_http3_server_submit_priority_update_for_request(coquic_http3_server_t *server,
    coquic_stream_id_t stream_id, const char *priority_field_value, size_t priority_field_value_length,
    coquic_http3_error_t *out_error);
coquic_status_t coquic_http3_server_submit_priority_update_for_push(coquic_http3_server_t *server, uint64_t
    push_id, const char *priority_field_value, size_t priority_field_value_length, coquic_http3_error_t *out_error);

/* As of the client. */
coquic_status_t coquic_http3_server_submit_datagram(coquic_http3_server_t *server, coquic_stream_id_t stream_id,
    coquic_bytes_t payload, coquic_http3_error_t *out_error);
coquic_status_t coquic_http3_server_abort_connect_stream(coquic_http3_server_t *server, coquic_stream_id_t
    stream_id, coquic_http3_error_t *out_error);
coquic_status_t coquic_http3_server_on_quic_result(coquic_http3_server_t *server, const coquic_result_t *result,
    coquic_time_us_t now, coquic_http3_server_update_t **out_update);
coquic_status_t coquic_http3_server_poll(coquic_http3_server_t *server, coquic_time_us_t now,
    coquic_http3_server_update_t **out_update);
uint8_t coquic_http3_server_has_failed(const coquic_http3_server_t *server);
void coquic_http3_server_update_destroy(coquic_http3_server_update_t *update);
size_t coquic_http3_server_update_connection_input_count(const coquic_http3_server_update_t *update);
coquic_status_t coquic_http3_server_update_connection_input_at(const coquic_http3_server_update_t *update,
    size_t index, coquic_connection_input_t *out_input);
size_t coquic_http3_server_update_request_cancelled_count(const coquic_http3_server_update_t *update);
coquic_status_t coquic_http3_server_update_request_cancelled_at(const coquic_http3_server_update_t *update,
    size_t index, coquic_http3_server_request_cancelled_event_t *out_event);
size_t coquic_http3_server_update_priority_update_count(const coquic_http3_server_update_t *update);
coquic_status_t coquic_http3_server_update_priority_update_at(const coquic_http3_server_update_t *update, size_t
    index, coquic_http3_priority_update_event_t *out_event);
size_t coquic_http3_server_update_datagram_count(const coquic_http3_server_update_t *update);
coquic_status_t coquic_http3_server_update_datagram_at(const coquic_http3_server_update_t *update, size_t index,
    coquic_http3_datagram_event_t *out_event);
uint8_t coquic_http3_server_update_has_pending_work(const coquic_http3_server_update_t *update);
uint8_t coquic_http3_server_update_terminal_failure(const coquic_http3_server_update_t *update);
uint8_t coquic_http3_server_update_handled_local_error(const coquic_http3_server_update_t *update);

/* Parts of views. */
coquic_status_t coquic_http3_request_view_header_at(const coquic_http3_request_view_t *request, size_t index,
    coquic_http3_field_view_t *out_field);
coquic_status_t coquic_http3_request_view_trailer_at(const coquic_http3_request_view_t *request, size_t index,
    coquic_http3_field_view_t *out_field);
coquic_status_t coquic_http3_request_head_view_header_at(const coquic_http3_request_head_view_t *head, size_t
    index, coquic_http3_field_view_t *out_field);
coquic_status_t coquic_http3_response_view_interim_head_at(const coquic_http3_response_view_t *response, size_t
    index, coquic_http3_response_head_view_t *out_head);
coquic_status_t coquic_http3_response_view_header_at(const coquic_http3_response_view_t *response, size_t index,
    coquic_http3_field_view_t *out_field);
coquic_status_t coquic_http3_response_view_trailer_at(const coquic_http3_response_view_t *response, size_t
    index, coquic_http3_field_view_t *out_field);
coquic_status_t coquic_http3_response_head_view_header_at(const coquic_http3_response_head_view_t *head, size_t
    index, coquic_http3_field_view_t *out_field);
coquic_status_t coquic_http3_server_request_cancelled_view_trailer_at(const
    coquic_http3_server_request_cancelled_event_t *event, size_t index, coquic_http3_field_view_t *out_field);

/* Beyond the original: with take other than 0 the program gets requests as events, and answers them. */
coquic_status_t coquic_http3_server_take_requests(coquic_http3_server_t *server, uint8_t take);
size_t coquic_http3_server_update_request_count(const coquic_http3_server_update_t *update);
coquic_status_t coquic_http3_server_update_request_at(const coquic_http3_server_update_t *update, size_t index,
    coquic_http3_server_request_event_t *out_event);

/* A response as a whole; or its head (of interim responses before, if the status is 1xx), content, trailers and end. */
coquic_status_t coquic_http3_server_submit_response(coquic_http3_server_t *server, coquic_stream_id_t stream_id,
    const coquic_http3_response_t *response, coquic_http3_error_t *out_error);
coquic_status_t coquic_http3_server_submit_response_head(coquic_http3_server_t *server, coquic_stream_id_t
    stream_id, const coquic_http3_response_head_t *head, coquic_http3_error_t *out_error);
coquic_status_t coquic_http3_server_submit_response_body(coquic_http3_server_t *server, coquic_stream_id_t
    stream_id, coquic_bytes_t body, uint8_t fin, coquic_http3_error_t *out_error);
coquic_status_t coquic_http3_server_submit_response_trailers(coquic_http3_server_t *server, coquic_stream_id_t
    stream_id, const coquic_http3_field_t *trailers, size_t trailers_count, uint8_t fin, coquic_http3_error_t
    *out_error);
coquic_status_t coquic_http3_server_finish_response(coquic_http3_server_t *server, coquic_stream_id_t stream_id,
    uint8_t enforce_content_length, coquic_http3_error_t *out_error);

/* Takes no requests that have not come by now; what is open goes on. */
coquic_status_t coquic_http3_server_shutdown(coquic_http3_server_t *server, coquic_http3_error_t *out_error);

#ifdef __cplusplus
}
#endif

#endif
