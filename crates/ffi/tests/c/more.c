/* What quicprochat.h has beyond the seed page, against a relay that really runs.
 *
 *   more ADDRESS              registers ada and bea there
 *
 * Ends with the number of checks, or with the first one that fails. */
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

static const char *address;

static QpcOptions *options_in(const char *state)
{
    QpcOptions *options = qpc_options_new();
    CHECK(options != NULL);
    CHECK(qpc_options_set_state_dir(options, state_dir(state)) == QPC_OK);
    CHECK(qpc_options_set_key_file(options, 1) == QPC_OK);
    return options;
}

static QpqHandle *connected(const char *state)
{
    QpcOptions *options = options_in(state);
    QpqHandle *handle = qpc_connect_address(address, options);
    qpc_options_free(options);
    if (!handle)
        fprintf(stderr, "%s\n", qpc_last_connect_error());
    CHECK(handle != NULL);
    return handle;
}

/* The key file of an earlier login. */
static QpqHandle *opened(const char *state, const char *user)
{
    QpcOptions *options = options_in(state);
    QpqHandle *handle = qpc_open(address, user, options);
    qpc_options_free(options);
    if (!handle)
        fprintf(stderr, "%s\n", qpc_last_connect_error());
    CHECK(handle != NULL);
    return handle;
}

/* Another handle that goes on meanwhile. */
static QpqHandle *beside;

/* Until nothing more happens now. */
static void drain(QpqHandle *handle)
{
    QpcEvent *event;
    int32_t rc;
    while ((rc = qpc_next_event(handle, &event)) == QPC_OK)
        qpc_event_free(event);
    CHECK(rc == QPC_TIMEOUT);
}

/* The next event of one kind or the other, as a program with a loop gets it; other kinds are passed over. */
static QpcEvent *event_of_two(QpqHandle *handle, int32_t kind, int32_t other)
{
    struct pollfd fds[] = {{.fd = qpc_event_fd(handle), .events = POLLIN},
                           {.fd = beside ? qpc_event_fd(beside) : -1, .events = POLLIN}};
    CHECK(fds[0].fd >= 0);
    for (;;) {
        if (beside)
            drain(beside);
        QpcEvent *event;
        int32_t rc = qpc_next_event(handle, &event);
        if (rc == QPC_OK) {
            CHECK(event->size >= sizeof *event && event->kind > 0);
            if (event->kind == kind || event->kind == other)
                return event;
            qpc_event_free(event);
            continue;
        }
        if (rc != QPC_TIMEOUT)
            fprintf(stderr, "got %d: %s\n", (int)rc, qpc_last_error(handle));
        CHECK(rc == QPC_TIMEOUT && event == NULL);
        if (poll(fds, 2, 60000) <= 0) {
            fprintf(stderr, "no event of kind %d came\n", (int)kind);
            exit(1);
        }
    }
}

static QpcEvent *event_of(QpqHandle *handle, int32_t kind)
{
    return event_of_two(handle, kind, kind);
}

static void skip_to(QpqHandle *handle, int32_t kind)
{
    qpc_event_free(event_of(handle, kind));
}

static void options(void)
{
    CHECK(qpc_abi_version() == QPC_ABI_VERSION);
    QpcOptions *o = qpc_options_new();
    CHECK(qpc_options_set_state_dir(NULL, "/tmp") == QPC_ERROR);
    CHECK(qpc_options_set_state_dir(o, NULL) == QPC_ERROR);
    CHECK(qpc_options_set_state_dir(o, "") == QPC_ERROR);
    CHECK(qpc_options_set_state_dir(o, "\xff") == QPC_ERROR);
    CHECK(qpc_options_set_device_label(o, "\xff") == QPC_ERROR);
    CHECK(qpc_options_set_device_label(o, "kitchen") == QPC_OK);
    CHECK(qpc_options_set_key_file(o, 2) == QPC_ERROR);
    CHECK(qpc_options_set_receipts(o, -1) == QPC_ERROR);
    CHECK(qpc_options_set_receipts(NULL, 1) == QPC_ERROR);
    CHECK(qpc_options_set_timeout(o, 99) == QPC_ERROR);
    CHECK(qpc_options_set_timeout(o, 600001) == QPC_ERROR);
    CHECK(qpc_options_set_timeout(o, 600000) == QPC_OK);
    CHECK(qpc_options_set_keep_alive(o, 0) == QPC_ERROR);
    CHECK(qpc_options_set_keep_alive(o, 61) == QPC_ERROR);
    CHECK(qpc_options_set_keep_alive(o, 60) == QPC_OK);
    CHECK(qpc_options_set_log(NULL, NULL, NULL) == QPC_ERROR);
    CHECK(qpc_options_set_log(o, NULL, NULL) == QPC_OK);
    CHECK(qpc_options_set_state_dir(o, state_dir("nobody")) == QPC_OK);

    CHECK(qpc_connect_address(NULL, o) == NULL);
    CHECK(says(qpc_last_connect_error(), "address is NULL"));
    CHECK(qpc_connect_address("127.0.0.1:7000", o) == NULL);
    CHECK(qpc_last_connect_error() != NULL);
    CHECK(qpc_open(address, NULL, o) == NULL);
    CHECK(says(qpc_last_connect_error(), "username is NULL"));
    CHECK(qpc_open(address, "ada", o) == NULL);
    CHECK(says(qpc_last_connect_error(), "key file"));
    qpc_options_free(o);
    qpc_options_free(NULL);
    qpc_messages_free(NULL);
    qpc_devices_free(NULL);
    qpc_event_free(NULL);
    CHECK(qpc_event_fd(NULL) == -1);
}

