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

/* Peers by route: what the endpoint calls a path is the place in this table. */
enum { ROUTES = 256 };
static struct sockaddr_in routes[ROUTES];
static unsigned next_route;

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

/* The oldest peer is forgotten when there is no room; if it still speaks, it gets a new route. */
static inline unsigned route_of(const struct sockaddr_in *peer) {
    unsigned at;
    for (at = 0; at < ROUTES; at++)
        if (routes[at].sin_port == peer->sin_port && routes[at].sin_addr.s_addr == peer->sin_addr.s_addr)
            return at;
    at = next_route;
    next_route = (next_route + 1) % ROUTES;
    routes[at] = *peer;
    return at;
}

/* Sends what a result wants to be sent. A datagram that the system does not take is lost, which QUIC expects of datagrams. */
static inline void send_datagrams(const coquic_result_t *result) {
    coquic_effect_t effect;
    size_t at;
    for (at = 0; coquic_result_effect_at(result, at, &effect) == COQUIC_STATUS_OK; at++) {
        const coquic_send_datagram_effect_t *send = &effect.as.send_datagram;
        if (effect.kind == COQUIC_EFFECT_SEND_DATAGRAM && send->route_handle.has_value)
            (void)!sendto(udp, send->bytes.data, send->bytes.length, 0,
                (const struct sockaddr *)&routes[send->route_handle.value % ROUTES], sizeof routes[0]);
    }
}

/* Waits for a datagram or the endpoint's time, and hands either in. */
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
    if (poll(&waiting, 1, timeout) > 0) {
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
