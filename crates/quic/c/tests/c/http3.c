/* HTTP/3 between two endpoints in memory. Takes the folder with cert.pem and key.pem; SSL_CERT_FILE names cert.pem. */
#include "pair.h"

#include <coquic/ffi/http3.h>

/* Two ends of one connection, with what the last updates brought. */
struct ends {
    struct pair pair;
    coquic_http3_client_t *client;
    coquic_http3_server_t *server;
    unsigned responses, request_errors, push_responses, push_errors, client_datagrams;
    unsigned requests, cancelled, priorities, server_datagrams;
    uint64_t code;
    uint16_t status;
    unsigned interim;
    char body[256];
    size_t body_length;
    coquic_stream_id_t stream;
};

static struct file cert, key;

static void handle(struct ends *ends, int side, coquic_result_t *result);

static int is(coquic_bytes_view_t view, const char *text) {
    return view.length == strlen(text) && memcmp(view.data, text, view.length) == 0;
}

static void keep(struct ends *ends, coquic_bytes_view_t body) {
    ends->body_length = body.length;
    REQUIRE(body.length <= sizeof ends->body || body.data);
    if (body.length && body.length <= sizeof ends->body)
        memcpy(ends->body, body.data, body.length);
}

static int body_is(const struct ends *ends, const char *text) {
    return ends->body_length == strlen(text) && memcmp(ends->body, text, ends->body_length) == 0;
}

/* Tells QUIC what an update says. */
static coquic_result_t *advance(struct ends *ends, int side, const coquic_connection_input_t *input) {
    coquic_result_t *result;
    REQUIRE(coquic_connection_advance(ends->pair.endpoint[side], ends->pair.seen[side].connection, input, ends->pair.now, &result) ==
            COQUIC_STATUS_OK);
    return result;
}

enum { INPUTS = 256 };

static void client_update(struct ends *ends, coquic_http3_client_update_t *update) {
    size_t at, count;
    coquic_result_t *results[INPUTS];
    coquic_connection_input_t input;
    coquic_http3_client_response_event_t response;
    coquic_http3_client_request_error_event_t error;
    coquic_http3_client_push_response_event_t pushed;
    coquic_http3_client_push_error_event_t push_error;
    coquic_http3_datagram_event_t datagram;
    for (at = 0; at < coquic_http3_client_update_response_count(update); at++) {
        REQUIRE(coquic_http3_client_update_response_at(update, at, &response) == COQUIC_STATUS_OK);
        ends->responses++;
        ends->stream = response.stream_id;
        ends->status = response.response.head.status;
        ends->interim = (unsigned)response.response.interim_head_count;
        keep(ends, response.response.body);
        REQUIRE(is(response.request.head.authority, "localhost"));
    }
    REQUIRE(coquic_http3_client_update_response_at(update, at, &response) == COQUIC_STATUS_INVALID_ARGUMENT);
    for (at = 0; coquic_http3_client_update_request_error_at(update, at, &error) == COQUIC_STATUS_OK; at++) {
        ends->request_errors++;
        ends->code = error.application_error_code;
    }
    REQUIRE(at == coquic_http3_client_update_request_error_count(update));
    for (at = 0; coquic_http3_client_update_push_response_at(update, at, &pushed) == COQUIC_STATUS_OK; at++) {
        ends->push_responses++;
        keep(ends, pushed.response.body);
        REQUIRE(is(pushed.request.path, "/style"));
    }
    REQUIRE(at == coquic_http3_client_update_push_response_count(update));
    for (at = 0; coquic_http3_client_update_push_error_at(update, at, &push_error) == COQUIC_STATUS_OK; at++)
        ends->push_errors++;
    REQUIRE(at == coquic_http3_client_update_push_error_count(update));
    for (at = 0; coquic_http3_client_update_datagram_at(update, at, &datagram) == COQUIC_STATUS_OK; at++) {
        ends->client_datagrams++;
        keep(ends, datagram.payload);
    }
    REQUIRE(at == coquic_http3_client_update_datagram_count(update));
    REQUIRE(coquic_http3_client_update_priority_update_count(update) == 0);
    count = coquic_http3_client_update_connection_input_count(update);
    REQUIRE(count <= INPUTS);
    for (at = 0; at < count; at++) {
        REQUIRE(coquic_http3_client_update_connection_input_at(update, at, &input) == COQUIC_STATUS_OK);
        results[at] = advance(ends, CLIENT, &input);
    }
    coquic_http3_client_update_destroy(update);
    for (at = 0; at < count; at++)
        handle(ends, CLIENT, results[at]);
}