/* Bytes go through as they are, and come with all that belongs to them. */
static void messages(void)
{
    QpqHandle *ada = connected("ada"), *bea = connected("bea");
    QpcSend send = {.size = sizeof send, .kind = QPC_KIND_TEXT, .body = (const uint8_t *)"hi", .body_len = 2};
    QpcMessages *got = (QpcMessages *)1;
    QpcEvent *event = (QpcEvent *)1;
    uint8_t id[16];
    EXPECT(ada, QPC_NOT_CONNECTED, qpc_send_message(ada, "bea", &send));
    EXPECT(ada, QPC_NOT_CONNECTED, qpc_send_bytes(ada, "bea", id, 16, NULL));
    EXPECT(ada, QPC_NOT_CONNECTED, qpc_receive_messages(ada, 0, &got));
    EXPECT(ada, QPC_NOT_CONNECTED, qpc_next_event(ada, &event));
    CHECK(got == NULL && event == NULL);
    EXPECT(ada, QPC_OK, qpc_register(ada, "ada", "secret"));
    EXPECT(bea, QPC_OK, qpc_register(bea, "bea", "secret"));

    uint8_t body[300];
    for (size_t i = 0; i < sizeof body; i++)
        body[i] = (uint8_t)i;
    time_t before = time(NULL);
    EXPECT(ada, QPC_OK, qpc_send_bytes(ada, "bea", body, sizeof body, id));
    EXPECT(ada, QPC_OK, qpc_send_bytes(ada, "bea", body, 0, NULL));
    EXPECT(ada, QPC_OK, qpc_send_message(ada, "bea", &send));
    CHECK(send.durability == QPC_DURABLE);
    EXPECT(ada, QPC_ERROR, qpc_send_message(ada, "bea", NULL));
    EXPECT(ada, QPC_ERROR, qpc_send_message(ada, NULL, &send));
    EXPECT(ada, QPC_ERROR, qpc_send_bytes(ada, "bea", NULL, 0, NULL));
    for (size_t size = 0; size <= sizeof send + 8; size += 4) {
        QpcSend wrong = send;
        wrong.size = size;
        if (size != sizeof send)
            EXPECT(ada, QPC_ERROR, qpc_send_message(ada, "bea", &wrong));
    }
    QpcSend wrong = send;
    wrong.kind = QPC_KIND_RECEIPT;
    EXPECT(ada, QPC_ERROR, qpc_send_message(ada, "bea", &wrong));
    wrong = send, wrong.flags = 4;
    EXPECT(ada, QPC_ERROR, qpc_send_message(ada, "bea", &wrong));
    wrong = send, wrong.body = (const uint8_t *)"\xff";
    EXPECT(ada, QPC_ERROR, qpc_send_message(ada, "bea", &wrong));
    wrong = send, wrong.body_len = SIZE_MAX;
    EXPECT(ada, QPC_ERROR, qpc_send_message(ada, "bea", &wrong));

    size_t seen = 0;
    while (seen < 3) {
        EXPECT(bea, QPC_OK, qpc_receive_messages(bea, 60000, &got));
        CHECK(got->size >= sizeof *got && got->count > 0);
        for (size_t i = 0; i < got->count; i++, seen++) {
            const QpcMessage *m = got->messages[i];
            CHECK(m->size >= sizeof *m && strcmp(m->sender, "ada") == 0 && m->body[m->body_len] == 0);
            CHECK(m->durability == QPC_DURABLE && m->sender_time + 60 > (uint64_t)before);
            CHECK(m->kind == (seen == 2 ? QPC_KIND_TEXT : QPC_KIND_BINARY));
            CHECK(m->body_len == (seen == 0 ? sizeof body : seen == 1 ? 0 : 2));
            CHECK(seen != 0 || (memcmp(m->body, body, sizeof body) == 0 && memcmp(m->id, id, 16) == 0));
            CHECK(seen != 2 || memcmp(m->id, send.id, 16) == 0);
        }
        qpc_messages_free(got);
    }
    EXPECT(bea, QPC_ERROR, qpc_receive_messages(bea, 0, NULL));
    EXPECT(bea, QPC_TIMEOUT, qpc_receive_messages(bea, 0, &got));
    EXPECT(bea, QPC_ERROR, qpc_next_event(bea, NULL));

    char *number[2];
    EXPECT(ada, QPC_ERROR, qpc_safety_number(ada, "bea", NULL));
    EXPECT(ada, QPC_ERROR, qpc_safety_number(ada, "cleo", &number[0]));
    CHECK(number[0] == NULL);
    EXPECT(ada, QPC_OK, qpc_safety_number(ada, "bea", &number[0]));
    EXPECT(bea, QPC_OK, qpc_safety_number(bea, "ada", &number[1]));
    CHECK(strcmp(number[0], number[1]) == 0 && strlen(number[0]) == 12 * 6 - 1);
    qpc_free_string(number[0]);
    qpc_free_string(number[1]);
    EXPECT(ada, QPC_ERROR, qpc_accept_identity(ada, "bea"));
    qpc_disconnect(ada);
    qpc_disconnect(bea);
}

