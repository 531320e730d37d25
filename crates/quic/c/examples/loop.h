/* What the HTTP/3 examples share: a UDP socket, the time, and what an endpoint wants to be sent. */
#include <arpa/inet.h>
#include <coquic/ffi/http3.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int udp;
static coquic_endpoint_t *endpoint;

static inline void need(int condition, const char *what) {
    if (!condition) {
        perror(what);
        exit(1);
    }
}

static inline coquic_time_us_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (coquic_time_us_t)time.tv_sec * 1000000 + (coquic_time_us_t)time.tv_nsec / 1000;
}

/* A route is an IPv4 address and a port, which fit into its number: strangers cannot fill a table. */
static inline coquic_route_handle_t route_of(const struct sockaddr_in *peer) {
    return (coquic_route_handle_t)peer->sin_addr.s_addr << 16 | peer->sin_port;
}

static inline struct sockaddr_in peer_of(coquic_route_handle_t route) {
    struct sockaddr_in peer;
    memset(&peer, 0, sizeof peer);
    peer.sin_family = AF_INET;
    peer.sin_addr.s_addr = (in_addr_t)(route >> 16);
    peer.sin_port = (in_port_t)route;
    return peer;
}

/* Sends what a result wants to be sent. A datagram that the system does not take is lost, which QUIC expects of datagrams. */
static inline void send_datagrams(const coquic_result_t *result) {
    coquic_effect_t effect;
    size_t at;
    for (at = 0; coquic_result_effect_at(result, at, &effect) == COQUIC_STATUS_OK; at++) {
        const coquic_send_datagram_effect_t *send = &effect.as.send_datagram;
        if (effect.kind == COQUIC_EFFECT_SEND_DATAGRAM && send->route_handle.has_value) {
            struct sockaddr_in peer = peer_of(send->route_handle.value);
            (void)!sendto(udp, send->bytes.data, send->bytes.length, 0, (const struct sockaddr *)&peer, sizeof peer);
        }
    }
}

/* Waits for a datagram or the endpoint's time, and hands either in. What is due goes first: datagrams may keep coming. */
static inline coquic_result_t *wait_for_result(void) {
    coquic_optional_time_us_t due = coquic_endpoint_next_wakeup(endpoint);
    struct pollfd waiting = {.fd = udp, .events = POLLIN};
    coquic_result_t *result = NULL;
    int timeout = -1;
    if (due.has_value) {
        coquic_time_us_t time = now();
        coquic_time_us_t left = due.value > time ? (due.value - time + 999) / 1000 : 0;
        timeout = left > 60000 ? 60000 : (int)left;
    }
    if (poll(&waiting, 1, timeout) > 0 && !(due.has_value && due.value <= now())) {
        static uint8_t bytes[65536];
        struct sockaddr_in peer;
        socklen_t length = sizeof peer;
        ssize_t count = recvfrom(udp, bytes, sizeof bytes, MSG_DONTWAIT, (struct sockaddr *)&peer, &length);
        if (count > 0) {
            uint8_t identity[7] = {4};
            coquic_inbound_datagram_t in;
            memcpy(identity + 1, &peer.sin_addr, 4);
            memcpy(identity + 5, &peer.sin_port, 2);
            memset(&in, 0, sizeof in);
            in.size = sizeof in;
            in.bytes.data = bytes;
            in.bytes.length = (size_t)count;
            in.route_handle.has_value = 1;
            in.route_handle.value = route_of(&peer);
            in.address_validation_identity.data = identity;
            in.address_validation_identity.length = sizeof identity;
            need(coquic_endpoint_input_datagram(endpoint, &in, now(), &result) == COQUIC_STATUS_OK, "input");
            return result;
        }
    }
    need(coquic_endpoint_timer_expired(endpoint, now(), &result) == COQUIC_STATUS_OK, "timer");
    return result;
}