static void server_update(struct ends *ends, coquic_http3_server_update_t *update) {
    size_t at, count;
    coquic_result_t *results[INPUTS];
    coquic_connection_input_t input;
    coquic_http3_server_request_event_t request;
    coquic_http3_server_request_cancelled_event_t cancelled;
    coquic_http3_priority_update_event_t priority;
    coquic_http3_datagram_event_t datagram;
    coquic_http3_field_view_t field;
    for (at = 0; coquic_http3_server_update_request_at(update, at, &request) == COQUIC_STATUS_OK; at++) {
        ends->requests++;
        ends->stream = request.stream_id;
        keep(ends, request.request.body);
        if (request.request.head.headers_count) {
            REQUIRE(coquic_http3_request_view_header_at(&request.request, 0, &field) == COQUIC_STATUS_OK);
            REQUIRE(is(field.name, "x-request") && is(field.value, "value"));
        }
        REQUIRE(coquic_http3_request_view_header_at(&request.request, request.request.head.headers_count, &field) ==
                COQUIC_STATUS_INVALID_ARGUMENT);
    }
    REQUIRE(at == coquic_http3_server_update_request_count(update));
    for (at = 0; coquic_http3_server_update_request_cancelled_at(update, at, &cancelled) == COQUIC_STATUS_OK; at++) {
        ends->cancelled++;
        ends->code = cancelled.application_error_code;
    }
    for (at = 0; coquic_http3_server_update_priority_update_at(update, at, &priority) == COQUIC_STATUS_OK; at++) {
        ends->priorities++;
        REQUIRE(is(priority.priority_field_value, "u=1") && !priority.push);
    }
    for (at = 0; coquic_http3_server_update_datagram_at(update, at, &datagram) == COQUIC_STATUS_OK; at++) {
        ends->server_datagrams++;
        keep(ends, datagram.payload);
    }
    count = coquic_http3_server_update_connection_input_count(update);
    REQUIRE(count <= INPUTS);
    for (at = 0; coquic_http3_server_update_connection_input_at(update, at, &input) == COQUIC_STATUS_OK; at++)
        results[at] = advance(ends, SERVER, &input);
    coquic_http3_server_update_destroy(update);
    for (at = 0; at < count; at++)
        handle(ends, SERVER, results[at]);
}

/* Keeps what is not HTTP/3's of a result, and hands it to HTTP/3. */
static void handle(struct ends *ends, int side, coquic_result_t *result) {
    size_t at;
    coquic_effect_t effect;
    coquic_http3_client_update_t *client = NULL;
    coquic_http3_server_update_t *server = NULL;
    for (at = 0; coquic_result_effect_at(result, at, &effect) == COQUIC_STATUS_OK; at++)
        if (effect.kind != COQUIC_EFFECT_RECEIVE_STREAM_DATA && effect.kind != COQUIC_EFFECT_RECEIVE_DATAGRAM_DATA)
            note(&ends->pair, side, &effect);
    if (side == CLIENT)
        REQUIRE(coquic_http3_client_on_quic_result(ends->client, result, ends->pair.now, &client) == COQUIC_STATUS_OK);
    else
        REQUIRE(coquic_http3_server_on_quic_result(ends->server, result, ends->pair.now, &server) == COQUIC_STATUS_OK);
    coquic_result_destroy(result);
    if (client)
        client_update(ends, client);
    if (server)
        server_update(ends, server);
}

static void poll_both(struct ends *ends) {
    coquic_http3_client_update_t *client;
    coquic_http3_server_update_t *server;
    REQUIRE(coquic_http3_client_poll(ends->client, ends->pair.now, &client) == COQUIC_STATUS_OK);
    client_update(ends, client);
    REQUIRE(coquic_http3_server_poll(ends->server, ends->pair.now, &server) == COQUIC_STATUS_OK);
    server_update(ends, server);
}

