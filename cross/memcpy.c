/*
 * memcpy for static programs. zig's musl has none; zig's own takes 1.8 instructions a byte on MIPS, since it never uses
 * the alignment of its arguments. This one takes 0.7 (1.2 if misaligned), which is a tenth of an OPAQUE login: Argon2
 * copies its memory a block at a time. Dynamic programs use the router's libc.
 */
#include <stddef.h>
#include <stdint.h>

typedef uint32_t __attribute__((may_alias)) word;                          /* aligned, of any type */
typedef struct { uint32_t w; } __attribute__((packed, may_alias)) loose;   /* at any address */

void *memcpy(void *restrict to, const void *restrict from, size_t n) {
    unsigned char *d = to;
    const unsigned char *s = from;
    if (n >= 16) {
        for (; (uintptr_t)d % 4; n--) *d++ = *s++;
        if ((uintptr_t)s % 4 == 0) {
            for (; n >= 32; n -= 32, d += 32, s += 32) {
                word *x = (word *)d;
                const word *y = (const word *)s;
                word a = y[0], b = y[1], c = y[2], e = y[3], f = y[4], g = y[5], h = y[6], i = y[7];
                x[0] = a, x[1] = b, x[2] = c, x[3] = e, x[4] = f, x[5] = g, x[6] = h, x[7] = i;
            }
        } else {
            for (; n >= 16; n -= 16, d += 16, s += 16) {
                word *x = (word *)d;
                const loose *y = (const loose *)s;
                word a = y[0].w, b = y[1].w, c = y[2].w, e = y[3].w;
                x[0] = a, x[1] = b, x[2] = c, x[3] = e;
            }
        }
    }
    for (; n >= 4; n -= 4, d += 4, s += 4) ((loose *)d)->w = ((const loose *)s)->w;
    while (n--) *d++ = *s++;
    return to;
}
