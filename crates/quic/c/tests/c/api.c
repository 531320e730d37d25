/* The C API between two endpoints in memory. Takes the folder with cert.pem and key.pem; SSL_CERT_FILE names cert.pem. */
#include "pair.h"

static struct file cert, key;

static void server_config(coquic_endpoint_config_t *config, coquic_tls_identity_t *identity) {
    coquic_endpoint_config_init(config);
    identity->certificate_pem = cert.text;
    identity->certificate_pem_length = cert.length;
    identity->private_key_pem = key.text;
    identity->private_key_pem_length = key.length;
    config->role = COQUIC_ROLE_SERVER;
    config->identity = identity;
}

static void begin(struct pair *pair, uint8_t retry) {
    coquic_endpoint_config_t config;
    coquic_tls_identity_t identity;
    memset(pair, 0, sizeof *pair);
    pair->now = 1;
    coquic_endpoint_config_init(&config);
    REQUIRE(coquic_endpoint_create(&config, &pair->endpoint[CLIENT]) == COQUIC_STATUS_OK);
    server_config(&config, &identity);
    config.retry_enabled = retry;
    config.zero_rtt.allow = 1;
    REQUIRE(coquic_endpoint_create(&config, &pair->endpoint[SERVER]) == COQUIC_STATUS_OK);
}

static void open_config(coquic_open_connection_t *open) {
    static const uint8_t ours[8] = {0xc1, 0, 0, 0, 0, 0, 0, 1}, theirs[8] = {0x83, 0, 0, 0, 0, 0, 0, 1};
    memset(open, 0, sizeof *open);
    open->size = sizeof *open;
    coquic_client_connection_config_init(&open->connection);
    open->connection.source_connection_id = bytes(ours, sizeof ours);
    open->connection.initial_destination_connection_id = bytes(theirs, sizeof theirs);
    open->initial_route_handle = 7;
}

static coquic_connection_handle_t connect(struct pair *pair) {
    coquic_open_connection_t open;
    coquic_connection_handle_t connection;
    coquic_result_t *result;
    open_config(&open);
    REQUIRE(coquic_quic_connect(pair->endpoint[CLIENT], &open, pair->now, &connection, &result) == COQUIC_STATUS_OK);
    take(pair, CLIENT, result);
    return connection;
}

/* The refusal in a result, which is destroyed. */
static int refusal(coquic_status_t status, coquic_result_t *result) {
    coquic_local_error_t error;
    int code = -1;
    REQUIRE(status == COQUIC_STATUS_OK);
    if (coquic_result_has_local_error(result)) {
        REQUIRE(coquic_result_local_error(result, &error) == COQUIC_STATUS_OK);
        code = error.code;
    } else {
        REQUIRE(coquic_result_local_error(result, &error) == COQUIC_STATUS_INVALID_ARGUMENT);
    }
    coquic_result_destroy(result);
    return code;
}

#define REFUSAL(call) (called = (call), refusal(called, result))
static coquic_status_t called;

