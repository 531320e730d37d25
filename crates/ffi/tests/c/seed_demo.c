#include <stdio.h>
#include <string.h>

/* Link with: -lquicprochat_ffi -lpthread -ldl -lm */

typedef struct QpqHandle QpqHandle;

extern QpqHandle *qpc_connect(const char *, const char *, const char *);
extern int qpc_login(QpqHandle *, const char *, const char *);
extern int qpc_send(QpqHandle *, const char *, const unsigned char *, unsigned long);
extern int qpc_receive(QpqHandle *, unsigned int, char **);
extern void qpc_disconnect(QpqHandle *);
extern const char *qpc_last_error(const QpqHandle *);
extern void qpc_free_string(char *);

#define QPC_OK 0

int main(void) {
    QpqHandle *h = qpc_connect("127.0.0.1:7000", "server-cert.der", "localhost");
    if (!h) {
        fprintf(stderr, "connection failed\n");
        return 1;
    }

    if (qpc_login(h, "alice", "secret") != QPC_OK) {
        fprintf(stderr, "login failed: %s\n", qpc_last_error(h));
        qpc_disconnect(h);
        return 1;
    }

    /* Send a message */
    const char *msg = "hello from C";
    if (qpc_send(h, "bob", (const unsigned char *)msg, strlen(msg)) != QPC_OK) {
        fprintf(stderr, "send failed: %s\n", qpc_last_error(h));
    }

    /* Receive messages (5 second timeout) */
    char *json = NULL;
    int rc = qpc_receive(h, 5000, &json);
    if (rc == QPC_OK && json) {
        printf("received: %s\n", json);
        qpc_free_string(json);
    }

    qpc_disconnect(h);
    return 0;
}
