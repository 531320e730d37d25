/* The C API driven as ../../examples/plain.rs (of the Rust crate) drives quinn-proto: the same work, clock, settings and network.
 * Change both together. drive FOLDER bulk|rr, where FOLDER has cert.pem and key.pem; SSL_CERT_FILE names the former. */
#include "check.h"

#include <coquic/ffi/core.h>

enum { TOTAL = 16 << 20, PIECE = 64 << 10, REQUESTS = 4000, SLOTS = 16384 };

struct slot {
    size_t length;
    uint8_t ecn;
    uint8_t bytes[2048];
};

struct queue {
    struct slot slots[SLOTS];
    size_t first, count;
};

static coquic_endpoint_t *endpoints[2];
static struct queue queues[2];
static coquic_time_us_t now = 1;
static unsigned long datagrams;
static size_t received[2];
static uint64_t finished[2];
static int ready, answers;
static uint8_t data[PIECE];

static void take(int side, coquic_result_t *result);

static coquic_bytes_t bytes(const void *from, size_t length) {
    coquic_bytes_t all;
    all.data = from;
    all.length = length;
    return all;
}

static void ok(int side, coquic_status_t status, coquic_result_t **result) {
    REQUIRE(status == COQUIC_STATUS_OK && !coquic_result_has_local_error(*result));
    take(side, *result);
}

static void take(int side, coquic_result_t *result) {
    size_t count = coquic_result_effect_count(result), at;
    int more = coquic_result_send_continuation_pending(result);
    coquic_result_t *next;
    for (at = 0; at < count; at++) {
        coquic_effect_t effect;
        REQUIRE(coquic_result_effect_at(result, at, &effect) == COQUIC_STATUS_OK);
        if (effect.kind == COQUIC_EFFECT_SEND_DATAGRAM) {
            const coquic_send_datagram_effect_t *send = &effect.as.send_datagram;
            struct queue *queue = &queues[1 - side];
            struct slot *slot = &queue->slots[(queue->first + queue->count++) % SLOTS];
            REQUIRE(queue->count <= SLOTS && send->bytes.length <= sizeof slot->bytes);
            slot->length = send->bytes.length;
            slot->ecn = send->ecn;
            memcpy(slot->bytes, send->bytes.data, send->bytes.length);
            datagrams++;
        } else if (effect.kind == COQUIC_EFFECT_RECEIVE_STREAM_DATA) {
            const coquic_receive_stream_data_effect_t *got = &effect.as.receive_stream_data;
            received[side] += got->bytes.length;
            if (got->fin) {
                finished[side]++;
                if (answers && side == 1) {
                    coquic_status_t status = coquic_quic_stream_send(endpoints[1], got->connection, got->stream_id,
                                                                     bytes(data, 64), 1, now, &next);
                    ok(1, status, &next);
                }
            }
        } else if (effect.kind == COQUIC_EFFECT_STATE_EVENT) {
            ready |= effect.as.state_event.change == COQUIC_STATE_CHANGE_HANDSHAKE_READY;
        }
    }
    coquic_result_destroy(result);
    if (more) {
        coquic_status_t status = coquic_endpoint_timer_expired(endpoints[side], now, &next);
        ok(side, status, &next);
    }
}

static void step(void) {
    int side, idle = 1;
    coquic_result_t *result;
    coquic_status_t status;
    for (side = 0; side < 2; side++) {
        struct queue *queue = &queues[side];
        if (queue->count) {
            struct slot *slot = &queue->slots[queue->first];
            coquic_inbound_datagram_t in;
            queue->first = (queue->first + 1) % SLOTS;
            queue->count--;
            now += 20;
            memset(&in, 0, sizeof in);
            in.size = sizeof in;
            in.bytes = bytes(slot->bytes, slot->length);
            in.ecn = slot->ecn;
            in.route_handle.has_value = 1;
            in.route_handle.value = 1;
            status = coquic_endpoint_input_datagram(endpoints[side], &in, now, &result);
            ok(side, status, &result);
            idle = 0;
        }
    }
    if (idle) {
        coquic_optional_time_us_t due = coquic_endpoint_next_wakeup(endpoints[0]);
        coquic_optional_time_us_t other = coquic_endpoint_next_wakeup(endpoints[1]);
        side = !due.has_value || (other.has_value && other.value < due.value);
        if (side)
            due = other;
        REQUIRE(due.has_value);
        if (due.value > now)
            now = due.value;
        status = coquic_endpoint_timer_expired(endpoints[side], now, &result);
        ok(side, status, &result);
    }
}

static size_t read_file(const char *folder, const char *name, char *into) {
    char path[512];
    FILE *from;
    size_t length;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    from = fopen(path, "rb");
    REQUIRE(from);
    length = fread(into, 1, 4096, from);
    fclose(from);
    return length;
}

int main(int argc, char **argv) {
    static char cert[4096], key[4096];
    static const uint8_t ids[2][8] = {{0xc1, 0, 0, 0, 0, 0, 0, 1}, {0x83, 0, 0, 0, 0, 0, 0, 1}};
    coquic_endpoint_config_t config;
    coquic_tls_identity_t identity;
    coquic_open_connection_t open;
    coquic_connection_handle_t connection;
    coquic_result_t *result;
    coquic_status_t status;
    int side, bulk;

    REQUIRE(argc == 3);
    bulk = !strcmp(argv[2], "bulk");
    answers = !bulk;
    identity.certificate_pem = cert;
    identity.certificate_pem_length = read_file(argv[1], "cert.pem", cert);
    identity.private_key_pem = key;
    identity.private_key_pem_length = read_file(argv[1], "key.pem", key);
    for (side = 0; side < 2; side++) {
        coquic_endpoint_config_init(&config);
        config.role = (uint8_t)side;
        config.identity = side ? &identity : NULL;
        config.transport.initial_max_data = 32 << 20;
        config.transport.initial_max_stream_data_bidi_local = 16 << 20;
        config.transport.initial_max_stream_data_bidi_remote = 16 << 20;
        config.transport.initial_max_stream_data_uni = 16 << 20;
        REQUIRE(coquic_endpoint_create(&config, &endpoints[side]) == COQUIC_STATUS_OK);
    }
    memset(data, 0x5a, sizeof data);
    memset(&open, 0, sizeof open);
    open.size = sizeof open;
    coquic_client_connection_config_init(&open.connection);
    open.connection.source_connection_id = bytes(ids[0], 8);
    open.connection.initial_destination_connection_id = bytes(ids[1], 8);
    status = coquic_quic_connect(endpoints[0], &open, now, &connection, &result);
    ok(0, status, &result);
    while (!ready)
        step();
    if (bulk) {
        size_t sent = 0;
        while (!finished[1]) {
            if (sent < TOTAL && !coquic_endpoint_has_pending_stream_send(endpoints[0])) {
                sent += PIECE;
                status = coquic_quic_stream_send(endpoints[0], connection, 0, bytes(data, PIECE), sent == TOTAL, now,
                                                 &result);
                ok(0, status, &result);
            }
            step();
        }
        REQUIRE(received[1] == TOTAL);
    } else {
        uint64_t request;
        for (request = 1; request <= REQUESTS; request++) {
            status = coquic_quic_stream_send(endpoints[0], connection, 4 * (request - 1), bytes(data, 64), 1, now,
                                             &result);
            ok(0, status, &result);
            while (finished[0] < request)
                step();
        }
    }
    printf("%lu datagrams\n", datagrams);
    coquic_endpoint_destroy(endpoints[0]);
    coquic_endpoint_destroy(endpoints[1]);
    return 0;
}
