/* Random calls of the HTTP/3 part of the C API, over a connection in memory, and random damage to what each end gives the streams.
 * Takes the folder of cert.pem and key.pem, a seed and seconds. Nothing is checked but that calls return what they may, and what
 * sanitizers see. */
#define _POSIX_C_SOURCE 200809L
#include "any.h"

#include <coquic/ffi/http3.h>

#include <time.h>

enum { CALLS = 500, KEPT = 512 };

struct ends {
    struct pair pair;
    coquic_http3_client_t *client;
    coquic_http3_server_t *server;
    /* Results that HTTP/3 was not given yet. */
    coquic_result_t *kept[KEPT];
    int of[KEPT];
    size_t count;
    int damage;
};

static coquic_tls_identity_t identity;

static void touch(coquic_bytes_view_t view) {
    static volatile uint8_t sum;
    size_t at;
    for (at = 0; at < view.length; at++)
        sum ^= view.data[at];
}

static void touch_field(coquic_status_t status, const coquic_http3_field_view_t *field, int there) {
    REQUIRE(status == (there ? COQUIC_STATUS_OK : COQUIC_STATUS_INVALID_ARGUMENT));
    if (there) {
        touch(field->name);
        touch(field->value);
    }
}

static void touch_request_head(const coquic_http3_request_head_view_t *head) {
    coquic_http3_field_view_t field;
    size_t at;
    touch(head->method);
    touch(head->scheme);
    touch(head->authority);
    touch(head->path);
    if (head->has_protocol)
        touch(head->protocol);
    for (at = 0; at <= head->headers_count; at++)
        touch_field(coquic_http3_request_head_view_header_at(head, at, &field), &field, at < head->headers_count);
}

static void touch_request(const coquic_http3_request_view_t *request) {
    coquic_http3_field_view_t field;
    size_t at;
    touch_request_head(&request->head);
    touch(request->body);
    for (at = 0; at <= request->head.headers_count; at++)
        touch_field(coquic_http3_request_view_header_at(request, at, &field), &field, at < request->head.headers_count);
    for (at = 0; at <= request->trailers_count; at++)
        touch_field(coquic_http3_request_view_trailer_at(request, at, &field), &field, at < request->trailers_count);
}

static void touch_response_head(const coquic_http3_response_head_view_t *head) {
    coquic_http3_field_view_t field;
    size_t at;
    for (at = 0; at <= head->headers_count; at++)
        touch_field(coquic_http3_response_head_view_header_at(head, at, &field), &field, at < head->headers_count);
}

static void touch_response(const coquic_http3_response_view_t *response) {
    coquic_http3_field_view_t field;
    coquic_http3_response_head_view_t head;
    size_t at;
    touch_response_head(&response->head);
    touch(response->body);
    for (at = 0; at < response->interim_head_count; at++) {
        REQUIRE(coquic_http3_response_view_interim_head_at(response, at, &head) == COQUIC_STATUS_OK);
        touch_response_head(&head);
    }
    REQUIRE(coquic_http3_response_view_interim_head_at(response, at, &head) == COQUIC_STATUS_INVALID_ARGUMENT);
    for (at = 0; at <= response->head.headers_count; at++)
        touch_field(coquic_http3_response_view_header_at(response, at, &field), &field, at < response->head.headers_count);
    for (at = 0; at <= response->trailers_count; at++)
        touch_field(coquic_http3_response_view_trailer_at(response, at, &field), &field, at < response->trailers_count);
}

/* Keeps what is not HTTP/3's of a result, and the result for HTTP/3. */
static void keep(struct ends *ends, int side, coquic_status_t status, coquic_result_t *result) {
    size_t at;
    coquic_effect_t effect;
    REQUIRE((status == COQUIC_STATUS_OK) == (result != NULL) && status <= COQUIC_STATUS_INVALID_ARGUMENT);
    for (at = 0; coquic_result_effect_at(result, at, &effect) == COQUIC_STATUS_OK; at++)
        if (effect.kind != COQUIC_EFFECT_RECEIVE_STREAM_DATA && effect.kind != COQUIC_EFFECT_RECEIVE_DATAGRAM_DATA)
            note(&ends->pair, side, &effect);
    if (ends->count == KEPT) {
        coquic_result_destroy(result);
        return;
    }
    ends->of[ends->count] = side;
    ends->kept[ends->count++] = result;
}