/* Until nothing is on its way; a second passes. */
static void settle(struct ends *ends) {
    coquic_time_us_t end = ends->pair.now + 1000000;
    poll_both(ends);
    for (;;) {
        int side, idle = 1;
        coquic_result_t *result;
        for (side = 0; side < 2; side++) {
            result = deliver(&ends->pair, side);
            if (!result)
                continue;
            idle = 0;
            handle(ends, side, result);
        }
        for (side = 0; idle && side < 2; side++) {
            coquic_optional_time_us_t due = coquic_endpoint_next_wakeup(ends->pair.endpoint[side]);
            if (due.has_value && due.value <= end) {
                if (due.value > ends->pair.now)
                    ends->pair.now = due.value;
                idle = 0;
                REQUIRE(coquic_endpoint_timer_expired(ends->pair.endpoint[side], ends->pair.now, &result) == COQUIC_STATUS_OK);
                handle(ends, side, result);
            }
        }
        if (idle)
            break;
    }
    ends->pair.now = end;
}

static void make_server(struct ends *ends) {
    coquic_endpoint_config_t config;
    coquic_tls_identity_t identity;
    coquic_http3_server_endpoint_config_init(&config);
    REQUIRE(config.role == COQUIC_ROLE_SERVER && !config.verify_peer);
    identity.certificate_pem = cert.text;
    identity.certificate_pem_length = cert.length;
    identity.private_key_pem = key.text;
    identity.private_key_pem_length = key.length;
    config.identity = &identity;
    config.zero_rtt.allow = 1;
    REQUIRE(coquic_endpoint_create(&config, &ends->pair.endpoint[SERVER]) == COQUIC_STATUS_OK);
}

/* A connection, of whose number `number` is a part; with what an earlier one has left if there are settings to remember. */
static void connect_ends(struct ends *ends, uint8_t number, const coquic_http3_settings_t *remembered) {
    uint8_t ours[8] = {0xc1}, theirs[8] = {0x83};
    coquic_http3_client_config_t client;
    coquic_http3_server_config_t server;
    coquic_open_connection_t open;
    coquic_resumption_state_t session;
    coquic_connection_handle_t connection;
    coquic_result_t *result;
    ours[7] = theirs[7] = number;
    coquic_http3_client_config_init(&client);
    client.local_settings.h3_datagram = 1;
    if (remembered) {
        client.has_remembered_peer_settings = 1;
        client.remembered_peer_settings = *remembered;
    }
    REQUIRE(coquic_http3_client_create(&client, &ends->client) == COQUIC_STATUS_OK);
    coquic_http3_server_config_init(&server);
    server.local_settings.enable_connect_protocol = server.local_settings.h3_datagram = 1;
    REQUIRE(coquic_http3_server_create(&server, &ends->server) == COQUIC_STATUS_OK);
    memset(&open, 0, sizeof open);
    open.size = sizeof open;
    coquic_client_connection_config_init(&open.connection);
    open.connection.source_connection_id = bytes(ours, sizeof ours);
    open.connection.initial_destination_connection_id = bytes(theirs, sizeof theirs);
    if (remembered) {
        session.serialized = bytes(ends->pair.seen[CLIENT].session, ends->pair.seen[CLIENT].session_length);
        open.connection.resumption_state = &session;
        open.connection.zero_rtt.attempt = 1;
    }
    REQUIRE(coquic_quic_connect(ends->pair.endpoint[CLIENT], &open, ends->pair.now, &connection, &result) == COQUIC_STATUS_OK);
    handle(ends, CLIENT, result);
}

static void begin(struct ends *ends) {
    coquic_endpoint_config_t config;
    memset(ends, 0, sizeof *ends);
    ends->pair.now = 1;
    coquic_http3_client_endpoint_config_init(&config);
    REQUIRE(config.role == COQUIC_ROLE_CLIENT && config.application_protocol_length == 2);
    REQUIRE(coquic_endpoint_create(&config, &ends->pair.endpoint[CLIENT]) == COQUIC_STATUS_OK);
    make_server(ends);
    connect_ends(ends, 1, NULL);
}

static void end(struct ends *ends) {
    coquic_http3_client_destroy(ends->client);
    coquic_http3_server_destroy(ends->server);
    end_pair(&ends->pair);
}

static const coquic_http3_field_t header = {"x-request", 9, "value", 5};

static coquic_http3_request_t request(const char *method, const char *path, const char *body) {
    coquic_http3_request_t all;
    memset(&all, 0, sizeof all);
    all.size = sizeof all;
    all.head.size = sizeof all.head;
    all.head.method = method;
    all.head.method_length = strlen(method);
    all.head.scheme = "https";
    all.head.scheme_length = 5;
    all.head.authority = "localhost";
    all.head.authority_length = 9;
    all.head.path = path;
    all.head.path_length = strlen(path);
    all.head.headers = &header;
    all.head.headers_count = 1;
    all.body = bytes(body, strlen(body));
    return all;
}

