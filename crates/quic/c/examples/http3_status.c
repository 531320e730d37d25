/* Serves the state of the router as JSON over HTTP/3, with a plain poll loop:
 *
 *     http3_status PORT cert.pem key.pem
 *
 * GET /status answers with uptime, load and memory. With port 0 the system chooses one; it is printed. */
#include "loop.h"

/* Connections and their servers. */
enum { CONNECTIONS = 64 };
static struct {
    coquic_connection_handle_t handle;
    coquic_http3_server_t *server;
} connections[CONNECTIONS];

static char *read_file(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    char *text = malloc(65536);
    need(file && text, path);
    *length = fread(text, 1, 65536, file);
    fclose(file);
    return text;
}

/* The line of a file of /proc that begins with name, or nothing. */
static void line_of(const char *path, const char *name, char *line, int size) {
    FILE *file = fopen(path, "r");
    while (file && fgets(line, size, file))
        if (strncmp(line, name, strlen(name)) == 0) {
            fclose(file);
            return;
        }
    if (file)
        fclose(file);
    line[0] = 0;
}

static int status(char *json, size_t size) {
    char uptime[128], load[128], memory[128];
    double up = 0, one = 0;
    unsigned long available = 0;
    line_of("/proc/uptime", "", uptime, sizeof uptime);
    line_of("/proc/loadavg", "", load, sizeof load);
    line_of("/proc/meminfo", "MemAvailable:", memory, sizeof memory);
    sscanf(uptime, "%lf", &up);
    sscanf(load, "%lf", &one);
    sscanf(memory, "MemAvailable: %lu", &available);
    return snprintf(json, size, "{\"uptime\":%.0f,\"load\":%.2f,\"memory_available_kib\":%lu}\n", up, one, available);
}

static int is(coquic_bytes_view_t view, const char *text) {
    return view.length == strlen(text) && memcmp(view.data, text, view.length) == 0;
}

static void answer(coquic_http3_server_t *server, const coquic_http3_server_request_event_t *event) {
    static const coquic_http3_field_t json_type = {"content-type", 12, "application/json", 16};
    coquic_http3_response_t response;
    coquic_http3_error_t error = {0};
    char json[256];
    memset(&response, 0, sizeof response);
    response.size = sizeof response;
    response.head.size = sizeof response.head;
    response.head.content_length.has_value = 1;
    if (!is(event->request.head.path, "/status")) {
        response.head.status = 404;
    } else if (!is(event->request.head.method, "GET")) {
        response.head.status = 405;
    } else {
        response.head.status = 200;
        response.head.headers = &json_type;
        response.head.headers_count = 1;
        response.body.data = (const uint8_t *)json;
        response.body.length = (size_t)status(json, sizeof json);
        response.head.content_length.value = response.body.length;
    }
    coquic_http3_server_submit_response(server, event->stream_id, &response, &error);
}

static void handle(coquic_result_t *result);

/* Answers requests, and tells QUIC what HTTP/3 wants of the connection. */
static void handle_update(unsigned at, coquic_http3_server_update_t *update) {
    coquic_http3_server_request_event_t request;
    coquic_connection_input_t input;
    coquic_result_t **results;
    size_t event, count = coquic_http3_server_update_connection_input_count(update);
    unsigned answered = 0;
    for (event = 0; coquic_http3_server_update_request_at(update, event, &request) == COQUIC_STATUS_OK; event++, answered++)
        answer(connections[at].server, &request);
    /* First all inputs, so that what their results lead to comes behind them. */
    results = calloc(count + 1, sizeof *results);
    need(results != NULL, "memory");
    for (event = 0; coquic_http3_server_update_connection_input_at(update, event, &input) == COQUIC_STATUS_OK; event++)
        coquic_connection_advance(endpoint, connections[at].handle, &input, now(), &results[event]);
    coquic_http3_server_update_destroy(update);
    for (event = 0; event < count; event++)
        if (results[event])
            handle(results[event]);
    free(results);
    if (answered && connections[at].server &&
        coquic_http3_server_poll(connections[at].server, now(), &update) == COQUIC_STATUS_OK)
        handle_update(at, update);
}

static void handle(coquic_result_t *result) {
    coquic_effect_t effect;
    coquic_http3_server_update_t *update;
    size_t event;
    unsigned at;
    send_datagrams(result);
    for (event = 0; coquic_result_effect_at(result, event, &effect) == COQUIC_STATUS_OK; event++) {
        const coquic_connection_lifecycle_event_effect_t *change = &effect.as.connection_lifecycle_event;
        if (effect.kind != COQUIC_EFFECT_CONNECTION_LIFECYCLE_EVENT || change->event != COQUIC_LIFECYCLE_ACCEPTED)
            continue;
        for (at = 0; at < CONNECTIONS && connections[at].server; at++)
            ;
        /* The endpoint accepts no more than there is room for. */
        if (at < CONNECTIONS) {
            coquic_http3_server_config_t config;
            coquic_http3_server_config_init(&config);
            connections[at].handle = change->connection;
            need(coquic_http3_server_create(&config, &connections[at].server) == COQUIC_STATUS_OK, "server");
            coquic_http3_server_take_requests(connections[at].server, 1);
        }
    }
    for (at = 0; at < CONNECTIONS; at++)
        if (connections[at].server &&
            coquic_http3_server_on_quic_result(connections[at].server, result, now(), &update) == COQUIC_STATUS_OK)
            handle_update(at, update);
    for (event = 0; coquic_result_effect_at(result, event, &effect) == COQUIC_STATUS_OK; event++) {
        const coquic_connection_lifecycle_event_effect_t *change = &effect.as.connection_lifecycle_event;
        if (effect.kind != COQUIC_EFFECT_CONNECTION_LIFECYCLE_EVENT || change->event != COQUIC_LIFECYCLE_CLOSED)
            continue;
        for (at = 0; at < CONNECTIONS; at++)
            if (connections[at].server && connections[at].handle == change->connection) {
                coquic_http3_server_destroy(connections[at].server);
                connections[at].server = NULL;
            }
    }
    coquic_result_destroy(result);
}

int main(int count, char **arguments) {
    struct sockaddr_in here = {.sin_family = AF_INET};
    socklen_t length = sizeof here;
    coquic_endpoint_config_t config;
    coquic_tls_identity_t identity;
    if (count != 4) {
        fprintf(stderr, "usage: http3_status PORT cert.pem key.pem\n");
        return 2;
    }
    here.sin_port = htons((uint16_t)atoi(arguments[1]));
    udp = socket(AF_INET, SOCK_DGRAM, 0);
    need(udp >= 0 && bind(udp, (struct sockaddr *)&here, sizeof here) == 0, "socket");
    need(getsockname(udp, (struct sockaddr *)&here, &length) == 0, "socket");
    coquic_http3_server_endpoint_config_init(&config);
    identity.certificate_pem = read_file(arguments[2], &identity.certificate_pem_length);
    identity.private_key_pem = read_file(arguments[3], &identity.private_key_pem_length);
    config.identity = &identity;
    config.max_server_connections = CONNECTIONS;
    need(coquic_endpoint_create(&config, &endpoint) == COQUIC_STATUS_OK, "endpoint");
    printf("%u\n", ntohs(here.sin_port));
    fflush(stdout);
    for (;;)
        handle(wait_for_result());
}