/* Does what an update says, sometimes not quite. */
static void advance(struct ends *ends, int side, coquic_connection_input_t *input) {
    coquic_result_t *result;
    coquic_status_t status;
    uint8_t *copy = NULL;
    if (input->kind == COQUIC_CONNECTION_INPUT_SEND_STREAM && ends->damage && !below(150)) {
        coquic_send_stream_data_t *send = &input->as.send_stream;
        size_t length = send->bytes.length;
        copy = malloc(length + 1);
        REQUIRE(copy);
        if (length) {
            memcpy(copy, send->bytes.data, length);
            copy[below(length < 8 || below(2) ? length : 8)] ^= (uint8_t)any();
            length = below(3) ? length : below(length + 1);
        }
        send->bytes = bytes(copy, length);
        send->fin = (uint8_t)(below(10) ? send->fin : !send->fin);
    }
    status = coquic_connection_advance(ends->pair.endpoint[side], ends->pair.seen[side].connection, input, ends->pair.now, &result);
    free(copy);
    keep(ends, side, status, result);
}

static void client_update(struct ends *ends, coquic_http3_client_update_t *update) {
    size_t at;
    coquic_connection_input_t input;
    coquic_http3_client_response_event_t response;
    coquic_http3_client_request_error_event_t error;
    coquic_http3_client_push_response_event_t pushed;
    coquic_http3_client_push_error_event_t push_error;
    coquic_http3_priority_update_event_t priority;
    coquic_http3_datagram_event_t datagram;
    for (at = 0; coquic_http3_client_update_response_at(update, at, &response) == COQUIC_STATUS_OK; at++) {
        touch_request(&response.request);
        touch_response(&response.response);
    }
    REQUIRE(at == coquic_http3_client_update_response_count(update));
    for (at = 0; coquic_http3_client_update_request_error_at(update, at, &error) == COQUIC_STATUS_OK; at++)
        touch_request(&error.request);
    REQUIRE(at == coquic_http3_client_update_request_error_count(update));
    for (at = 0; coquic_http3_client_update_push_response_at(update, at, &pushed) == COQUIC_STATUS_OK; at++) {
        touch_request_head(&pushed.request);
        touch_response(&pushed.response);
    }
    REQUIRE(at == coquic_http3_client_update_push_response_count(update));
    for (at = 0; coquic_http3_client_update_push_error_at(update, at, &push_error) == COQUIC_STATUS_OK; at++)
        if (push_error.has_request)
            touch_request_head(&push_error.request);
    REQUIRE(at == coquic_http3_client_update_push_error_count(update));
    REQUIRE(coquic_http3_client_update_priority_update_count(update) == 0);
    REQUIRE(coquic_http3_client_update_priority_update_at(update, 0, &priority) == COQUIC_STATUS_INVALID_ARGUMENT);
    for (at = 0; coquic_http3_client_update_datagram_at(update, at, &datagram) == COQUIC_STATUS_OK; at++)
        touch(datagram.payload);
    REQUIRE(at == coquic_http3_client_update_datagram_count(update));
    for (at = 0; coquic_http3_client_update_connection_input_at(update, at, &input) == COQUIC_STATUS_OK; at++)
        advance(ends, CLIENT, &input);
    REQUIRE(at == coquic_http3_client_update_connection_input_count(update));
    REQUIRE(coquic_http3_client_update_has_pending_work(update) <= 1 && coquic_http3_client_update_handled_local_error(update) <= 1);
    REQUIRE(coquic_http3_client_update_terminal_failure(update) <= coquic_http3_client_has_failed(ends->client));
    coquic_http3_client_update_destroy(update);
}