static coquic_stream_id_t submit(struct ends *ends, const coquic_http3_request_t *request) {
    coquic_stream_id_t stream;
    coquic_http3_error_t error = {0};
    REQUIRE(coquic_http3_client_submit_request(ends->client, request, &stream, &error) == COQUIC_STATUS_OK);
    REQUIRE(error.code == COQUIC_HTTP3_ERROR_NO_ERROR);
    return stream;
}

static coquic_http3_response_head_t head(uint16_t status) {
    coquic_http3_response_head_t head;
    memset(&head, 0, sizeof head);
    head.size = sizeof head;
    head.status = status;
    return head;
}

static void requests_beyond_what_the_server_allows_wait(void) {
    enum { MANY = 200 };
    struct ends ends;
    coquic_http3_request_t all = request("POST", "/_coquic/echo", "hello");
    unsigned at;
    begin(&ends);
    for (at = 0; at < MANY; at++)
        REQUIRE(submit(&ends, &all) == 4 * at);
    settle(&ends);
    CHECK(ends.responses == MANY && ends.request_errors == 0);
    end(&ends);
}

static void built_in_routes(void) {
    struct ends ends;
    coquic_http3_request_t all = request("POST", "/_coquic/echo", "hello");
    coquic_http3_client_update_t *update;
    begin(&ends);
    REQUIRE(submit(&ends, &all) == 0);
    REQUIRE(coquic_http3_client_poll(ends.client, ends.pair.now, &update) == COQUIC_STATUS_OK);
    CHECK(coquic_http3_client_update_has_pending_work(update) == 1);
    CHECK(coquic_http3_client_update_connection_input_count(update) == 0);
    CHECK(!coquic_http3_client_update_terminal_failure(update));
    coquic_http3_client_update_destroy(update);
    settle(&ends);
    CHECK(ends.responses == 1 && ends.status == 200 && ends.stream == 0 && body_is(&ends, "hello"));
    all = request("POST", "/_coquic/inspect", "hello");
    REQUIRE(submit(&ends, &all) == 4);
    settle(&ends);
    CHECK(body_is(&ends, "{\"method\":\"POST\",\"content_length\":null,\"body_bytes\":5,\"trailers\":[]}"));
    all = request("GET", "/_coquic/speed/download?x=1&bytes=1000000", "");
    submit(&ends, &all);
    settle(&ends);
    CHECK(ends.status == 200 && ends.body_length == 1000000);
    all = request("GET", "/_coquic/echo", "");
    submit(&ends, &all);
    settle(&ends);
    CHECK(ends.status == 405);
    all = request("GET", "/_coquic/speed/ping", "");
    submit(&ends, &all);
    settle(&ends);
    CHECK(ends.status == 204 && ends.body_length == 0);
    all = request("GET", "/_coquic/speed/download?bytes=0", "");
    submit(&ends, &all);
    settle(&ends);
    CHECK(ends.status == 400);
    all = request("GET", "/", "");
    submit(&ends, &all);
    settle(&ends);
    CHECK(ends.status == 404 && ends.responses == 7 && ends.request_errors == 0);
    end(&ends);
}