static void defaults(void) {
    coquic_endpoint_config_t config;
    coquic_client_connection_config_t client;
    memset(&config, 0xff, sizeof config);
    coquic_endpoint_config_init(&config);
    CHECK(coquic_ffi_abi_version() == COQUIC_FFI_ABI_VERSION);
    CHECK(config.size == sizeof config && config.role == COQUIC_ROLE_CLIENT && config.verify_peer == 1);
    CHECK(config.application_protocol_length == 6 && !memcmp(config.application_protocol, "coquic", 6));
    CHECK(config.max_outbound_datagram_size == 1200 && config.allow_peer_address_change == 1);
    CHECK(!config.supported_versions && !config.retry_enabled && !config.identity && !config.zero_rtt.allow);
    CHECK(config.transport.max_idle_timeout == 0 && config.transport.max_udp_payload_size == 65527);
    CHECK(config.transport.pmtud_enabled == 1 && config.transport.pmtud_base_datagram_size == 1200);
    CHECK(config.transport.pmtud_max_datagram_size == 0 && config.transport.active_connection_id_limit == 2);
    CHECK(config.transport.ack_delay_exponent == 3 && config.transport.max_ack_delay == 25);
    CHECK(config.transport.ack_eliciting_threshold == 2 && config.transport.initial_max_data == 1048576);
    CHECK(config.transport.initial_max_stream_data_bidi_local == 262144);
    CHECK(config.transport.initial_max_stream_data_bidi_remote == 262144);
    CHECK(config.transport.initial_max_stream_data_uni == 262144);
    CHECK(config.transport.initial_max_streams_bidi == 16 && config.transport.initial_max_streams_uni == 16);
    CHECK(config.transport.max_datagram_frame_size == 65535 && config.transport.congestion_control == 0);
    CHECK(config.transport.enable_hystart_plus_plus == 1 && config.transport.send_stream_fairness == 1);
    CHECK(config.transport.ecn_policy == 0 && config.transport.pmtud_provisional_icmp_reductions == 0);
    coquic_client_connection_config_init(&client);
    CHECK(client.size == sizeof client && client.original_version == 1 && client.initial_version == 1);
    CHECK(client.server_name_length == 9 && !memcmp(client.server_name, "localhost", 9));
    CHECK(!client.resumption_state && !client.source_connection_id.length);
    coquic_endpoint_config_init(NULL);
    coquic_client_connection_config_init(NULL);
    coquic_transport_config_init(NULL);
}

