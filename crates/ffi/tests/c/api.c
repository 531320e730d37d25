/* Every function and every error path of quicprochat.h, against a relay that really runs.
 *
 *   api SERVER CA_CERT        registers ann and ben there
 *
 * Ends with the number of checks, or with the first one that fails. Run under valgrind and with AddressSanitizer. */
#include <signal.h>
#include <unistd.h>

#include "check.h"

static const char *server, *ca_cert;
static const uint8_t hello[] = "hello from C";

static void use_state(const char *name)
{
    setenv("QPC_STATE_DIR", state_dir(name), 1);
}

static QpqHandle *connected(const char *state)
{
    use_state(state);
    QpqHandle *handle = qpc_connect(server, ca_cert, "localhost");
    if (!handle)
        fprintf(stderr, "%s\n", qpc_last_connect_error());
    CHECK(handle != NULL);
    CHECK(qpc_last_connect_error() == NULL);
    CHECK(qpc_last_error(handle) == NULL);
    return handle;
}

static void without_a_connection(void)
{
    char *json = (char *)"untouched";
    EXPECT(NULL, QPC_NOT_CONNECTED, qpc_login(NULL, "ann", "secret"));
    EXPECT(NULL, QPC_NOT_CONNECTED, qpc_register(NULL, "ann", "secret"));
    EXPECT(NULL, QPC_NOT_CONNECTED, qpc_register_with_invite(NULL, "ann", "secret", "code"));
    EXPECT(NULL, QPC_NOT_CONNECTED, qpc_send(NULL, "ben", hello, 5));
    EXPECT(NULL, QPC_NOT_CONNECTED, qpc_receive(NULL, 0, &json));
    CHECK(json == NULL);
    CHECK(qpc_last_error(NULL) == NULL);
    qpc_disconnect(NULL);
    qpc_free_string(NULL);

    CHECK(qpc_connect(NULL, ca_cert, "localhost") == NULL);
    CHECK(says(qpc_last_connect_error(), "server is NULL"));
    CHECK(qpc_connect(server, NULL, "localhost") == NULL);
    CHECK(says(qpc_last_connect_error(), "ca_cert is NULL"));
    CHECK(qpc_connect(server, ca_cert, NULL) == NULL);
    CHECK(says(qpc_last_connect_error(), "server_name is NULL"));
    CHECK(qpc_connect("\xff\xfe:1", ca_cert, "localhost") == NULL);
    CHECK(says(qpc_last_connect_error(), "UTF-8"));
    CHECK(qpc_connect("", ca_cert, "localhost") == NULL);
    CHECK(qpc_last_connect_error() != NULL);
    CHECK(qpc_connect("127.0.0.1:notaport", ca_cert, "localhost") == NULL);
    CHECK(qpc_last_connect_error() != NULL);
    CHECK(qpc_connect(server, "/nowhere/ca.der", "localhost") == NULL);
    CHECK(says(qpc_last_connect_error(), "/nowhere/ca.der"));
    CHECK(qpc_connect(server, "/dev/null", "localhost") == NULL);
    CHECK(says(qpc_last_connect_error(), "/dev/null"));
    CHECK(qpc_connect(server, ca_cert, "other.example") == NULL);
    CHECK(says(qpc_last_connect_error(), "certificate"));
    CHECK(threads() == 1);
}

static void before_a_login(void)
{
    char *json = (char *)"untouched";
    QpqHandle *h = connected("ann");
    EXPECT(h, QPC_NOT_CONNECTED, qpc_send(h, "ben", hello, 5));
    EXPECT(h, QPC_NOT_CONNECTED, qpc_receive(h, 0, &json));
    CHECK(json == NULL);
    EXPECT(h, QPC_ERROR, qpc_login(h, NULL, "secret"));
    CHECK(says(qpc_last_error(h), "username is NULL"));
    EXPECT(h, QPC_ERROR, qpc_login(h, "ann", NULL));
    CHECK(says(qpc_last_error(h), "password is NULL"));
    EXPECT(h, QPC_ERROR, qpc_login(h, "\xc3\x28", "secret"));
    CHECK(says(qpc_last_error(h), "UTF-8"));
    EXPECT(h, QPC_ERROR, qpc_login(h, "ann", "\xff"));
    EXPECT(h, QPC_ERROR, qpc_login(h, "ann", ""));
    CHECK(says(qpc_last_error(h), "password"));
    EXPECT(h, QPC_ERROR, qpc_register(h, "Ann", "secret"));
    EXPECT(h, QPC_ERROR, qpc_register(h, "", "secret"));
    EXPECT(h, QPC_ERROR,
           qpc_register(h, "a123456789a123456789a123456789a123456789a123456789a123456789a1234", "secret"));
    EXPECT(h, QPC_AUTH_FAILED, qpc_login(h, "nobody", "secret"));
    qpc_disconnect(h);
}

