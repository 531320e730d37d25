/* Callbacks in C for the tests of the Go module. */
#include <stddef.h>

int register_all(void);
size_t allocated(void);