static void arguments(void) {
    struct pair pair;
    coquic_endpoint_config_t config;
    coquic_tls_identity_t identity;
    coquic_endpoint_t *endpoint = (coquic_endpoint_t *)&config;
    coquic_result_t *result = (coquic_result_t *)&config;
    coquic_inbound_datagram_t in;
    coquic_open_connection_t open;
    coquic_effect_t effect;
    const uint32_t only_2[1] = {0x6b3343cf}, both[2] = {0x6b3343cf, 1};
    size_t size;

    CHECK(coquic_endpoint_create(NULL, &endpoint) == COQUIC_STATUS_INVALID_ARGUMENT && !endpoint);
    coquic_endpoint_config_init(&config);
    CHECK(coquic_endpoint_create(&config, NULL) == COQUIC_STATUS_INVALID_ARGUMENT);
    /* The first version ended behind this byte. */
    config.size = offsetof(coquic_endpoint_config_t, allow_peer_address_change);
    CHECK(coquic_endpoint_create(&config, &endpoint) == COQUIC_STATUS_INVALID_ARGUMENT && !endpoint);
    for (size = config.size + 1; size <= sizeof config + 8; size++) {
        config.size = size;
        REQUIRE(coquic_endpoint_create(&config, &endpoint) == COQUIC_STATUS_OK);
        coquic_endpoint_destroy(endpoint);
    }
    /* What a shorter struct does not have is not read. */
    config.enable_reserved_version_probe = 1;
    config.size = offsetof(coquic_endpoint_config_t, enable_reserved_version_probe);
    CHECK(coquic_endpoint_create(&config, &endpoint) == COQUIC_STATUS_OK);
    coquic_endpoint_destroy(endpoint);
    config.size = sizeof config;
    CHECK(coquic_endpoint_create(&config, &endpoint) == COQUIC_STATUS_INVALID_ARGUMENT);
    coquic_endpoint_config_init(&config);
    config.supported_versions = only_2;
    config.supported_versions_count = 1;
    CHECK(coquic_endpoint_create(&config, &endpoint) == COQUIC_STATUS_INVALID_ARGUMENT);
    config.supported_versions = both;
    config.supported_versions_count = 2;
    CHECK(coquic_endpoint_create(&config, &endpoint) == COQUIC_STATUS_OK);
    coquic_endpoint_destroy(endpoint);
    coquic_endpoint_config_init(&config);
    for (config.transport.congestion_control = 0; config.transport.congestion_control < 9;
         config.transport.congestion_control++) {
        uint8_t control = config.transport.congestion_control;
        int known = coquic_endpoint_create(&config, &endpoint) == COQUIC_STATUS_OK;
        REQUIRE(known == (control < COQUIC_CONGESTION_CONTROL_COPA || control > COQUIC_CONGESTION_CONTROL_PCC_VIVACE));
        coquic_endpoint_destroy(endpoint);
    }
    server_config(&config, &identity);
    config.identity = NULL;
    CHECK(coquic_endpoint_create(&config, &endpoint) == COQUIC_STATUS_INVALID_ARGUMENT);
    config.identity = &identity;
    identity.private_key_pem = cert.text;
    identity.private_key_pem_length = cert.length;
    CHECK(coquic_endpoint_create(&config, &endpoint) == COQUIC_STATUS_INVALID_ARGUMENT);

    begin(&pair, 0);
    CHECK(coquic_endpoint_timer_expired(NULL, 1, &result) == COQUIC_STATUS_INVALID_ARGUMENT && !result);
    CHECK(coquic_endpoint_timer_expired(pair.endpoint[0], 1, NULL) == COQUIC_STATUS_INVALID_ARGUMENT);
    memset(&in, 0, sizeof in);
    CHECK(coquic_endpoint_input_datagram(pair.endpoint[0], &in, 1, &result) == COQUIC_STATUS_INVALID_ARGUMENT);
    in.size = sizeof in;
    in.bytes = bytes(NULL, 1);
    CHECK(coquic_endpoint_input_datagram(pair.endpoint[0], &in, 1, &result) == COQUIC_STATUS_INVALID_ARGUMENT);
    in.bytes = bytes(&in, SIZE_MAX);
    CHECK(coquic_endpoint_input_datagram(pair.endpoint[0], &in, 1, &result) == COQUIC_STATUS_INVALID_ARGUMENT);
    in.bytes = bytes(NULL, 0);
    CHECK(coquic_endpoint_input_datagram(pair.endpoint[0], &in, 1, &result) == COQUIC_STATUS_OK);
    CHECK(coquic_result_effect_count(result) == 0);
    CHECK(coquic_result_effect_at(result, 0, &effect) == COQUIC_STATUS_INVALID_ARGUMENT);
    CHECK(!coquic_result_next_wakeup(result).has_value && !coquic_result_send_continuation_pending(result));
    coquic_result_destroy(result);
    open_config(&open);
    open.connection.size = 1;
    CHECK(coquic_endpoint_open_connection(pair.endpoint[0], &open, 1, &result) == COQUIC_STATUS_INVALID_ARGUMENT);
    open_config(&open);
    open.connection.initial_destination_connection_id.length = 7;
    CHECK(coquic_endpoint_open_connection(pair.endpoint[0], &open, 1, &result) == COQUIC_STATUS_INVALID_ARGUMENT);
    open_config(&open);
    open.connection.server_name = "not a name";
    open.connection.server_name_length = 10;
    CHECK(coquic_endpoint_open_connection(pair.endpoint[0], &open, 1, &result) == COQUIC_STATUS_INVALID_ARGUMENT);
    open_config(&open);
    CHECK(REFUSAL(coquic_endpoint_open_connection(pair.endpoint[SERVER], &open, 1, &result)) ==
          COQUIC_LOCAL_ERROR_UNSUPPORTED_OPERATION);
    open.connection.original_version = only_2[0];
    CHECK(REFUSAL(coquic_endpoint_open_connection(pair.endpoint[0], &open, 1, &result)) ==
          COQUIC_LOCAL_ERROR_UNSUPPORTED_OPERATION);
    end_pair(&pair);

    coquic_endpoint_destroy(NULL);
    coquic_result_destroy(NULL);
    CHECK(coquic_endpoint_connection_count(NULL) == 0 && !coquic_endpoint_next_wakeup(NULL).has_value);
    CHECK(!coquic_endpoint_has_send_continuation_pending(NULL) && !coquic_endpoint_has_pending_stream_send(NULL));
    CHECK(coquic_result_effect_count(NULL) == 0 && !coquic_result_has_local_error(NULL));
    CHECK(coquic_result_effect_at(NULL, 0, &effect) == COQUIC_STATUS_INVALID_ARGUMENT);
}

