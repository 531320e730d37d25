/* Sends a message, then prints what has come.
 *
 *   qpc_demo SERVER CA_CERT USER PASSWORD RECIPIENT [MESSAGE]     sends MESSAGE, or each line of standard input
 *   qpc_demo SERVER CA_CERT USER PASSWORD                         receives until nothing has come for two seconds
 *
 * Registers the user if the relay does not know it. */
#include <stdio.h>
#include <string.h>

#include "quicprochat.h"

static int failed(QpqHandle *h, const char *what, int32_t rc)
{
    const char *err = qpc_last_error(h);
    fprintf(stderr, "%s failed (code %d): %s\n", what, (int)rc, err ? err : "unknown");
    qpc_disconnect(h);
    return 1;
}

int main(int argc, char **argv)
{
    if (argc < 5 || argc > 7) {
        fprintf(stderr, "usage: %s SERVER CA_CERT USER PASSWORD [RECIPIENT [MESSAGE]]\n", argv[0]);
        return 2;
    }
    QpqHandle *h = qpc_connect(argv[1], argv[2], "localhost");
    if (!h) {
        fprintf(stderr, "connection failed: %s\n", qpc_last_connect_error());
        return 1;
    }
    int32_t rc = qpc_login(h, argv[3], argv[4]);
    if (rc == QPC_AUTH_FAILED)
        rc = qpc_register(h, argv[3], argv[4]);
    if (rc != QPC_OK)
        return failed(h, "login", rc);

    if (argc == 7) {
        rc = qpc_send(h, argv[5], (const uint8_t *)argv[6], strlen(argv[6]));
        if (rc != QPC_OK)
            return failed(h, "send", rc);
    } else if (argc == 6) {
        char line[49152];
        while (fgets(line, sizeof line, stdin)) {
            rc = qpc_send(h, argv[5], (const uint8_t *)line, strcspn(line, "\n"));
            if (rc != QPC_OK)
                return failed(h, "send", rc);
        }
    } else {
        char *json = NULL;
        while ((rc = qpc_receive(h, 2000, &json)) == QPC_OK) {
            printf("%s\n", json);
            qpc_free_string(json);
        }
        if (rc != QPC_TIMEOUT)
            return failed(h, "receive", rc);
    }
    qpc_disconnect(h);
    return 0;
}