static void server_update(struct ends *ends, coquic_http3_server_update_t *update) {
    size_t at, field_at;
    coquic_connection_input_t input;
    coquic_http3_server_request_event_t request;
    coquic_http3_server_request_cancelled_event_t cancelled;
    coquic_http3_priority_update_event_t priority;
    coquic_http3_datagram_event_t datagram;
    coquic_http3_field_view_t field;
    for (at = 0; coquic_http3_server_update_request_at(update, at, &request) == COQUIC_STATUS_OK; at++)
        touch_request(&request.request);
    REQUIRE(at == coquic_http3_server_update_request_count(update));
    for (at = 0; coquic_http3_server_update_request_cancelled_at(update, at, &cancelled) == COQUIC_STATUS_OK; at++) {
        if (cancelled.has_head)
            touch_request_head(&cancelled.head);
        touch(cancelled.body);
        for (field_at = 0; field_at <= cancelled.trailers_count; field_at++)
            touch_field(coquic_http3_server_request_cancelled_view_trailer_at(&cancelled, field_at, &field), &field,
                        field_at < cancelled.trailers_count);
    }
    REQUIRE(at == coquic_http3_server_update_request_cancelled_count(update));
    for (at = 0; coquic_http3_server_update_priority_update_at(update, at, &priority) == COQUIC_STATUS_OK; at++)
        touch(priority.priority_field_value);
    REQUIRE(at == coquic_http3_server_update_priority_update_count(update));
    for (at = 0; coquic_http3_server_update_datagram_at(update, at, &datagram) == COQUIC_STATUS_OK; at++)
        touch(datagram.payload);
    REQUIRE(at == coquic_http3_server_update_datagram_count(update));
    for (at = 0; coquic_http3_server_update_connection_input_at(update, at, &input) == COQUIC_STATUS_OK; at++)
        advance(ends, SERVER, &input);
    REQUIRE(at == coquic_http3_server_update_connection_input_count(update));
    REQUIRE(coquic_http3_server_update_has_pending_work(update) <= 1 && coquic_http3_server_update_handled_local_error(update) <= 1);
    REQUIRE(coquic_http3_server_update_terminal_failure(update) <= coquic_http3_server_has_failed(ends->server));
    coquic_http3_server_update_destroy(update);
}

/* Gives HTTP/3 the results that were kept, and those which that makes; sometimes to the other end, too. */
static void hand_over(struct ends *ends) {
    size_t at;
    coquic_http3_client_update_t *client = NULL;
    coquic_http3_server_update_t *server = NULL;
    for (at = 0; at < ends->count; at++) {
        coquic_result_t *result = ends->kept[at];
        int wrong = ends->damage && !below(1000);
        if ((ends->of[at] == CLIENT) != wrong) {
            REQUIRE(coquic_http3_client_on_quic_result(ends->client, result, ends->pair.now, &client) ==
                    (result ? COQUIC_STATUS_OK : COQUIC_STATUS_INVALID_ARGUMENT));
            if (client)
                client_update(ends, client);
        } else {
            REQUIRE(coquic_http3_server_on_quic_result(ends->server, result, ends->pair.now, &server) ==
                    (result ? COQUIC_STATUS_OK : COQUIC_STATUS_INVALID_ARGUMENT));
            if (server)
                server_update(ends, server);
        }
        coquic_result_destroy(result);
    }
    ends->count = 0;
    REQUIRE(coquic_http3_client_poll(ends->client, ends->pair.now, &client) == COQUIC_STATUS_OK);
    client_update(ends, client);
    REQUIRE(coquic_http3_server_poll(ends->server, ends->pair.now, &server) == COQUIC_STATUS_OK);
    server_update(ends, server);
}