/* Everything that a connection can do, from its beginning to its end. */
static void life(uint8_t retry) {
    static const char hello[] = "hello";
    struct pair pair;
    struct seen *client = &pair.seen[CLIENT], *server = &pair.seen[SERVER];
    coquic_connection_handle_t connection;
    coquic_result_t *result;
    coquic_endpoint_t *ours;
    coquic_send_stream_data_t send;
    coquic_connection_input_t any;
    uint8_t *large = malloc(3 << 20);
    size_t at;

    REQUIRE(large);
    for (at = 0; at < 3 << 20; at++)
        large[at] = (uint8_t)(at * 7 ^ at >> 11);
    begin(&pair, retry);
    ours = pair.endpoint[CLIENT];
    connection = connect(&pair);
    CHECK(connection == 1 && client->created == 1 && coquic_endpoint_connection_count(ours) == 1);
    CHECK(coquic_endpoint_next_wakeup(ours).has_value);
    CHECK(REFUSAL(coquic_quic_stream_send(ours, 1, 0, bytes(hello, 5), 0, pair.now, &result)) ==
          COQUIC_LOCAL_ERROR_INVALID_STREAM_ID);
    run(&pair, 200000);
    CHECK(client->ready == 1 && client->confirmed == 1 && server->accepted == 1 && server->confirmed == 1);
    CHECK(client->session_length > 0 && client->token_length > 0 && server->token_length == 0);

    /* More than the peer takes at a time. */
    CHECK(REFUSAL(coquic_quic_stream_send(ours, 1, 0, bytes(large, 3 << 20), 0, pair.now, &result)) == -1);
    CHECK(coquic_endpoint_has_pending_stream_send(ours));
    CHECK(REFUSAL(coquic_quic_stream_finish(ours, 1, 0, pair.now, &result)) == -1);
    CHECK(REFUSAL(coquic_quic_stream_finish(ours, 1, 0, pair.now, &result)) ==
          COQUIC_LOCAL_ERROR_SEND_SIDE_CLOSED);
    run(&pair, 2000000);
    /* What a refusal() swallowed was lost on its way, and sent again. */
    CHECK(server->stream_length == 3 << 20 && !memcmp(server->stream, large, 3 << 20));
    CHECK(server->fin == 1 && server->final_size == 3 << 20 && server->stream_id == 0);
    CHECK(!coquic_endpoint_has_pending_stream_send(ours) && client->probes + server->probes > 0);

    memset(&send, 0, sizeof send);
    send.size = offsetof(coquic_send_stream_data_t, priority);
    send.stream_id = 0;
    send.bytes = bytes(hello, 5);
    send.fin = 1;
    CHECK(coquic_connection_send_stream(pair.endpoint[SERVER], 1, &send, pair.now, &result) == COQUIC_STATUS_OK);
    take(&pair, SERVER, result);
    send.size = offsetof(coquic_send_stream_data_t, fin);
    CHECK(coquic_connection_send_stream(pair.endpoint[SERVER], 1, &send, pair.now, &result) ==
          COQUIC_STATUS_INVALID_ARGUMENT);
    run(&pair, 100000);
    CHECK(client->stream_length == 5 && !memcmp(client->stream, hello, 5) && client->fin == 1);

    memset(&any, 0, sizeof any);
    any.kind = COQUIC_CONNECTION_INPUT_SEND_DATAGRAM;
    any.as.send_datagram.size = offsetof(coquic_send_datagram_data_t, priority) - 1;
    any.as.send_datagram.bytes = bytes(hello, 5);
    CHECK(coquic_connection_advance(ours, 1, &any, pair.now, &result) == COQUIC_STATUS_INVALID_ARGUMENT);
    any.as.send_datagram.size = offsetof(coquic_send_datagram_data_t, priority);
    CHECK(coquic_connection_advance(ours, 1, &any, pair.now, &result) == COQUIC_STATUS_OK);
    take(&pair, CLIENT, result);
    any.as.send_datagram.size = sizeof any.as.send_datagram;
    any.as.send_datagram.bytes = bytes(large, 60000);
    CHECK(REFUSAL(coquic_quic_connection_advance(ours, 1, &any, pair.now, &result)) ==
          COQUIC_LOCAL_ERROR_DATAGRAM_TOO_LARGE);
    any.kind = COQUIC_CONNECTION_INPUT_REQUEST_KEY_UPDATE;
    CHECK(coquic_connection_advance(ours, 1, &any, pair.now, &result) == COQUIC_STATUS_OK);
    take(&pair, CLIENT, result);
    run(&pair, 100000);
    CHECK(server->datagram_length == 5 && !memcmp(server->datagram, hello, 5));

    CHECK(REFUSAL(coquic_quic_stream_send(ours, 1, 3, bytes(hello, 5), 0, pair.now, &result)) ==
          COQUIC_LOCAL_ERROR_INVALID_STREAM_ID);
    CHECK(REFUSAL(coquic_quic_stream_stop_sending(ours, 1, 2, 1, pair.now, &result)) ==
          COQUIC_LOCAL_ERROR_INVALID_STREAM_DIRECTION);
    CHECK(coquic_quic_stream_send(ours, 1, 4, bytes(hello, 5), 0, pair.now, &result) == COQUIC_STATUS_OK);
    take(&pair, CLIENT, result);
    free(server->stream);
    server->stream = NULL;
    server->stream_length = 0;
    run(&pair, 100000);
    CHECK(server->stream_length == 5 && server->stream_id == 4);
    CHECK(coquic_quic_stream_reset(ours, 1, 4, 77, pair.now, &result) == COQUIC_STATUS_OK);
    take(&pair, CLIENT, result);
    CHECK(coquic_quic_stream_stop_sending(ours, 1, 4, 78, pair.now, &result) == COQUIC_STATUS_OK);
    take(&pair, CLIENT, result);
    run(&pair, 100000);
    CHECK(server->resets == 1 && server->reset_code == 77 && server->stops == 1 && server->stop_code == 78);

    CHECK(REFUSAL(coquic_quic_stream_send(ours, 2, 0, bytes(hello, 5), 0, pair.now, &result)) ==
          COQUIC_LOCAL_ERROR_UNSUPPORTED_OPERATION);
    memset(&any, 0, sizeof any);
    any.kind = COQUIC_CONNECTION_INPUT_CLOSE;
    any.as.close.size = sizeof any.as.close;
    any.as.close.application_error_code = 5;
    any.as.close.reason_phrase = "done";
    any.as.close.reason_phrase_length = 4;
    CHECK(coquic_connection_advance(ours, 1, &any, pair.now, &result) == COQUIC_STATUS_OK);
    take(&pair, CLIENT, result);
    CHECK(client->closed == 1 && client->failed == 0 && coquic_endpoint_connection_count(ours) == 0);
    run(&pair, 10000000);
    CHECK(server->closed == 1 && server->failed == 0);
    CHECK(!coquic_endpoint_next_wakeup(ours).has_value);
    CHECK(!coquic_endpoint_next_wakeup(pair.endpoint[SERVER]).has_value);
    CHECK(REFUSAL(coquic_connection_advance(ours, 1, &any, pair.now, &result)) ==
          COQUIC_LOCAL_ERROR_UNSUPPORTED_OPERATION);

    /* Again, with what the first connection left: data comes with the first packet. */
    {
        coquic_open_connection_t open;
        coquic_resumption_state_t session;
        open_config(&open);
        session.serialized = bytes(client->session, client->session_length);
        open.connection.resumption_state = &session;
        open.connection.zero_rtt.attempt = 1;
        open.connection.retry_token = bytes(client->token, client->token_length);
        free(server->stream);
        server->stream = NULL;
        server->stream_length = 0;
        CHECK(coquic_quic_connect(ours, &open, pair.now, &connection, &result) == COQUIC_STATUS_OK);
        take(&pair, CLIENT, result);
        CHECK(connection == 2 && client->early == COQUIC_ZERO_RTT_ATTEMPTED);
        CHECK(coquic_quic_stream_send(ours, 2, 0, bytes(hello, 5), 1, pair.now, &result) == COQUIC_STATUS_OK);
        take(&pair, CLIENT, result);
        run(&pair, 200000);
        CHECK(client->early == COQUIC_ZERO_RTT_ACCEPTED && client->early_events == 2);
        CHECK(server->stream_length == 5 && server->accepted == 2);
    }
    /* A result outlives its endpoint. */
    CHECK(coquic_quic_stream_send(ours, 2, 4, bytes(hello, 5), 1, pair.now, &result) == COQUIC_STATUS_OK);
    coquic_endpoint_destroy(ours);
    pair.endpoint[CLIENT] = NULL;
    CHECK(coquic_result_effect_count(result) > 0);
    take(&pair, CLIENT, result);
    end_pair(&pair);
    free(large);
}