static void conversation(void)
{
    char *json = NULL;
    QpqHandle *ann = connected("ann");
    EXPECT(ann, QPC_OK, qpc_register(ann, "ann", "secret"));
    EXPECT(ann, QPC_ERROR, qpc_send(ann, "ben", hello, 5));
    CHECK(says(qpc_last_error(ann), "ben"));

    QpqHandle *ben = connected("ben");
    EXPECT(ben, QPC_ERROR, qpc_register(ben, "ann", "other"));
    EXPECT(ben, QPC_OK, qpc_register(ben, "ben", "secret"));
    EXPECT(ben, QPC_TIMEOUT, qpc_receive(ben, 0, &json));
    CHECK(json == NULL);

    EXPECT(ann, QPC_OK, qpc_send(ann, "ben", hello, sizeof hello - 1));
    EXPECT(ann, QPC_OK, qpc_send(ann, "ben", (const uint8_t *)"\"quoted\"\n\xe2\x82\xac", 12));
    EXPECT(ann, QPC_OK, qpc_send(ann, "ben", hello, 0));
    EXPECT(ann, QPC_ERROR, qpc_send(ann, NULL, hello, 5));
    EXPECT(ann, QPC_ERROR, qpc_send(ann, "ben", NULL, 5));
    EXPECT(ann, QPC_ERROR, qpc_send(ann, "ben", (const uint8_t *)"\xff\xff", 2));
    CHECK(says(qpc_last_error(ann), "UTF-8"));
    EXPECT(ann, QPC_ERROR, qpc_send(ann, "\xff", hello, 5));
    EXPECT(ann, QPC_ERROR, qpc_send(ann, "ben", hello, SIZE_MAX));
    uint8_t *large = malloc(49153);
    memset(large, 'x', 49153);
    EXPECT(ann, QPC_ERROR, qpc_send(ann, "ben", large, 49153));
    CHECK(says(qpc_last_error(ann), "49152"));
    EXPECT(ann, QPC_OK, qpc_send(ann, "ben", large, 49152));
    free(large);

    char all[60000] = "";
    while (strlen(all) < 49152) {
        EXPECT(ben, QPC_OK, qpc_receive(ben, 10000, &json));
        CHECK(json != NULL && json[0] == '[' && json[strlen(json) - 1] == ']');
        strncat(all, json, sizeof all - strlen(all) - 1);
        qpc_free_string(json);
    }
    CHECK(says(all, "\"hello from C\",\"\\\"quoted\\\"\\n\xe2\x82\xac\",\"\""));
    EXPECT(ben, QPC_TIMEOUT, qpc_receive(ben, 100, &json));
    EXPECT(ben, QPC_ERROR, qpc_receive(ben, 0, NULL));

    /* The other way, on the conversation that is there now. */
    EXPECT(ben, QPC_OK, qpc_send(ben, "ann", hello, 5));
    EXPECT(ann, QPC_OK, qpc_receive(ann, 10000, &json));
    CHECK(strcmp(json, "[\"hello\"]") == 0);
    qpc_free_string(json);

    /* The folder is in use: by another handle as much as by another process. */
    QpqHandle *second = connected("ann");
    EXPECT(second, QPC_ERROR, qpc_login(second, "ann", "secret"));
    CHECK(says(qpc_last_error(second), "use"));
    qpc_disconnect(second);

    qpc_disconnect(ann);
    qpc_disconnect(ben);
    CHECK(threads() == 1);
}

