/* Fetches something over HTTP/3, with a plain poll loop:
 *
 *     http3_get ADDRESS PORT NAME PATH
 *
 * NAME is what the server's certificate has to say; SSL_CERT_FILE may name the authorities to trust. The content goes to the standard output. */
#include "loop.h"

static coquic_connection_handle_t connection;
static coquic_http3_client_t *client;
static int done = -1;

static void handle(coquic_result_t *result) {
    coquic_http3_client_update_t *update;
    coquic_http3_client_response_event_t response;
    coquic_http3_client_request_error_event_t error;
    coquic_connection_input_t input;
    coquic_result_t **results;
    size_t count, at;
    send_datagrams(result);
    need(coquic_http3_client_on_quic_result(client, result, now(), &update) == COQUIC_STATUS_OK, "HTTP/3");
    coquic_result_destroy(result);
    for (at = 0; coquic_http3_client_update_response_at(update, at, &response) == COQUIC_STATUS_OK; at++) {
        if (response.response.body.length)
            fwrite(response.response.body.data, 1, response.response.body.length, stdout);
        if (response.response.head.status != 200)
            fprintf(stderr, "status %u\n", response.response.head.status);
        done = response.response.head.status != 200;
    }
    for (at = 0; coquic_http3_client_update_request_error_at(update, at, &error) == COQUIC_STATUS_OK; at++) {
        fprintf(stderr, "no response: %#lx\n", (unsigned long)error.application_error_code);
        done = 1;
    }
    /* First all inputs, so that what their results lead to comes behind them. */
    count = coquic_http3_client_update_connection_input_count(update);
    results = calloc(count + 1, sizeof *results);
    need(results != NULL, "memory");
    for (at = 0; coquic_http3_client_update_connection_input_at(update, at, &input) == COQUIC_STATUS_OK; at++)
        coquic_connection_advance(endpoint, connection, &input, now(), &results[at]);
    coquic_http3_client_update_destroy(update);
    for (at = 0; at < count; at++)
        if (results[at])
            handle(results[at]);
    free(results);
}

/* Connection ids are to be such that nobody guesses them. */
static coquic_bytes_t id(uint8_t *bytes) {
    FILE *random = fopen("/dev/urandom", "rb");
    coquic_bytes_t all = {bytes, 8};
    need(random && fread(bytes, 1, 8, random) == 8, "/dev/urandom");
    fclose(random);
    return all;
}

int main(int count, char **arguments) {
    uint8_t ours[8], theirs[8];
    struct sockaddr_in peer = {.sin_family = AF_INET};
    coquic_endpoint_config_t config;
    coquic_open_connection_t open;
    coquic_http3_client_config_t settings;
    coquic_http3_request_t request;
    coquic_http3_error_t error = {0};
    coquic_close_connection_t close;
    coquic_stream_id_t stream;
    coquic_result_t *result;
    if (count != 5) {
        fprintf(stderr, "usage: http3_get ADDRESS PORT NAME PATH\n");
        return 2;
    }
    peer.sin_port = htons((uint16_t)atoi(arguments[2]));
    need(inet_pton(AF_INET, arguments[1], &peer.sin_addr) == 1, arguments[1]);
    udp = socket(AF_INET, SOCK_DGRAM, 0);
    need(udp >= 0, "socket");
    coquic_http3_client_endpoint_config_init(&config);
    config.transport.max_idle_timeout = 5000;
    need(coquic_endpoint_create(&config, &endpoint) == COQUIC_STATUS_OK, "endpoint");
    coquic_http3_client_config_init(&settings);
    need(coquic_http3_client_create(&settings, &client) == COQUIC_STATUS_OK, "client");

    memset(&request, 0, sizeof request);
    request.size = sizeof request;
    request.head.size = sizeof request.head;
    request.head.method = "GET";
    request.head.method_length = 3;
    request.head.scheme = "https";
    request.head.scheme_length = 5;
    request.head.authority = arguments[3];
    request.head.authority_length = strlen(arguments[3]);
    request.head.path = arguments[4];
    request.head.path_length = strlen(arguments[4]);
    need(coquic_http3_client_submit_request(client, &request, &stream, &error) == COQUIC_STATUS_OK, "request");
    if (error.code != COQUIC_HTTP3_ERROR_NO_ERROR) {
        fprintf(stderr, "not a request that can be sent: %#x\n", error.code);
        return 2;
    }

    memset(&open, 0, sizeof open);
    open.size = sizeof open;
    coquic_client_connection_config_init(&open.connection);
    open.connection.server_name = arguments[3];
    open.connection.server_name_length = strlen(arguments[3]);
    open.connection.source_connection_id = id(ours);
    open.connection.initial_destination_connection_id = id(theirs);
    open.initial_route_handle = route_of(&peer);
    need(coquic_quic_connect(endpoint, &open, now(), &connection, &result) == COQUIC_STATUS_OK, "connect");
    handle(result);
    while (done < 0)
        handle(wait_for_result());

    memset(&close, 0, sizeof close);
    close.size = sizeof close;
    close.application_error_code = COQUIC_HTTP3_ERROR_NO_ERROR;
    if (coquic_connection_close(endpoint, connection, &close, now(), &result) == COQUIC_STATUS_OK) {
        send_datagrams(result);
        coquic_result_destroy(result);
    }
    coquic_http3_client_destroy(client);
    coquic_endpoint_destroy(endpoint);
    return done;
}
