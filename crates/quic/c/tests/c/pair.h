/* Two endpoints in one program, and what goes from one to the other. */
#include "check.h"

#include <coquic/ffi/core.h>

enum { CLIENT, SERVER };

struct datagram {
    struct datagram *next;
    size_t length;
    uint8_t ecn;
    uint8_t bytes[2048];
};

/* What came out of an endpoint. */
struct seen {
    coquic_connection_handle_t connection;
    unsigned created, accepted, closed, ready, confirmed, failed;
    uint8_t *stream;
    size_t stream_length;
    uint64_t stream_id, final_size;
    unsigned fin;
    uint8_t datagram[64];
    size_t datagram_length;
    uint64_t reset_code, stop_code;
    unsigned resets, stops;
    uint8_t session[64];
    size_t session_length;
    uint8_t early;
    unsigned early_events;
    uint8_t token[256];
    size_t token_length;
    unsigned probes;
};

struct pair {
    coquic_endpoint_t *endpoint[2];
    struct datagram *to[2];
    struct seen seen[2];
    coquic_time_us_t now;
};

struct file {
    char *text;
    size_t length;
};

static inline struct file read_file(const char *folder, const char *name) {
    char path[512];
    struct file file;
    FILE *from;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    from = fopen(path, "rb");
    REQUIRE(from);
    file.text = malloc(65536);
    REQUIRE(file.text);
    file.length = fread(file.text, 1, 65536, from);
    fclose(from);
    return file;
}

static inline coquic_bytes_t bytes(const void *data, size_t length) {
    coquic_bytes_t all;
    all.data = data;
    all.length = length;
    return all;
}

/* Takes an effect: keeps a datagram for the other side, and what there is to know. */
static inline void note(struct pair *pair, int side, const coquic_effect_t *effect) {
    struct seen *seen = &pair->seen[side];
    switch (effect->kind) {
    case COQUIC_EFFECT_SEND_DATAGRAM: {
        const coquic_send_datagram_effect_t *send = &effect->as.send_datagram;
        struct datagram *datagram = malloc(sizeof *datagram), **last = &pair->to[1 - side];
        REQUIRE(datagram && send->bytes.length <= sizeof datagram->bytes);
        datagram->next = NULL;
        datagram->length = send->bytes.length;
        datagram->ecn = send->ecn;
        memcpy(datagram->bytes, send->bytes.data, send->bytes.length);
        seen->probes += send->is_pmtu_probe;
        while (*last)
            last = &(*last)->next;
        *last = datagram;
        break;
    }
    case COQUIC_EFFECT_RECEIVE_STREAM_DATA: {
        const coquic_receive_stream_data_effect_t *data = &effect->as.receive_stream_data;
        REQUIRE(data->offset == seen->stream_length);
        seen->stream = realloc(seen->stream, seen->stream_length + data->bytes.length + 1);
        REQUIRE(seen->stream);
        if (data->bytes.length)
            memcpy(seen->stream + seen->stream_length, data->bytes.data, data->bytes.length);
        seen->stream_length += data->bytes.length;
        seen->stream_id = data->stream_id;
        REQUIRE(data->fin == data->final_size.has_value);
        if (data->fin) {
            seen->fin++;
            seen->final_size = data->final_size.value;
        }
        break;
    }
    case COQUIC_EFFECT_RECEIVE_DATAGRAM_DATA:
        seen->datagram_length = effect->as.receive_datagram_data.bytes.length;
        REQUIRE(seen->datagram_length <= sizeof seen->datagram);
        memcpy(seen->datagram, effect->as.receive_datagram_data.bytes.data, seen->datagram_length);
        break;
    case COQUIC_EFFECT_PEER_RESET_STREAM:
        seen->resets++;
        seen->reset_code = effect->as.peer_reset_stream.application_error_code;
        break;
    case COQUIC_EFFECT_PEER_STOP_SENDING:
        seen->stops++;
        seen->stop_code = effect->as.peer_stop_sending.application_error_code;
        break;
    case COQUIC_EFFECT_STATE_EVENT:
        seen->ready += effect->as.state_event.change == COQUIC_STATE_CHANGE_HANDSHAKE_READY;
        seen->confirmed += effect->as.state_event.change == COQUIC_STATE_CHANGE_HANDSHAKE_CONFIRMED;
        seen->failed += effect->as.state_event.change == COQUIC_STATE_CHANGE_FAILED;
        break;
    case COQUIC_EFFECT_CONNECTION_LIFECYCLE_EVENT:
        if (effect->as.connection_lifecycle_event.event != COQUIC_LIFECYCLE_CLOSED)
            seen->connection = effect->as.connection_lifecycle_event.connection;
        seen->created += effect->as.connection_lifecycle_event.event == COQUIC_LIFECYCLE_CREATED;
        seen->accepted += effect->as.connection_lifecycle_event.event == COQUIC_LIFECYCLE_ACCEPTED;
        seen->closed += effect->as.connection_lifecycle_event.event == COQUIC_LIFECYCLE_CLOSED;
        break;
    case COQUIC_EFFECT_RESUMPTION_STATE_AVAILABLE:
        seen->session_length = effect->as.resumption_state_available.serialized.length;
        REQUIRE(seen->session_length <= sizeof seen->session);
        memcpy(seen->session, effect->as.resumption_state_available.serialized.data, seen->session_length);
        break;
    case COQUIC_EFFECT_ZERO_RTT_STATUS_EVENT:
        seen->early = effect->as.zero_rtt_status_event.status;
        seen->early_events++;
        break;
    case COQUIC_EFFECT_NEW_TOKEN_AVAILABLE:
        seen->token_length = effect->as.new_token_available.token.length;
        REQUIRE(seen->token_length <= sizeof seen->token);
        memcpy(seen->token, effect->as.new_token_available.token.data, seen->token_length);
        break;
    default:
        REQUIRE(!"an effect that is not given");
    }
}