/* A text, mostly one of those that mean something. */
static const char *text(size_t *length) {
    static const char *const texts[] = {"GET", "POST", "CONNECT", "HEAD", "https", "localhost", "/", "/_coquic/echo",
                                        "/_coquic/speed/download?bytes=5000", "x-name", "content-length", "5", "u=1, i", "websocket",
                                        "X-Upper", "a\nb", ":path", "connection", "", "\xff\x80"};
    const char *one = texts[below(sizeof texts / sizeof *texts)];
    *length = strlen(one);
    if (below(50))
        return one;
    *length = below(3);
    return NULL;
}

static const char *this_or_any(const char *one, size_t *length) {
    *length = strlen(one);
    return below(12) ? one : text(length);
}

static const coquic_http3_field_t *fields(size_t *count) {
    static coquic_http3_field_t room[2][40];
    static int turn;
    coquic_http3_field_t *all = room[turn ^= 1];
    size_t at;
    *count = below(4) ? below(4) : below(40);
    for (at = 0; at < *count; at++) {
        all[at].name = this_or_any("x-name", &all[at].name_length);
        all[at].value = text(&all[at].value_length);
    }
    return below(30) ? all : NULL;
}

static size_t size(size_t right) { return below(30) ? right : number(); }

static coquic_http3_optional_u64_t optional(void) {
    coquic_http3_optional_u64_t one;
    one.has_value = !below(10);
    one.value = number();
    return one;
}

static coquic_http3_request_head_t request_head(void) {
    coquic_http3_request_head_t head;
    memset(&head, 0, sizeof head);
    head.size = size(sizeof head);
    head.method = this_or_any("GET", &head.method_length);
    head.scheme = this_or_any("https", &head.scheme_length);
    head.authority = this_or_any("localhost", &head.authority_length);
    head.path = this_or_any("/_coquic/speed/ping", &head.path_length);
    head.content_length = optional();
    head.headers = fields(&head.headers_count);
    if (!below(8)) {
        head.has_protocol = 1;
        head.method = "CONNECT";
        head.method_length = 7;
        head.protocol = this_or_any("websocket", &head.protocol_length);
    }
    return head;
}

static coquic_http3_response_head_t response_head(void) {
    static const uint16_t statuses[] = {200, 204, 404, 100, 103, 101, 99, 0, 1000};
    coquic_http3_response_head_t head;
    memset(&head, 0, sizeof head);
    head.size = size(sizeof head);
    head.status = below(3) ? 200 : statuses[below(sizeof statuses / sizeof *statuses)];
    head.content_length = optional();
    head.headers = fields(&head.headers_count);
    return head;
}

/* One of the streams that requests are on, mostly. */
static coquic_stream_id_t stream(void) { return below(10) ? 4 * below(12) : number(); }

static void call_client(struct ends *ends, coquic_http3_error_t *error) {
    coquic_http3_client_t *client = below(200) ? ends->client : NULL;
    coquic_status_t status;
    size_t length;
    const char *value;
    switch (below(10)) {
    case 0: status = coquic_http3_client_submit_max_push_id(client, number(), error); break;
    case 1: status = coquic_http3_client_cancel_push(client, number(), error); break;
    case 2:
        value = text(&length);
        status = coquic_http3_client_submit_priority_update_for_request(client, stream(), value, length, error);
        break;
    case 3:
        value = text(&length);
        status = coquic_http3_client_submit_priority_update_for_push(client, number(), value, length, error);
        break;
    case 4: status = coquic_http3_client_submit_datagram(client, stream(), some(), error); break;
    case 5: status = coquic_http3_client_abort_connect_stream(client, stream(), error); break;
    default: {
        coquic_http3_request_t request;
        coquic_stream_id_t id;
        memset(&request, 0, sizeof request);
        request.size = size(sizeof request);
        request.head = request_head();
        if (below(2))
            request.body = some();
        if (!below(4))
            request.trailers = fields(&request.trailers_count);
        status = coquic_http3_client_submit_request(client, &request, below(50) ? &id : NULL, error);
    }
    }
    REQUIRE(status <= COQUIC_STATUS_INVALID_ARGUMENT);
}