/* Nothing waits but poll(2): two handles in one thread. */
static void events(void)
{
    QpqHandle *ada = opened("ada", "ada"), *bea = opened("bea", "bea");
    /* Readable from the first, and quiet once there is nothing to do. */
    struct pollfd fd = {.fd = qpc_event_fd(bea), .events = POLLIN};
    CHECK(poll(&fd, 1, 0) == 1);
    CHECK(qpc_event_fd(bea) == fd.fd);
    skip_to(bea, QPC_EVENT_CONNECTED);

    QpcSend send = {.size = sizeof send, .kind = QPC_KIND_TEXT, .body = (const uint8_t *)"hi", .body_len = 2,
                    .flags = QPC_SEND_QUEUED | QPC_SEND_RECEIPT};
    EXPECT(ada, QPC_OK, qpc_send_message(ada, "bea", &send));
    EXPECT(ada, QPC_OK, qpc_send_message(ada, "nobody", &send));
    uint8_t lost[16], id[16];
    memcpy(lost, send.id, 16);
    EXPECT(ada, QPC_OK, qpc_send_message(ada, "bea", &send));
    memcpy(id, send.id, 16);
    EXPECT(ada, QPC_ERROR, qpc_send_message(ada, "ada", &send));
    skip_to(ada, QPC_EVENT_CONNECTED);
    QpcEvent *event;
    for (int i = 0, was_sent = 0; i < 3; i++) {
        event = event_of_two(ada, QPC_EVENT_SENT, QPC_EVENT_NOT_SENT);
        if (event->kind == QPC_EVENT_NOT_SENT) {
            CHECK(strcmp(event->user, "nobody") == 0 && says(event->text, "nobody"));
            CHECK(memcmp(event->id, lost, 16) == 0);
        } else {
            CHECK(strcmp(event->user, "bea") == 0 && event->durability == QPC_DURABLE);
            CHECK(memcmp(event->id, id, 16) == 0 || was_sent++ == 0);
        }
        qpc_event_free(event);
    }

    skip_to(bea, QPC_EVENT_MESSAGE);
    event = event_of(bea, QPC_EVENT_MESSAGE);
    CHECK(strcmp(event->message->sender, "ada") == 0 && strcmp((const char *)event->message->body, "hi") == 0);
    CHECK(memcmp(event->message->id, id, 16) == 0);
    uint8_t conversation[16];
    memcpy(conversation, event->message->conversation, 16);
    /* It is good without the handle's next call, and without the handle. */
    QpcEvent *kept = event;

    beside = bea;
    skip_to(ada, QPC_EVENT_RECEIPT);
    event = event_of(ada, QPC_EVENT_RECEIPT);
    beside = NULL;
    CHECK(strcmp(event->user, "bea") == 0 && memcmp(event->id, id, 16) == 0 && event->message == NULL);
    CHECK(memcmp(event->conversation, conversation, 16) == 0);
    CHECK(memcmp(event->device, (uint8_t[16]){0}, 16) != 0);
    qpc_event_free(event);

    /* Calls that wait may be mixed in: nothing is lost, and what they leave to tell makes the descriptor readable. */
    drain(ada);
    EXPECT(bea, QPC_OK, qpc_send(bea, "ada", (const uint8_t *)"one", 3));
    EXPECT(bea, QPC_OK, qpc_send(bea, "ada", (const uint8_t *)"two", 3));
    for (const char *const *text = (const char *const[]){"one", "two", NULL}; *text; text++) {
        if (**text == 't')
            EXPECT(ada, QPC_OK, qpc_send(ada, "bea", (const uint8_t *)"three", 5));
        event = event_of(ada, QPC_EVENT_MESSAGE);
        CHECK(strcmp((const char *)event->message->body, *text) == 0);
        qpc_event_free(event);
    }
    QpcMessages *got;
    EXPECT(bea, QPC_OK, qpc_receive_messages(bea, 60000, &got));
    CHECK(got->count == 1 && strcmp((const char *)got->messages[0]->body, "three") == 0);
    qpc_messages_free(got);

    /* A message that was told of and not taken comes again; one that was taken does not. */
    EXPECT(ada, QPC_OK, qpc_send(ada, "bea", (const uint8_t *)"last", 4));
    skip_to(bea, QPC_EVENT_MESSAGE);
    drain(bea);
    qpc_disconnect(bea);
    CHECK(strcmp((const char *)kept->message->body, "hi") == 0);
    qpc_event_free(kept);
    bea = opened("bea", "bea");
    EXPECT(bea, QPC_TIMEOUT, qpc_receive_messages(bea, 500, &got));
    qpc_disconnect(bea);
    qpc_disconnect(ada);
    CHECK(threads() == 1);
}

