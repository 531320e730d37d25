/* Random values, the same for the same seed. */
#include "pair.h"

static uint64_t state;

static inline uint64_t any(void) {
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline uint64_t below(uint64_t n) { return any() % n; }

/* A number that is often small, sometimes at an edge. */
static inline uint64_t number(void) {
    static const uint64_t edges[] = {0, 1, 3, 0x3fffffffffffffff, 0x4000000000000000, UINT64_MAX};
    return below(4) ? below(20) : edges[below(6)];
}

static inline coquic_bytes_t some(void) {
    static uint8_t room[70000];
    size_t length = below(8) ? below(1500) : below(sizeof room);
    room[below(sizeof room)] = (uint8_t)any();
    return below(20) ? bytes(room, length) : bytes(NULL, below(2));
}