/* A client that trusts somebody else does not come in, and a server that is gone says so. */
static void trust_and_reset(void) {
    struct pair pair;
    coquic_endpoint_config_t config;
    coquic_tls_identity_t identity;
    coquic_open_connection_t open;
    coquic_connection_handle_t connection;
    coquic_result_t *result;
    begin(&pair, 0);
    open_config(&open);
    open.connection.server_name = "other.example";
    open.connection.server_name_length = 13;
    CHECK(coquic_quic_connect(pair.endpoint[CLIENT], &open, 1, &connection, &result) == COQUIC_STATUS_OK);
    take(&pair, CLIENT, result);
    run(&pair, 10000000);
    CHECK(pair.seen[CLIENT].failed == 1 && pair.seen[CLIENT].closed == 1 && pair.seen[CLIENT].ready == 0);
    CHECK(coquic_endpoint_connection_count(pair.endpoint[SERVER]) == 0);
    end_pair(&pair);

    begin(&pair, 0);
    connect(&pair);
    run(&pair, 200000);
    CHECK(pair.seen[CLIENT].confirmed == 1);
    /* One that has forgotten everything cannot prove that it is the same: its datagrams are ignored. */
    coquic_endpoint_destroy(pair.endpoint[SERVER]);
    server_config(&config, &identity);
    REQUIRE(coquic_endpoint_create(&config, &pair.endpoint[SERVER]) == COQUIC_STATUS_OK);
    CHECK(coquic_quic_stream_send(pair.endpoint[CLIENT], 1, 0, bytes("x", 1), 1, pair.now, &result) == COQUIC_STATUS_OK);
    take(&pair, CLIENT, result);
    run(&pair, 1000);
    CHECK(pair.seen[CLIENT].failed == 0);
    end_pair(&pair);
}

int main(int argc, char **argv) {
    REQUIRE(argc == 2);
    cert = read_file(argv[1], "cert.pem");
    key = read_file(argv[1], "key.pem");
    defaults();
    arguments();
    life(0);
    life(1);
    trust_and_reset();
    free(cert.text);
    free(key.text);
    return report();
}