static void requests_of_the_program(void) {
    struct ends ends;
    coquic_http3_request_t all = request("POST", "/", "question"), pushed = request("GET", "/style", "");
    coquic_http3_response_head_t interim = head(103);
    coquic_http3_response_t response;
    coquic_http3_error_t error = {0};
    coquic_stream_id_t stream;
    uint64_t push;
    begin(&ends);
    REQUIRE(coquic_http3_server_take_requests(ends.server, 1) == COQUIC_STATUS_OK);
    stream = submit(&ends, &all);
    REQUIRE(coquic_http3_client_submit_max_push_id(ends.client, 1, &error) == COQUIC_STATUS_OK);
    REQUIRE(coquic_http3_client_submit_priority_update_for_request(ends.client, stream, "u=1", 3, &error) == COQUIC_STATUS_OK);
    settle(&ends);
    CHECK(ends.requests == 1 && ends.stream == 0 && body_is(&ends, "question") && ends.priorities == 1);
    /* A push, in pieces. */
    REQUIRE(coquic_http3_server_submit_push_promise(ends.server, 0, &pushed.head, &push, &error) == COQUIC_STATUS_OK);
    CHECK(push == 0 && error.code == COQUIC_HTTP3_ERROR_NO_ERROR);
    response.head = head(200);
    REQUIRE(coquic_http3_server_submit_push_response_head(ends.server, push, &response.head, &error) == COQUIC_STATUS_OK);
    REQUIRE(coquic_http3_server_submit_push_response_body(ends.server, push, bytes("body {}", 7), 0, &error) == COQUIC_STATUS_OK);
    REQUIRE(coquic_http3_server_submit_push_response_trailers(ends.server, push, &header, 1, 0, &error) == COQUIC_STATUS_OK);
    REQUIRE(coquic_http3_server_finish_push_response(ends.server, push, 1, &error) == COQUIC_STATUS_OK);
    CHECK(error.code == COQUIC_HTTP3_ERROR_NO_ERROR);
    settle(&ends);
    CHECK(ends.push_responses == 1 && body_is(&ends, "body {}"));
    /* Another, given up. */
    REQUIRE(coquic_http3_server_submit_push_promise(ends.server, 0, &pushed.head, &push, &error) == COQUIC_STATUS_OK);
    settle(&ends);
    REQUIRE(coquic_http3_server_cancel_push(ends.server, push, &error) == COQUIC_STATUS_OK);
    settle(&ends);
    CHECK(push == 1 && ends.push_errors == 1);
    /* Beyond what was allowed. */
    REQUIRE(coquic_http3_server_submit_push_promise(ends.server, 0, &pushed.head, &push, &error) == COQUIC_STATUS_OK);
    CHECK(push == 0 && error.code == COQUIC_HTTP3_ERROR_ID_ERROR && error.stream_id.has_value && error.detail_length > 0 && error.detail_truncated);
    /* The response as a whole. */
    memset(&response, 0, sizeof response);
    response.size = sizeof response;
    response.head = head(200);
    response.interim_heads = &interim;
    response.interim_heads_count = 1;
    response.body = bytes("answer", 6);
    response.trailers = &header;
    response.trailers_count = 1;
    REQUIRE(coquic_http3_server_submit_response(ends.server, 0, &response, &error) == COQUIC_STATUS_OK);
    CHECK(error.code == COQUIC_HTTP3_ERROR_NO_ERROR && error.detail_length == 0);
    settle(&ends);
    CHECK(ends.responses == 1 && ends.status == 200 && ends.interim == 1 && body_is(&ends, "answer"));
    REQUIRE(coquic_http3_server_submit_response(ends.server, 0, &response, &error) == COQUIC_STATUS_OK);
    CHECK(error.code == COQUIC_HTTP3_ERROR_ID_ERROR);
    /* In pieces, shorter than it says. */
    stream = submit(&ends, &all);
    settle(&ends);
    response.head.content_length.has_value = 1;
    response.head.content_length.value = 9;
    REQUIRE(coquic_http3_server_submit_response_head(ends.server, stream, &response.head, &error) == COQUIC_STATUS_OK);
    REQUIRE(coquic_http3_server_submit_response_body(ends.server, stream, bytes("ab", 2), 0, &error) == COQUIC_STATUS_OK);
    REQUIRE(coquic_http3_server_finish_response(ends.server, stream, 1, &error) == COQUIC_STATUS_OK);
    CHECK(error.code == COQUIC_HTTP3_ERROR_MESSAGE_ERROR);
    REQUIRE(coquic_http3_server_submit_response_trailers(ends.server, stream, &header, 1, 0, &error) == COQUIC_STATUS_OK);
    REQUIRE(coquic_http3_server_finish_response(ends.server, stream, 0, &error) == COQUIC_STATUS_OK);
    settle(&ends);
    CHECK(ends.request_errors == 1 && ends.code == COQUIC_HTTP3_ERROR_MESSAGE_ERROR);
    /* Shutting down. */
    stream = submit(&ends, &all);
    settle(&ends);
    REQUIRE(coquic_http3_server_shutdown(ends.server, &error) == COQUIC_STATUS_OK);
    settle(&ends);
    REQUIRE(coquic_http3_client_submit_request(ends.client, &all, &stream, &error) == COQUIC_STATUS_OK);
    CHECK(stream == 0 && error.code == COQUIC_HTTP3_ERROR_REQUEST_REJECTED);
    end(&ends);
}

