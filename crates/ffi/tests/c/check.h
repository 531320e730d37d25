/* What the C tests share: checks that end the program, and handles. */
#ifndef CHECK_H
#define CHECK_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quicprochat.h"

static int checks;

#define CHECK(condition)                                                               \
    do {                                                                               \
        if (!(condition)) {                                                            \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);     \
            exit(1);                                                                   \
        }                                                                              \
        checks++;                                                                      \
    } while (0)

/* A handle, a code, and that the message is there exactly when the code says failure. */
#define EXPECT(handle, code, call)                                                     \
    do {                                                                               \
        int32_t rc_ = (call);                                                          \
        const char *error_ = qpc_last_error(handle);                                   \
        if (rc_ != (code))                                                             \
            fprintf(stderr, "got %d: %s\n", (int)rc_, error_ ? error_ : "no message"); \
        CHECK(rc_ == (code));                                                          \
        CHECK((error_ != NULL) == ((code) != QPC_OK && (handle) != NULL));             \
    } while (0)

static inline int says(const char *text, const char *part)
{
    if (text && strstr(text, part))
        return 1;
    fprintf(stderr, "\"%s\" does not say \"%s\"\n", text ? text : "(null)", part);
    return 0;
}

static inline int threads(void)
{
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *entry; (entry = readdir(tasks)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(tasks);
    return count;
}

/* A folder of the test's own. */
static inline const char *state_dir(const char *name)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("QPC_TEST_DIR"), name);
    return path;
}

#endif
