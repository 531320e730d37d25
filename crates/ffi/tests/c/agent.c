/* The API through agents that really run.
 *
 *   agent RUN_DIR OTHER_RUN_DIR       of the agents of ada and bea, who have never written to each other
 *
 * QPC_TEST_RESTART is a command that ends the second agent and starts it again. Ends with the number of checks, or with
 * the first one that fails. */
#include <poll.h>
#include <unistd.h>

#include "check.h"

static QpqHandle *connected(const char *run_dir)
{
    QpqHandle *handle = qpc_connect_agent(run_dir, NULL);
    if (!handle)
        fprintf(stderr, "%s\n", qpc_last_connect_error());
    CHECK(handle != NULL);
    return handle;
}

/* The next event, as a program with a loop gets it. */
static QpcEvent *next_event(QpqHandle *handle)
{
    struct pollfd fd = {.fd = qpc_event_fd(handle), .events = POLLIN};
    CHECK(fd.fd >= 0);
    for (;;) {
        QpcEvent *event;
        int32_t rc = qpc_next_event(handle, &event);
        if (rc == QPC_OK)
            return event;
        CHECK(rc == QPC_TIMEOUT && event == NULL);
        CHECK(poll(&fd, 1, 60000) == 1);
    }
}

/* The next one of a kind; notes are passed over. */
static QpcEvent *event_of(QpqHandle *handle, int32_t kind)
{
    QpcEvent *event;
    while ((event = next_event(handle))->kind == QPC_EVENT_NOTE)
        qpc_event_free(event);
    if (event->kind != kind)
        fprintf(stderr, "event %d: %s\n", (int)event->kind, event->text ? event->text : "");
    CHECK(event->kind == kind);
    return event;
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    CHECK(qpc_connect_agent("/nonexistent", NULL) == NULL);
    CHECK(says(qpc_last_connect_error(), "no agent"));
    CHECK(qpc_connect_agent("\xff", NULL) == NULL);
    QpqHandle *ada = connected(argv[1]), *bea = connected(argv[2]);
    int before = threads();

    /* Texts. */
    char *json;
    EXPECT(bea, QPC_TIMEOUT, qpc_receive(bea, 0, &json));
    EXPECT(ada, QPC_OK, qpc_send(ada, "bea", (const uint8_t *)"hello", 5));
    EXPECT(bea, QPC_OK, qpc_receive(bea, 60000, &json));
    CHECK(strcmp(json, "[\"hello\"]") == 0);
    qpc_free_string(json);
    EXPECT(bea, QPC_TIMEOUT, qpc_receive(bea, 0, &json));
    EXPECT(ada, QPC_ERROR, qpc_send(ada, "nobody", (const uint8_t *)"x", 1));
    CHECK(says(qpc_last_error(ada), "no account named nobody"));
    EXPECT(ada, QPC_ERROR, qpc_send(ada, "bea", (const uint8_t *)"\xff", 1));

    /* Bytes, with all that belongs to them. */
    QpcSend send = {.size = sizeof send, .kind = QPC_KIND_BINARY, .body = (const uint8_t *)"a\0b", .body_len = 3};
    EXPECT(ada, QPC_OK, qpc_send_message(ada, "bea", &send));
    CHECK(send.durability == QPC_DURABLE);
    QpcMessages *messages;
    EXPECT(bea, QPC_OK, qpc_receive_messages(bea, 60000, &messages));
    CHECK(messages->count == 1);
    const QpcMessage *message = messages->messages[0];
    CHECK(strcmp(message->sender, "ada") == 0 && message->kind == QPC_KIND_BINARY);
    CHECK(message->body_len == 3 && memcmp(message->body, "a\0b", 4) == 0);
    CHECK(memcmp(message->id, send.id, sizeof send.id) == 0);
    qpc_messages_free(messages);
    send.flags = QPC_SEND_RECEIPT;
    EXPECT(ada, QPC_ERROR, qpc_send_message(ada, "bea", &send));

    /* Whom they know. */
    char *number, *same;
    EXPECT(ada, QPC_OK, qpc_safety_number(ada, "bea", &number));
    EXPECT(bea, QPC_OK, qpc_safety_number(bea, "ada", &same));
    CHECK(strcmp(number, same) == 0);
    qpc_free_string(number);
    qpc_free_string(same);
    EXPECT(ada, QPC_ERROR, qpc_accept_identity(ada, "bea"));
    QpcDevices *devices;
    EXPECT(ada, QPC_OK, qpc_devices(ada, &devices));
    CHECK(devices->count == 1 && devices->devices[0]->own == 1 && devices->devices[0]->online == 1);
    qpc_devices_free(devices);

    /* What an agent does not do for programs. */
    uint8_t device[16] = {0};
    EXPECT(ada, QPC_ERROR, qpc_login(ada, "ada", "secret"));
    CHECK(says(qpc_last_error(ada), "an agent does not do this"));
    EXPECT(ada, QPC_ERROR, qpc_register(ada, "ada", "secret"));
    EXPECT(ada, QPC_ERROR, qpc_register_with_invite(ada, "ada", "secret", "invite"));
    EXPECT(ada, QPC_ERROR, qpc_change_password(ada, "secret", "other"));
    EXPECT(ada, QPC_ERROR, qpc_revoke_device(ada, device));

    /* In a loop, over a restart of the agent. What was given and not taken yet is given again to whoever asks next. */
    QpcEvent *event = event_of(bea, QPC_EVENT_CONNECTED);
    qpc_event_free(event);
    for (int round = 0; round < 2; round++) {
        send.flags = QPC_SEND_QUEUED;
        EXPECT(ada, QPC_OK, qpc_send_message(ada, "bea", &send));
        event = event_of(bea, QPC_EVENT_MESSAGE);
        CHECK(memcmp(event->message->id, send.id, sizeof send.id) == 0);
        qpc_event_free(event);
        if (round == 0) {
            CHECK(system(getenv("QPC_TEST_RESTART")) == 0);
            event = event_of(bea, QPC_EVENT_DISCONNECTED);
            qpc_event_free(event);
            event = event_of(bea, QPC_EVENT_CONNECTED);
            qpc_event_free(event);
        }
    }
    qpc_disconnect(bea);
    bea = connected(argv[2]);
    EXPECT(bea, QPC_TIMEOUT, qpc_receive_messages(bea, 0, &messages));
    CHECK(threads() == before);
    qpc_disconnect(ada);
    qpc_disconnect(bea);
    printf("%d checks\n", checks);
    return 0;
}