static void call_server(struct ends *ends, coquic_http3_error_t *error) {
    coquic_http3_server_t *server = below(200) ? ends->server : NULL;
    coquic_status_t status;
    coquic_http3_response_head_t head = response_head(), interim[3];
    const coquic_http3_field_t *trailers;
    size_t length;
    const char *value;
    uint64_t push;
    switch (below(20)) {
    case 0: {
        coquic_http3_request_head_t promised = request_head();
        status = coquic_http3_server_submit_push_promise(server, stream(), &promised, below(50) ? &push : NULL, error);
        break;
    }
    case 1: status = coquic_http3_server_submit_push_response_head(server, below(4), &head, error); break;
    case 2: status = coquic_http3_server_submit_push_response_body(server, below(4), some(), !below(3), error); break;
    case 3:
        trailers = fields(&length);
        status = coquic_http3_server_submit_push_response_trailers(server, below(4), trailers, length, !below(3), error);
        break;
    case 4: status = coquic_http3_server_finish_push_response(server, below(4), (uint8_t)below(2), error); break;
    case 5: status = coquic_http3_server_cancel_push(server, number(), error); break;
    case 6:
        value = text(&length);
        status = coquic_http3_server_submit_priority_update_for_request(server, stream(), value, length, error);
        break;
    case 7:
        value = text(&length);
        status = coquic_http3_server_submit_priority_update_for_push(server, number(), value, length, error);
        break;
    case 8: status = coquic_http3_server_submit_datagram(server, stream(), some(), error); break;
    case 9: status = coquic_http3_server_abort_connect_stream(server, stream(), error); break;
    case 10: status = below(10) ? coquic_http3_server_take_requests(server, (uint8_t)below(2)) : coquic_http3_server_shutdown(server, error); break;
    case 11:
    case 12:
        trailers = fields(&length);
        status = coquic_http3_server_submit_response_trailers(server, stream(), trailers, length, !below(3), error);
        break;
    case 13: status = coquic_http3_server_finish_response(server, stream(), (uint8_t)below(2), error); break;
    case 14:
    case 15: status = coquic_http3_server_submit_response_head(server, stream(), &head, error); break;
    case 16:
    case 17: status = coquic_http3_server_submit_response_body(server, stream(), some(), !below(3), error); break;
    default: {
        coquic_http3_response_t response;
        memset(&response, 0, sizeof response);
        response.size = size(sizeof response);
        response.head = head;
        for (length = 0; length < 3; length++) {
            interim[length] = response_head();
            interim[length].status = (uint16_t)(below(10) ? 103 : 200);
        }
        response.interim_heads = interim;
        response.interim_heads_count = below(4);
        response.body = some();
        if (!below(4))
            response.trailers = fields(&response.trailers_count);
        status = coquic_http3_server_submit_response(server, stream(), &response, error);
    }
    }
    REQUIRE(status <= COQUIC_STATUS_INVALID_ARGUMENT);
}

/* Behind the back of HTTP/3: bytes that may look like frames, on any stream; resets; datagrams. */
static void interfere(struct ends *ends) {
    int side = (int)below(2);
    coquic_result_t *result;
    coquic_status_t status;
    coquic_connection_input_t input;
    uint8_t frame[64];
    size_t at;
    memset(&input, 0, sizeof input);
    input.kind = (uint8_t)(COQUIC_CONNECTION_INPUT_SEND_STREAM + below(4));
    if (input.kind == COQUIC_CONNECTION_INPUT_SEND_STREAM) {
        for (at = 0; at < sizeof frame; at++)
            frame[at] = (uint8_t)(below(3) ? below(16) : any());
        input.as.send_stream.size = sizeof input.as.send_stream;
        input.as.send_stream.stream_id = below(32);
        input.as.send_stream.bytes = bytes(frame, below(sizeof frame));
        input.as.send_stream.fin = !below(4);
    } else if (input.kind == COQUIC_CONNECTION_INPUT_SEND_DATAGRAM) {
        input.as.send_datagram.size = sizeof input.as.send_datagram;
        input.as.send_datagram.bytes = bytes(frame, below(4));
        memset(frame, (int)any(), 4);
    } else {
        input.as.reset_stream.size = sizeof input.as.reset_stream;
        input.as.reset_stream.stream_id = below(32);
        input.as.reset_stream.application_error_code = number();
    }
    status = coquic_connection_advance(ends->pair.endpoint[side], ends->pair.seen[side].connection, &input, ends->pair.now, &result);
    keep(ends, side, status, result);
}

