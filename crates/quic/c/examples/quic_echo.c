/* QUIC in a poll loop: the server sends back what it gets, the client sends one message and prints the answer.
 *
 *   quic_echo server PORT CERT.pem KEY.pem     serves until it is killed; PORT 0: any, which is printed
 *   quic_echo client PORT MESSAGE              to 127.0.0.1, whose certificate $SSL_CERT_FILE names
 *
 * cc quic_echo.c $(pkg-config --cflags --libs coquic_quinn) */
#define _POSIX_C_SOURCE 200809L
#include <coquic/ffi/core.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* A route is an IPv4 address and a port, which fit into its number. */
#define ROUTE(address) ((uint64_t)(address).sin_addr.s_addr << 16 | (address).sin_port)

static int udp;
static coquic_endpoint_t *endpoint;
static int is_server, done, failed;
static const char *message;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static coquic_time_us_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (coquic_time_us_t)time.tv_sec * 1000000 + (coquic_time_us_t)(time.tv_nsec / 1000);
}

static coquic_bytes_t bytes(const void *data, size_t length) {
    coquic_bytes_t all = {data, length};
    return all;
}

static void handle(coquic_status_t status, coquic_result_t *result);

static void handle_effect(const coquic_effect_t *effect) {
    coquic_result_t *result;
    coquic_status_t status;
    switch (effect->kind) {
    case COQUIC_EFFECT_SEND_DATAGRAM: {
        const coquic_send_datagram_effect_t *send = &effect->as.send_datagram;
        struct sockaddr_in to;
        memset(&to, 0, sizeof to);
        to.sin_family = AF_INET;
        to.sin_addr.s_addr = (in_addr_t)(send->route_handle.value >> 16);
        to.sin_port = (in_port_t)send->route_handle.value;
        /* What is not sent now is lost, as on any network. */
        (void)sendto(udp, send->bytes.data, send->bytes.length, 0, (struct sockaddr *)&to, sizeof to);
        break;
    }
    case COQUIC_EFFECT_RECEIVE_STREAM_DATA: {
        const coquic_receive_stream_data_effect_t *data = &effect->as.receive_stream_data;
        if (is_server) {
            status = coquic_quic_stream_send(endpoint, data->connection, data->stream_id,
                                             bytes(data->bytes.data, data->bytes.length), data->fin, now(), &result);
            handle(status, result);
        } else {
            fwrite(data->bytes.data, 1, data->bytes.length, stdout);
            if (data->fin) {
                coquic_close_connection_t close = {sizeof close, 0, "done", 4};
                done = 1;
                status = coquic_connection_close(endpoint, data->connection, &close, now(), &result);
                handle(status, result);
            }
        }
        break;
    }
    case COQUIC_EFFECT_STATE_EVENT:
        if (effect->as.state_event.change == COQUIC_STATE_CHANGE_HANDSHAKE_READY && !is_server) {
            status = coquic_quic_stream_send(endpoint, effect->as.state_event.connection, 0,
                                             bytes(message, strlen(message)), 1, now(), &result);
            handle(status, result);
        }
        failed |= effect->as.state_event.change == COQUIC_STATE_CHANGE_FAILED;
        break;
    }
}

static void handle(coquic_status_t status, coquic_result_t *result) {
    size_t at;
    if (status != COQUIC_STATUS_OK) {
        fprintf(stderr, "status %d\n", status);
        exit(1);
    }
    for (at = 0; at < coquic_result_effect_count(result); at++) {
        coquic_effect_t effect;
        if (coquic_result_effect_at(result, at, &effect) == COQUIC_STATUS_OK)
            handle_effect(&effect);
    }
    coquic_result_destroy(result);
}

