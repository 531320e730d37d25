/* What the C tests share. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned long checks;

/* For what is looked at once; it is counted. */
#define CHECK(condition) (checks++, REQUIRE(condition))

/* For loops and threads. */
#define REQUIRE(condition) \
    ((condition) ? (void)0 : (fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition), exit(1)))

static inline int report(void) {
    printf("%lu checks passed\n", checks);
    return 0;
}