static void again(void)
{
    char *json = NULL;
    QpqHandle *h = connected("ann");
    EXPECT(h, QPC_AUTH_FAILED, qpc_login(h, "ann", "wrong"));
    EXPECT(h, QPC_OK, qpc_login(h, "ann", "secret"));
    /* A login or a registration that fails leaves the one there was. */
    EXPECT(h, QPC_AUTH_FAILED, qpc_login(h, "ann", "wrong"));
    EXPECT(h, QPC_AUTH_FAILED, qpc_login(h, "nobody", "secret"));
    EXPECT(h, QPC_ERROR, qpc_register(h, "ann", "other"));
    EXPECT(h, QPC_OK, qpc_send(h, "ben", hello, 5));
    EXPECT(h, QPC_OK, qpc_login(h, "ann", "secret"));

    QpqHandle *ben = connected("ben");
    EXPECT(ben, QPC_OK, qpc_login(ben, "ben", "secret"));
    EXPECT(ben, QPC_OK, qpc_receive(ben, 10000, &json));
    CHECK(strcmp(json, "[\"hello\"]") == 0);
    qpc_free_string(json);

    /* The same account on an empty folder is another device: it sends and receives at once. */
    QpqHandle *phone = connected("ben-phone");
    EXPECT(phone, QPC_OK, qpc_login(phone, "ben", "secret"));
    EXPECT(h, QPC_OK, qpc_send(h, "ben", (const uint8_t *)"both", 4));
    EXPECT(ben, QPC_OK, qpc_receive(ben, 10000, &json));
    CHECK(strcmp(json, "[\"both\"]") == 0);
    qpc_free_string(json);
    EXPECT(phone, QPC_OK, qpc_receive(phone, 10000, &json));
    CHECK(strcmp(json, "[\"both\"]") == 0);
    qpc_free_string(json);
    EXPECT(phone, QPC_OK, qpc_send(phone, "ann", hello, 5));
    EXPECT(h, QPC_OK, qpc_receive(h, 10000, &json));
    CHECK(strcmp(json, "[\"hello\"]") == 0);
    qpc_free_string(json);
    qpc_disconnect(phone);
    qpc_disconnect(ben);
    qpc_disconnect(h);
}

/* Of two copies of one state the later one has the session. The earlier one stays out of it until its user logs in again. */
static void replaced(void)
{
    char *json = NULL;
    QpqHandle *ann = connected("ann");
    EXPECT(ann, QPC_OK, qpc_login(ann, "ann", "secret"));
    char copy[8192];
    snprintf(copy, sizeof copy, "cp -r %s/ann %s/ann-copy", getenv("QPC_TEST_DIR"), getenv("QPC_TEST_DIR"));
    CHECK(system(copy) == 0);
    QpqHandle *other = connected("ann-copy");
    EXPECT(other, QPC_OK, qpc_login(other, "ann", "secret"));
    /* Long enough for the relay to tell the earlier one and to close its connection while nobody looks. */
    sleep(2);
    for (int i = 0; i < 3; i++) {
        EXPECT(ann, QPC_ERROR, i == 1 ? qpc_send(ann, "ben", hello, 5) : qpc_receive(ann, 5000, &json));
        CHECK(says(qpc_last_error(ann), "another program"));
        EXPECT(other, QPC_TIMEOUT, qpc_receive(other, 100, &json));
    }
    EXPECT(ann, QPC_OK, qpc_login(ann, "ann", "secret"));
    EXPECT(ann, QPC_TIMEOUT, qpc_receive(ann, 100, &json));
    EXPECT(other, QPC_ERROR, qpc_receive(other, 5000, &json));
    CHECK(says(qpc_last_error(other), "another program"));
    qpc_disconnect(other);
    qpc_disconnect(ann);
}

/* The relay goes away while a handle is logged in. */
static void relay_gone(void)
{
    char *json = (char *)"untouched";
    QpqHandle *h = connected("ann");
    EXPECT(h, QPC_OK, qpc_login(h, "ann", "secret"));
    CHECK(kill((pid_t)atol(getenv("QPC_TEST_RELAY")), SIGKILL) == 0);
    EXPECT(h, QPC_ERROR, qpc_send(h, "ben", hello, 5));
    int32_t rc = qpc_receive(h, 200, &json);
    CHECK(rc == QPC_ERROR || rc == QPC_TIMEOUT);
    CHECK(json == NULL && qpc_last_error(h) != NULL);
    qpc_disconnect(h);
    CHECK(qpc_connect(server, ca_cert, "localhost") == NULL);
    CHECK(qpc_last_connect_error() != NULL);
    CHECK(threads() == 1);
}

int main(int argc, char **argv)
{
    if (argc != 3 || !getenv("QPC_TEST_DIR") || !getenv("QPC_TEST_RELAY")) {
        fprintf(stderr, "run by crates/ffi/tests/run\n");
        return 2;
    }
    server = argv[1];
    ca_cert = argv[2];
    without_a_connection();
    before_a_login();
    conversation();
    again();
    replaced();
    relay_gone();
    printf("%d checks passed\n", checks);
    return 0;
}