/* A datagram for either, or else the time of the next timer. */
static void step(struct ends *ends) {
    int side = (int)below(2);
    coquic_result_t *result;
    coquic_status_t status = COQUIC_STATUS_OK;
    coquic_optional_time_us_t due;
    side = ends->pair.to[side] ? side : 1 - side;
    result = deliver(&ends->pair, side);
    if (!result) {
        due = coquic_endpoint_next_wakeup(ends->pair.endpoint[side]);
        if (!due.has_value)
            return;
        if (due.value > ends->pair.now)
            ends->pair.now = due.value;
        status = coquic_endpoint_timer_expired(ends->pair.endpoint[side], ends->pair.now, &result);
    }
    keep(ends, side, status, result);
}

static void make_server(struct ends *ends) {
    coquic_endpoint_config_t config;
    coquic_http3_server_endpoint_config_init(&config);
    config.identity = &identity;
    config.enable_out_of_order_receive = !below(4);
    config.zero_rtt.allow = 1;
    REQUIRE(coquic_endpoint_create(&config, &ends->pair.endpoint[SERVER]) == COQUIC_STATUS_OK);
}

static void begin(struct ends *ends) {
    coquic_endpoint_config_t config;
    memset(ends, 0, sizeof *ends);
    ends->pair.now = 1;
    ends->damage = below(3) > 0;
    coquic_http3_client_endpoint_config_init(&config);
    REQUIRE(coquic_endpoint_create(&config, &ends->pair.endpoint[CLIENT]) == COQUIC_STATUS_OK);
    make_server(ends);
}

/* A connection; if there was one before, with early data and the settings that are remembered of it, or others. */
static void connect_ends(struct ends *ends, uint8_t which, const coquic_http3_settings_t *remembered) {
    uint8_t ours[8] = {0xc1}, theirs[8] = {0x83};
    coquic_open_connection_t open;
    coquic_http3_client_config_t client;
    coquic_http3_server_config_t server;
    coquic_connection_handle_t connection;
    coquic_resumption_state_t session;
    coquic_result_t *result;
    coquic_status_t status;
    ours[7] = theirs[7] = which;
    coquic_http3_client_config_init(&client);
    coquic_http3_server_config_init(&server);
    client.local_settings.h3_datagram = (uint8_t)below(2);
    client.local_settings.qpack_max_table_capacity = below(2) ? 4096 : below(200);
    client.local_settings.qpack_blocked_streams = below(3);
    server.local_settings.h3_datagram = (uint8_t)below(2);
    server.local_settings.enable_connect_protocol = (uint8_t)below(2);
    server.local_settings.max_field_section_size = optional();
    server.local_settings.qpack_max_table_capacity = below(2) ? 4096 : below(200);
    memset(&open, 0, sizeof open);
    open.size = sizeof open;
    coquic_client_connection_config_init(&open.connection);
    open.connection.source_connection_id = bytes(ours, sizeof ours);
    open.connection.initial_destination_connection_id = bytes(theirs, sizeof theirs);
    if (remembered) {
        client.has_remembered_peer_settings = 1;
        client.remembered_peer_settings = *remembered;
        if (!below(3))
            client.remembered_peer_settings.qpack_max_table_capacity = number();
        session.serialized = bytes(ends->pair.seen[CLIENT].session, ends->pair.seen[CLIENT].session_length);
        open.connection.resumption_state = &session;
        open.connection.zero_rtt.attempt = (uint8_t)below(4);
    }
    REQUIRE(coquic_http3_client_create(&client, &ends->client) == COQUIC_STATUS_OK);
    REQUIRE(coquic_http3_server_create(&server, &ends->server) == COQUIC_STATUS_OK);
    REQUIRE(coquic_http3_server_take_requests(ends->server, (uint8_t)below(2)) == COQUIC_STATUS_OK);
    status = coquic_quic_connect(ends->pair.endpoint[CLIENT], &open, ends->pair.now, &connection, &result);
    keep(ends, CLIENT, status, result);
}