static void receive(void) {
    static uint8_t buffer[65536];
    struct sockaddr_in from;
    socklen_t length = sizeof from;
    ssize_t count = recvfrom(udp, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &length);
    uint8_t identity[7] = {4};
    coquic_inbound_datagram_t datagram;
    coquic_result_t *result;
    coquic_status_t status;
    if (count < 0)
        return;
    memcpy(identity + 1, &from.sin_addr, 4);
    memcpy(identity + 5, &from.sin_port, 2);
    memset(&datagram, 0, sizeof datagram);
    datagram.size = sizeof datagram;
    datagram.bytes = bytes(buffer, (size_t)count);
    datagram.route_handle.has_value = 1;
    datagram.route_handle.value = ROUTE(from);
    datagram.address_validation_identity = bytes(identity, sizeof identity);
    status = coquic_endpoint_input_datagram(endpoint, &datagram, now(), &result);
    handle(status, result);
}

static size_t read_file(const char *name, char *into, size_t room) {
    FILE *from = fopen(name, "rb");
    size_t length;
    if (!from)
        fail(name);
    length = fread(into, 1, room, from);
    fclose(from);
    return length;
}

int main(int argc, char **argv) {
    static char cert[65536], key[65536];
    coquic_endpoint_config_t config;
    coquic_tls_identity_t identity;
    struct sockaddr_in address;
    socklen_t length = sizeof address;

    is_server = argc == 5 && !strcmp(argv[1], "server");
    if (!is_server && !(argc == 4 && !strcmp(argv[1], "client"))) {
        fprintf(stderr, "usage: quic_echo server PORT CERT.pem KEY.pem | quic_echo client PORT MESSAGE\n");
        return 2;
    }
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = is_server ? htons((uint16_t)atoi(argv[2])) : 0;
    udp = socket(AF_INET, SOCK_DGRAM, 0);
    if (udp < 0 || bind(udp, (struct sockaddr *)&address, sizeof address) < 0 ||
        getsockname(udp, (struct sockaddr *)&address, &length) < 0)
        fail("socket");

    coquic_endpoint_config_init(&config);
    config.transport.max_idle_timeout = 10000;
    if (is_server) {
        identity.certificate_pem = cert;
        identity.certificate_pem_length = read_file(argv[3], cert, sizeof cert);
        identity.private_key_pem = key;
        identity.private_key_pem_length = read_file(argv[4], key, sizeof key);
        config.role = COQUIC_ROLE_SERVER;
        config.identity = &identity;
    }
    if (coquic_endpoint_create(&config, &endpoint) != COQUIC_STATUS_OK) {
        fprintf(stderr, "no endpoint: is there a certificate, and does $SSL_CERT_FILE name one?\n");
        return 1;
    }
    if (is_server) {
        printf("%d\n", ntohs(address.sin_port));
        fflush(stdout);
    } else {
        coquic_open_connection_t open;
        coquic_result_t *result;
        coquic_status_t status;
        message = argv[3];
        address.sin_port = htons((uint16_t)atoi(argv[2]));
        memset(&open, 0, sizeof open);
        open.size = sizeof open;
        coquic_client_connection_config_init(&open.connection);
        open.initial_route_handle = ROUTE(address);
        status = coquic_endpoint_open_connection(endpoint, &open, now(), &result);
        handle(status, result);
    }

    while (!done && !(failed && !is_server)) {
        struct pollfd wait = {udp, POLLIN, 0};
        coquic_optional_time_us_t wakeup = coquic_endpoint_next_wakeup(endpoint);
        coquic_time_us_t time = now();
        int timeout = -1;
        if (wakeup.has_value)
            timeout = wakeup.value <= time ? 0 : (int)((wakeup.value - time + 999) / 1000);
        if (poll(&wait, 1, timeout) > 0)
            receive();
        if (wakeup.has_value && wakeup.value <= now()) {
            coquic_result_t *result;
            coquic_status_t status = coquic_endpoint_timer_expired(endpoint, now(), &result);
            handle(status, result);
        }
    }
    if (done)
        printf("\n");
    coquic_endpoint_destroy(endpoint);
    close(udp);
    return !done;
}
