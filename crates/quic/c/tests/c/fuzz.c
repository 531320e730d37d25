/* Random calls of the C API, with what is right, wrong and in between, and random damage to datagrams. Takes the folder of cert.pem
 * and key.pem, a seed and seconds. Nothing is checked but that calls return, and what sanitizers see. */
#define _POSIX_C_SOURCE 200809L
#include "any.h"

#include <time.h>

static void discard(struct pair *pair, int side, coquic_status_t status, coquic_result_t *result) {
    size_t at, count = coquic_result_effect_count(result);
    REQUIRE((status == COQUIC_STATUS_OK) == (result != NULL) && status <= COQUIC_STATUS_INVALID_ARGUMENT);
    for (at = 0; at < count; at++) {
        coquic_effect_t effect;
        REQUIRE(coquic_result_effect_at(result, at, &effect) == COQUIC_STATUS_OK);
        if (effect.kind == COQUIC_EFFECT_SEND_DATAGRAM) {
            struct datagram *datagram = malloc(sizeof *datagram);
            size_t length = effect.as.send_datagram.bytes.length;
            REQUIRE(datagram && length <= sizeof datagram->bytes);
            memcpy(datagram->bytes, effect.as.send_datagram.bytes.data, length);
            datagram->length = length;
            datagram->next = pair->to[1 - side];
            pair->to[1 - side] = datagram;
        }
    }
    REQUIRE(coquic_result_effect_at(result, count, &(coquic_effect_t){0}) == COQUIC_STATUS_INVALID_ARGUMENT);
    coquic_result_destroy(result);
}

static void call(struct pair *pair) {
    int side = (int)below(2);
    coquic_endpoint_t *endpoint = below(100) ? pair->endpoint[side] : NULL;
    coquic_connection_handle_t connection = below(8) ? 1 + below(3) : number();
    coquic_time_us_t now = pair->now += below(3) ? below(2000) : below(200000);
    coquic_result_t *result = NULL;
    coquic_status_t status;
    coquic_connection_input_t command;
    memset(&command, 0, sizeof command);
    switch (below(13)) {
    case 0: {
        coquic_open_connection_t open;
        memset(&open, 0, sizeof open);
        open.size = below(10) ? sizeof open : number();
        coquic_client_connection_config_init(&open.connection);
        open.connection.source_connection_id = bytes("01234567890123456789x", below(3) ? 8 : below(22));
        open.connection.initial_destination_connection_id = bytes("abcdefghijabcdefghijx", below(3) ? 8 : below(22));
        open.connection.retry_token = below(3) ? bytes(NULL, 0) : some();
        open.connection.server_name = below(4) ? "localhost" : "\xff";
        open.connection.server_name_length = below(4) ? 9 - 8 * (open.connection.server_name[0] != 'l') : 0;
        status = coquic_quic_connect(endpoint, &open, now, &connection, &result);
        break;
    }
    case 1: status = coquic_endpoint_timer_expired(endpoint, now, &result); break;
    case 2: {
        coquic_path_mtu_update_t update;
        memset(&update, 0, sizeof update);
        update.size = below(10) ? sizeof update : number();
        update.route_handle.has_value = (uint8_t)below(3);
        update.route_handle.value = below(3);
        update.max_udp_payload_size = below(2000);
        status = coquic_endpoint_update_path_mtu(endpoint, &update, now, &result);
        break;
    }
    case 3:
    case 4:
        command.kind = COQUIC_CONNECTION_INPUT_SEND_STREAM;
        command.as.send_stream.size = below(10) ? sizeof command.as.send_stream : number();
        command.as.send_stream.stream_id = number();
        command.as.send_stream.bytes = some();
        command.as.send_stream.fin = !below(3);
        command.as.send_stream.priority = (int32_t)number();
        status = coquic_connection_advance(endpoint, connection, &command, now, &result);
        break;
    case 5:
        command.kind = (uint8_t)(1 + below(8));
        command.as.reset_stream.size = below(10) ? sizeof command.as.reset_stream : number();
        if (command.kind == COQUIC_CONNECTION_INPUT_SEND_DATAGRAM) {
            command.as.send_datagram.size = sizeof command.as.send_datagram;
            command.as.send_datagram.bytes = some();
        } else if (command.kind == COQUIC_CONNECTION_INPUT_CLOSE) {
            if (below(10))
                return;
            command.as.close.size = sizeof command.as.close;
            command.as.close.application_error_code = number();
        } else if (command.kind == COQUIC_CONNECTION_INPUT_REQUEST_MIGRATION) {
            command.as.request_migration.size = sizeof command.as.request_migration;
            command.as.request_migration.route_handle = below(3);
            command.as.request_migration.reason = (uint8_t)below(3);
        } else {
            command.as.reset_stream.stream_id = number();
            command.as.reset_stream.application_error_code = number();
        }
        status = coquic_connection_advance(endpoint, connection, &command, now, &result);
        break;
    default: {
        coquic_inbound_datagram_t in;
        struct datagram *first = pair->to[side];
        memset(&in, 0, sizeof in);
        in.size = below(50) ? sizeof in : number();
        in.ecn = (uint8_t)below(6);
        in.route_handle.has_value = (uint8_t)below(10);
        in.route_handle.value = below(10) ? 1 : below(3);
        in.address_validation_identity = below(3) ? bytes("\4abcd12", 7) : some();
        if (!first || !below(20)) {
            in.bytes = some();
            status = coquic_endpoint_input_datagram(endpoint, &in, now, &result);
            break;
        }
        if (!below(8))
            first->bytes[below(first->length)] ^= (uint8_t)any();
        in.bytes = bytes(first->bytes, below(20) ? first->length : below(first->length));
        status = coquic_endpoint_input_datagram(endpoint, &in, now, &result);
        /* Some come twice. */
        if (below(10)) {
            pair->to[side] = first->next;
            free(first);
        }
    }
    }
    discard(pair, side, status, result);
}

int main(int argc, char **argv) {
    struct file cert, key;
    time_t end;
    unsigned long rounds = 0;
    REQUIRE(argc == 4);
    cert = read_file(argv[1], "cert.pem");
    key = read_file(argv[1], "key.pem");
    state = strtoull(argv[2], NULL, 10);
    end = time(NULL) + atoi(argv[3]);
    while (time(NULL) < end) {
        coquic_endpoint_config_t config;
        coquic_tls_identity_t identity = {cert.text, cert.length, key.text, key.length};
        struct pair pair;
        int side, calls;
        memset(&pair, 0, sizeof pair);
        for (side = 0; side < 2; side++) {
            coquic_endpoint_config_init(&config);
            config.role = (uint8_t)side;
            config.identity = &identity;
            config.retry_enabled = !below(4);
            config.transport.max_idle_timeout = below(2) * 5000;
            config.enable_out_of_order_receive = (uint8_t)below(2);
            config.max_server_connections = below(3);
            REQUIRE(coquic_endpoint_create(&config, &pair.endpoint[side]) == COQUIC_STATUS_OK);
        }
        for (calls = 0; calls < 3000; calls++)
            call(&pair);
        end_pair(&pair);
        rounds++;
    }
    free(cert.text);
    free(key.text);
    CHECK(rounds > 0);
    printf("%lu rounds of 3000 calls, seed %s\n", rounds, argv[2]);
    return report();
}