static void disconnect(struct ends *ends) {
    coquic_http3_client_destroy(ends->client);
    coquic_http3_server_destroy(ends->server);
    while (ends->count > 0)
        coquic_result_destroy(ends->kept[--ends->count]);
}

static void next_connection(struct ends *ends) {
    coquic_http3_settings_t settings;
    coquic_connection_input_t input;
    int known = coquic_http3_client_peer_settings(ends->client, &settings) == COQUIC_STATUS_OK;
    memset(&input, 0, sizeof input);
    input.kind = COQUIC_CONNECTION_INPUT_CLOSE;
    input.as.close.size = sizeof input.as.close;
    advance(ends, CLIENT, &input);
    disconnect(ends);
    /* A server that was started again knows of no session. */
    if (!below(4)) {
        coquic_endpoint_destroy(ends->pair.endpoint[SERVER]);
        make_server(ends);
    }
    connect_ends(ends, 2, known ? &settings : NULL);
}

/* What became of early data in the rounds' second connections. */
static unsigned long early[5];

/* Gives the calls after which both ends were as good as new. */
static unsigned round_of_calls(void) {
    struct ends ends;
    char detail[20];
    unsigned good = 0;
    int calls;
    begin(&ends);
    connect_ends(&ends, 1, NULL);
    for (calls = 0; calls < CALLS; calls++) {
        coquic_http3_error_t error;
        if (calls == CALLS / 2)
            next_connection(&ends);
        memset(&error, 0, sizeof error);
        error.detail_buffer = below(4) ? detail : NULL;
        error.detail_buffer_capacity = below(sizeof detail + 1);
        if (!error.detail_buffer)
            error.detail_buffer_capacity = 0;
        switch (below(8)) {
        case 0: call_client(&ends, below(10) ? &error : NULL); break;
        case 1: call_server(&ends, below(10) ? &error : NULL); break;
        case 2:
            if (ends.damage && !below(20))
                interfere(&ends);
            break;
        default: step(&ends);
        }
        hand_over(&ends);
        good += !coquic_http3_client_has_failed(ends.client) && !coquic_http3_server_has_failed(ends.server);
    }
    early[ends.pair.seen[CLIENT].early]++;
    disconnect(&ends);
    end_pair(&ends.pair);
    return good;
}

int main(int argc, char **argv) {
    struct file cert, key;
    time_t end;
    unsigned long rounds = 0, good = 0;
    REQUIRE(argc == 4);
    cert = read_file(argv[1], "cert.pem");
    key = read_file(argv[1], "key.pem");
    identity.certificate_pem = cert.text;
    identity.certificate_pem_length = cert.length;
    identity.private_key_pem = key.text;
    identity.private_key_pem_length = key.length;
    state = strtoull(argv[2], NULL, 10);
    end = time(NULL) + atoi(argv[3]);
    do {
        good += round_of_calls();
        rounds++;
    } while (time(NULL) < end);
    free(cert.text);
    free(key.text);
    /* Otherwise it is only tried what happens to connections that have ended. */
    CHECK(good > rounds * CALLS / 4);
    printf("%lu rounds of %d calls, %lu with both ends well, early data taken in %lu and refused in %lu, seed %s\n", rounds, CALLS,
           good, early[COQUIC_ZERO_RTT_ACCEPTED], early[COQUIC_ZERO_RTT_REJECTED], argv[2]);
    return report();
}