static void devices_and_password(void)
{
    QpqHandle *ada = opened("ada", "ada");
    QpcDevices *devices;
    EXPECT(ada, QPC_ERROR, qpc_devices(ada, NULL));
    EXPECT(ada, QPC_OK, qpc_devices(ada, &devices));
    CHECK(devices->size >= sizeof *devices && devices->count == 1 && devices->devices[0]->own == 1);
    CHECK(devices->devices[0]->size >= sizeof(QpcDevice) && devices->devices[0]->online == 1);
    qpc_devices_free(devices);
    drain(ada);

    QpcOptions *o = options_in("ada-phone");
    CHECK(qpc_options_set_device_label(o, "phone") == QPC_OK);
    QpqHandle *phone = qpc_connect_address(address, o);
    qpc_options_free(o);
    EXPECT(phone, QPC_OK, qpc_login(phone, "ada", "secret"));
    QpcEvent *event = event_of(ada, QPC_EVENT_OWN_DEVICE_ADDED);
    uint8_t id[16];
    memcpy(id, event->device, 16);
    qpc_event_free(event);
    EXPECT(ada, QPC_OK, qpc_devices(ada, &devices));
    CHECK(devices->count == 2);
    for (size_t i = 0; i < 2; i++) {
        const QpcDevice *device = devices->devices[i];
        CHECK(device->own == !strcmp(device->label, "") && (memcmp(device->id, id, 16) == 0) == !device->own);
    }
    qpc_devices_free(devices);

    EXPECT(ada, QPC_ERROR, qpc_change_password(ada, NULL, "new"));
    EXPECT(ada, QPC_ERROR, qpc_change_password(ada, "secret", ""));
    EXPECT(ada, QPC_AUTH_FAILED, qpc_change_password(ada, "wrong", "new"));
    EXPECT(ada, QPC_OK, qpc_change_password(ada, "secret", "new"));
    /* Who is in stays in, and gets in with the new one, on the state that is there. */
    EXPECT(ada, QPC_OK, qpc_send(ada, "bea", (const uint8_t *)"x", 1));
    EXPECT(phone, QPC_OK, qpc_send(phone, "bea", (const uint8_t *)"y", 1));
    qpc_disconnect(phone);
    phone = connected("ada-phone");
    EXPECT(phone, QPC_AUTH_FAILED, qpc_login(phone, "ada", "secret"));
    EXPECT(phone, QPC_OK, qpc_login(phone, "ada", "new"));
    EXPECT(phone, QPC_OK, qpc_devices(phone, &devices));
    CHECK(devices->count == 2);
    qpc_devices_free(devices);

    EXPECT(ada, QPC_ERROR, qpc_revoke_device(ada, NULL));
    EXPECT(ada, QPC_ERROR, qpc_revoke_device(ada, (uint8_t[16]){1}));
    EXPECT(ada, QPC_OK, qpc_revoke_device(ada, id));
    skip_to(ada, QPC_EVENT_OWN_DEVICE_REMOVED);
    int32_t rc;
    struct pollfd fd = {.fd = qpc_event_fd(phone), .events = POLLIN};
    while ((rc = qpc_next_event(phone, &event)) == QPC_OK || rc == QPC_TIMEOUT) {
        qpc_event_free(event);
        CHECK(rc == QPC_OK || poll(&fd, 1, 60000) == 1);
    }
    CHECK(rc == QPC_ERROR && says(qpc_last_error(phone), "revoked"));
    CHECK(poll(&fd, 1, 0) == 0);
    EXPECT(phone, QPC_ERROR, qpc_send(phone, "bea", (const uint8_t *)"z", 1));
    qpc_disconnect(phone);
    qpc_disconnect(ada);
}