/* Only where there are 8 MiB for that, and not 1 GiB. */
static void what_quic_has_no_room_for_is_told_to_both(void) {
    struct ends ends;
    coquic_http3_request_t all = request("GET", "/", "");
    coquic_http3_response_t response;
    coquic_http3_error_t error = {0};
    uint8_t *body = calloc(1, 9 << 20);
    REQUIRE(body);
    begin(&ends);
    REQUIRE(coquic_http3_server_take_requests(ends.server, 1) == COQUIC_STATUS_OK);
    submit(&ends, &all);
    settle(&ends);
    memset(&response, 0, sizeof response);
    response.size = sizeof response;
    response.head = head(200);
    response.body = bytes(body, 9 << 20);
    REQUIRE(coquic_http3_server_submit_response(ends.server, 0, &response, &error) == COQUIC_STATUS_OK);
    settle(&ends);
    CHECK(ends.cancelled == 1 && ends.request_errors == 1 && ends.code == COQUIC_HTTP3_ERROR_INTERNAL_ERROR);
    end(&ends);
    free(body);
}

static void tunnels_and_datagrams(void) {
    struct ends ends;
    coquic_http3_request_t all = request("CONNECT", "/", "");
    coquic_http3_response_t response;
    coquic_http3_error_t error = {0};
    coquic_stream_id_t stream;
    begin(&ends);
    REQUIRE(coquic_http3_server_take_requests(ends.server, 1) == COQUIC_STATUS_OK);
    all.head.has_protocol = 1;
    all.head.protocol = "x";
    all.head.protocol_length = 1;
    /* Not before the server has said that it takes this. */
    REQUIRE(coquic_http3_client_submit_request(ends.client, &all, &stream, &error) == COQUIC_STATUS_OK);
    CHECK(error.code == COQUIC_HTTP3_ERROR_SETTINGS_ERROR);
    REQUIRE(coquic_http3_client_submit_datagram(ends.client, 0, bytes("x", 1), &error) == COQUIC_STATUS_OK);
    CHECK(error.code == COQUIC_HTTP3_ERROR_DATAGRAM_ERROR);
    settle(&ends);
    stream = submit(&ends, &all);
    settle(&ends);
    CHECK(ends.requests == 1);
    memset(&response, 0, sizeof response);
    response.size = sizeof response;
    response.head = head(200);
    REQUIRE(coquic_http3_server_submit_response(ends.server, stream, &response, &error) == COQUIC_STATUS_OK);
    settle(&ends);
    CHECK(ends.responses == 1 && ends.status == 200);
    REQUIRE(coquic_http3_client_submit_datagram(ends.client, stream, bytes("up", 2), &error) == COQUIC_STATUS_OK);
    settle(&ends);
    CHECK(ends.server_datagrams == 1 && body_is(&ends, "up"));
    REQUIRE(coquic_http3_server_submit_datagram(ends.server, stream, bytes("down", 4), &error) == COQUIC_STATUS_OK);
    REQUIRE(coquic_http3_server_submit_response_body(ends.server, stream, bytes("through", 7), 0, &error) == COQUIC_STATUS_OK);
    settle(&ends);
    CHECK(ends.client_datagrams == 1 && ends.responses == 2);
    REQUIRE(coquic_http3_server_finish_response(ends.server, stream, 1, &error) == COQUIC_STATUS_OK);
    settle(&ends);
    CHECK(ends.responses == 3 && ends.body_length == 0);
    REQUIRE(coquic_http3_client_abort_connect_stream(ends.client, stream, &error) == COQUIC_STATUS_OK);
    settle(&ends);
    CHECK(ends.cancelled == 1 && ends.code == COQUIC_HTTP3_ERROR_CONNECT_ERROR);
    /* What QUIC's connection takes with it. */
    all = request("GET", "/", "");
    submit(&ends, &all);
    settle(&ends);
    {
        coquic_close_connection_t close;
        coquic_result_t *result;
        memset(&close, 0, sizeof close);
        close.size = sizeof close;
        REQUIRE(coquic_connection_close(ends.pair.endpoint[SERVER], ends.pair.seen[SERVER].connection, &close, ends.pair.now, &result) == COQUIC_STATUS_OK);
        handle(&ends, SERVER, result);
    }
    settle(&ends);
    settle(&ends);
    CHECK(ends.request_errors == 1 && coquic_http3_client_has_failed(ends.client));
    end(&ends);
}