/* Takes what a call gave, and gives it back. */
static inline void take(struct pair *pair, int side, coquic_result_t *result) {
    size_t count = coquic_result_effect_count(result), at;
    for (at = 0; at < count; at++) {
        coquic_effect_t effect;
        REQUIRE(coquic_result_effect_at(result, at, &effect) == COQUIC_STATUS_OK);
        note(pair, side, &effect);
    }
    coquic_result_destroy(result);
}

static inline coquic_result_t *input(struct pair *pair, int side, const void *data, size_t length, uint8_t ecn) {
    static const uint8_t address[7] = {4, 192, 0, 2, 1, 17, 92};
    coquic_inbound_datagram_t in;
    coquic_result_t *result;
    memset(&in, 0, sizeof in);
    in.size = sizeof in;
    in.bytes = bytes(data, length);
    in.route_handle.has_value = 1;
    in.route_handle.value = 1;
    in.address_validation_identity = bytes(address, sizeof address);
    in.ecn = ecn;
    REQUIRE(coquic_endpoint_input_datagram(pair->endpoint[side], &in, pair->now, &result) == COQUIC_STATUS_OK);
    return result;
}

/* Delivers the next datagram to a side; NULL if there is none. */
static inline coquic_result_t *deliver(struct pair *pair, int side) {
    struct datagram *datagram = pair->to[side];
    coquic_result_t *result;
    if (!datagram)
        return NULL;
    pair->to[side] = datagram->next;
    result = input(pair, side, datagram->bytes, datagram->length, datagram->ecn);
    free(datagram);
    return result;
}

/* Delivers what there is, in turns, and lets timers expire within so many microseconds. */
static inline void run(struct pair *pair, coquic_time_us_t time) {
    coquic_time_us_t end = pair->now + time;
    for (;;) {
        int side, idle = 1;
        for (side = 0; side < 2; side++) {
            coquic_result_t *result = deliver(pair, side);
            if (result) {
                take(pair, side, result);
                idle = 0;
            }
        }
        if (!idle)
            continue;
        {
            coquic_optional_time_us_t due = coquic_endpoint_next_wakeup(pair->endpoint[0]);
            coquic_optional_time_us_t other = coquic_endpoint_next_wakeup(pair->endpoint[1]);
            coquic_result_t *result;
            side = !due.has_value || (other.has_value && other.value < due.value);
            if (side)
                due = other;
            if (!due.has_value || due.value > end)
                break;
            if (due.value > pair->now)
                pair->now = due.value;
            REQUIRE(coquic_endpoint_timer_expired(pair->endpoint[side], pair->now, &result) == COQUIC_STATUS_OK);
            take(pair, side, result);
        }
    }
    pair->now = end;
}

static inline void end_pair(struct pair *pair) {
    int side;
    for (side = 0; side < 2; side++) {
        coquic_endpoint_destroy(pair->endpoint[side]);
        free(pair->seen[side].stream);
        while (pair->to[side]) {
            struct datagram *next = pair->to[side]->next;
            free(pair->to[side]);
            pair->to[side] = next;
        }
    }
}