/* A program that looks now and then, while the relay is away for a while: nothing blocks, and it comes back by itself. */
static void away_and_back(void)
{
    pid_t relay = (pid_t)atol(getenv("QPC_TEST_RELAY"));
    QpqHandle *ada = opened("ada", "ada");
    skip_to(ada, QPC_EVENT_CONNECTED);
    CHECK(kill(relay, SIGKILL) == 0);
    QpcSend send = {.size = sizeof send, .kind = QPC_KIND_TEXT, .body = (const uint8_t *)"later", .body_len = 5,
                    .flags = QPC_SEND_QUEUED};
    EXPECT(ada, QPC_OK, qpc_send_message(ada, "bea", &send));
    QpcEvent *event = event_of(ada, QPC_EVENT_DISCONNECTED);
    CHECK(event->text && *event->text);
    qpc_event_free(event);
    /* A state can be opened without a relay. */
    QpqHandle *bea = opened("bea", "bea");
    drain(bea);
    CHECK(system(getenv("QPC_TEST_RESTART")) == 0);
    skip_to(ada, QPC_EVENT_CONNECTED);
    event = event_of(ada, QPC_EVENT_SENT);
    CHECK(memcmp(event->id, send.id, 16) == 0);
    qpc_event_free(event);
    skip_to(bea, QPC_EVENT_CONNECTED);
    do
        event = event_of(bea, QPC_EVENT_MESSAGE);
    while (memcmp(event->message->id, send.id, 16) != 0 && (qpc_event_free(event), 1));
    CHECK(strcmp((const char *)event->message->body, "later") == 0);
    qpc_event_free(event);
    /* The relay notices a restart and kill of this one the same way. */
    qpc_disconnect(bea);
    qpc_disconnect(ada);
}

static QpqHandle *in_log;
static int lines, busy;

static void log_line(int32_t level, const char *text, void *user)
{
    CHECK(user == &lines && level >= 1 && level <= 3 && *text && !strchr(text, '\n'));
    lines++;
    if (in_log) {
        /* Against the rules, and noticed. */
        QpcMessages *got;
        busy += qpc_receive_messages(in_log, 0, &got) == QPC_ERROR && got == NULL && qpc_last_error(in_log) == NULL;
        qpc_disconnect(in_log);
    }
}

static void mistakes(void)
{
    QpcOptions *o = options_in("ada");
    CHECK(qpc_options_set_log(o, log_line, &lines) == QPC_OK);
    QpqHandle *ada = qpc_open(address, "ada", o);
    qpc_options_free(o);
    CHECK(ada != NULL);
    in_log = ada;
    skip_to(ada, QPC_EVENT_CONNECTED);
    in_log = NULL;
    CHECK(lines > 0 && busy == lines);
    qpc_disconnect(ada);

    /* A handle that was given back. */
    QpcMessages *got = NULL;
    CHECK(qpc_receive_messages(ada, 0, &got) == QPC_NOT_CONNECTED);
    CHECK(qpc_send(ada, "bea", (const uint8_t *)"x", 1) == QPC_NOT_CONNECTED);
    CHECK(qpc_event_fd(ada) == -1 && qpc_last_error(ada) == NULL);
    qpc_disconnect(ada);
}

int main(int argc, char **argv)
{
    if (argc != 2 || !getenv("QPC_TEST_DIR") || !getenv("QPC_TEST_RELAY") || !getenv("QPC_TEST_RESTART")) {
        fprintf(stderr, "run by crates/ffi/tests/run\n");
        return 2;
    }
    address = argv[1];
    options();
    messages();
    events();
    devices_and_password();
    mistakes();
    away_and_back();
    printf("%d checks passed\n", checks);
    return 0;
}