/* Ends the connection and begins another, with a server that knows of the first or, after a restart, does not. */
static void resume(struct ends *ends, int restart, const coquic_http3_settings_t *remembered) {
    static uint8_t number = 1;
    coquic_connection_input_t input;
    memset(&input, 0, sizeof input);
    input.kind = COQUIC_CONNECTION_INPUT_CLOSE;
    input.as.close.size = sizeof input.as.close;
    handle(ends, CLIENT, advance(ends, CLIENT, &input));
    settle(ends);
    coquic_http3_client_destroy(ends->client);
    coquic_http3_server_destroy(ends->server);
    if (restart) {
        coquic_endpoint_destroy(ends->pair.endpoint[SERVER]);
        make_server(ends);
    }
    ends->responses = ends->request_errors = 0;
    connect_ends(ends, ++number, remembered);
}

static void requests_in_0_rtt(void) {
    struct ends ends;
    coquic_http3_request_t all = request("POST", "/_coquic/echo", "hello");
    coquic_http3_settings_t settings;
    coquic_http3_client_update_t *update;
    begin(&ends);
    CHECK(coquic_http3_client_peer_settings(ends.client, &settings) == COQUIC_STATUS_INVALID_ARGUMENT);
    settle(&ends);
    CHECK(coquic_http3_client_peer_settings(ends.client, NULL) == COQUIC_STATUS_INVALID_ARGUMENT);
    REQUIRE(coquic_http3_client_peer_settings(ends.client, &settings) == COQUIC_STATUS_OK);
    CHECK(settings.size == sizeof settings && settings.qpack_max_table_capacity == 4096 && settings.enable_connect_protocol);

    /* Sent before the server has said anything; its dynamic table is used already. */
    resume(&ends, 0, &settings);
    CHECK(ends.pair.seen[CLIENT].early == COQUIC_ZERO_RTT_ATTEMPTED);
    REQUIRE(submit(&ends, &all) == 0);
    REQUIRE(coquic_http3_client_poll(ends.client, ends.pair.now, &update) == COQUIC_STATUS_OK);
    CHECK(coquic_http3_client_update_connection_input_count(update) > 0);
    client_update(&ends, update);
    settle(&ends);
    CHECK(ends.pair.seen[CLIENT].early == COQUIC_ZERO_RTT_ACCEPTED);
    CHECK(ends.responses == 1 && ends.request_errors == 0 && ends.status == 200 && body_is(&ends, "hello"));

    /* A server that does not know the session: the program may submit it again, on the same connection. */
    resume(&ends, 1, &settings);
    REQUIRE(submit(&ends, &all) == 0);
    settle(&ends);
    CHECK(ends.pair.seen[CLIENT].early == COQUIC_ZERO_RTT_REJECTED);
    CHECK(ends.responses == 0 && ends.request_errors == 1 && ends.code == COQUIC_HTTP3_ERROR_REQUEST_REJECTED);
    REQUIRE(submit(&ends, &all) == 0);
    settle(&ends);
    CHECK(ends.responses == 1 && ends.request_errors == 1 && body_is(&ends, "hello"));

    /* Settings that the server no longer has would break what was sent. */
    settings.qpack_blocked_streams++;
    resume(&ends, 0, &settings);
    REQUIRE(submit(&ends, &all) == 0);
    settle(&ends);
    CHECK(ends.pair.seen[CLIENT].early == COQUIC_ZERO_RTT_ACCEPTED);
    CHECK(coquic_http3_client_has_failed(ends.client));
    end(&ends);
}

static void what_cannot_be_used(void) {
    coquic_http3_client_config_t config;
    coquic_http3_server_config_t server_config;
    coquic_http3_client_t *client = (coquic_http3_client_t *)1;
    coquic_http3_server_t *server = (coquic_http3_server_t *)1;
    coquic_http3_client_update_t *update = (coquic_http3_client_update_t *)1;
    coquic_http3_request_t all = request("GET", "/", "");
    coquic_http3_error_t error = {0};
    coquic_stream_id_t stream = 9;
    char detail[8];
    CHECK(coquic_http3_client_create(NULL, &client) == COQUIC_STATUS_INVALID_ARGUMENT && !client);
    CHECK(coquic_http3_server_create(NULL, &server) == COQUIC_STATUS_INVALID_ARGUMENT && !server);
    coquic_http3_client_config_init(&config);
    coquic_http3_server_config_init(&server_config);
    CHECK(config.local_settings.qpack_max_table_capacity == 4096 && config.local_settings.qpack_blocked_streams == 16);
    CHECK(config.local_settings.max_field_section_size.has_value && config.local_settings.max_field_section_size.value == 65536);
    config.local_settings.size = 0;
    CHECK(coquic_http3_client_create(&config, &client) == COQUIC_STATUS_INVALID_ARGUMENT);
    server_config.size = sizeof(size_t);
    CHECK(coquic_http3_server_create(&server_config, &server) == COQUIC_STATUS_INVALID_ARGUMENT);
    /* An older program's settings end before the flags, and its configuration before what is remembered. */
    coquic_http3_client_config_init(&config);
    config.size = offsetof(coquic_http3_client_config_t, has_remembered_peer_settings);
    config.local_settings.size = offsetof(coquic_http3_settings_t, enable_connect_protocol);
    REQUIRE(coquic_http3_client_create(&config, &client) == COQUIC_STATUS_OK);
    CHECK(coquic_http3_client_submit_request(NULL, &all, &stream, NULL) == COQUIC_STATUS_INVALID_ARGUMENT && stream == 0);
    CHECK(coquic_http3_client_submit_request(client, NULL, &stream, NULL) == COQUIC_STATUS_INVALID_ARGUMENT);
    CHECK(coquic_http3_client_submit_request(client, &all, NULL, NULL) == COQUIC_STATUS_INVALID_ARGUMENT);
    all.head.size = 0;
    CHECK(coquic_http3_client_submit_request(client, &all, &stream, NULL) == COQUIC_STATUS_INVALID_ARGUMENT);
    all = request("GET", "no path", "");
    error.detail_buffer = detail;
    error.detail_buffer_capacity = sizeof detail;
    CHECK(coquic_http3_client_submit_request(client, &all, &stream, &error) == COQUIC_STATUS_OK);
    CHECK(error.code == COQUIC_HTTP3_ERROR_MESSAGE_ERROR && error.detail_truncated && error.detail_length > sizeof detail);
    CHECK(memcmp(detail, "malforme", 8) == 0);
    CHECK(coquic_http3_client_on_quic_result(client, NULL, 0, &update) == COQUIC_STATUS_INVALID_ARGUMENT && !update);
    CHECK(coquic_http3_client_poll(client, 0, NULL) == COQUIC_STATUS_INVALID_ARGUMENT);
    CHECK(coquic_http3_client_poll(NULL, 0, &update) == COQUIC_STATUS_INVALID_ARGUMENT);
    CHECK(coquic_http3_client_update_response_count(NULL) == 0 && !coquic_http3_client_has_failed(NULL));
    CHECK(coquic_http3_client_update_response_at(NULL, 0, NULL) == COQUIC_STATUS_INVALID_ARGUMENT);
    CHECK(coquic_http3_request_view_header_at(NULL, 0, NULL) == COQUIC_STATUS_INVALID_ARGUMENT);
    REQUIRE(coquic_http3_server_create(&server_config, &server) == COQUIC_STATUS_INVALID_ARGUMENT);
    coquic_http3_server_config_init(&server_config);
    REQUIRE(coquic_http3_server_create(&server_config, &server) == COQUIC_STATUS_OK);
    CHECK(coquic_http3_server_submit_priority_update_for_request(server, 0, "u=1", 3, &error) == COQUIC_STATUS_OK);
    CHECK(error.code == COQUIC_HTTP3_ERROR_GENERAL_PROTOCOL_ERROR);
    coquic_http3_client_destroy(client);
    coquic_http3_server_destroy(server);
    coquic_http3_client_destroy(NULL);
    coquic_http3_server_destroy(NULL);
    coquic_http3_client_update_destroy(NULL);
    coquic_http3_server_update_destroy(NULL);
}

int main(int count, char **arguments) {
    REQUIRE(count == 2);
    cert = read_file(arguments[1], "cert.pem");
    key = read_file(arguments[1], "key.pem");
    built_in_routes();
    requests_beyond_what_the_server_allows_wait();
    requests_of_the_program();
    tunnels_and_datagrams();
    if (sizeof(void *) == 4)
        what_quic_has_no_room_for_is_told_to_both();
    requests_in_0_rtt();
    what_cannot_be_used();
    free(cert.text);
    free(key.text);
    return report();
}
