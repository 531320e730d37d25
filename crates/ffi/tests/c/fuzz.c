/* Random sequences of calls, each within the rules of quicprochat.h or against them in a way that gets an error code: NULL,
 * texts that are none, wrong sizes, handles that were given back. There is no check but that nothing crashes, leaks or
 * answers what is no status code.
 *
 *   fuzz ADDRESS SEED SECONDS */
#include <poll.h>
#include <time.h>

#include "check.h"

enum { HANDLES = 3 };

static uint64_t state;

/* xorshift64*: the same everywhere. */
static uint32_t below(uint32_t bound)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)((state * UINT64_C(2685821657736338717)) >> 32) % bound;
}

static const char *pick(const char *const *from, uint32_t count)
{
    return from[below(count)];
}

#define PICK(from) pick(from, sizeof from / sizeof *from)

static const char *user(void)
{
    static char long_name[70];
    memset(long_name, 'a', sizeof long_name - 1);
    const char *const users[] = {"fay", "flo", "fay", "flo", "fay", "flo", "nobody", "", NULL, "UPPER", "\xff\xfe", long_name};
    return PICK(users);
}

static const char *password(void)
{
    static const char *const passwords[] = {"secret", "secret", "secret", "secret", "wrong", "", NULL, "\xc3("};
    return PICK(passwords);
}

/* Memory of just the size, so that one byte too many is noticed. */
static uint8_t *body(size_t *len)
{
    static const size_t sizes[] = {0, 1, 16, 255, 256, 4096, 49152, 49153, 200000};
    *len = sizes[below(sizeof sizes / sizeof *sizes)];
    uint8_t *bytes = malloc(*len + 1);
    bytes = realloc(bytes, *len ? *len : 1);
    memset(bytes, below(3) ? 'x' : 0xff, *len);
    return bytes;
}

static void code(int32_t rc)
{
    CHECK(rc >= QPC_OK && rc <= QPC_NOT_CONNECTED);
}

static QpcOptions *options(void)
{
    static const char *const folders[] = {"fay", "flo", "other"};
    if (below(10) == 0)
        return NULL;
    QpcOptions *o = qpc_options_new();
    CHECK(qpc_options_set_state_dir(o, state_dir(PICK(folders))) == QPC_OK);
    CHECK(qpc_options_set_timeout(o, 500) == QPC_OK);
    code(qpc_options_set_key_file(o, (int32_t)below(4) - 1));
    code(qpc_options_set_keep_alive(o, below(100)));
    code(qpc_options_set_receipts(o, (int32_t)below(3)));
    code(qpc_options_set_device_label(o, user()));
    return o;
}

static QpqHandle *connect(const char *address)
{
    QpcOptions *o = options();
    const char *at = below(20) ? address : user();
    QpqHandle *handle = below(4) ? qpc_connect_address(at, o) : qpc_open(at, user(), o);
    CHECK((handle == NULL) == (qpc_last_connect_error() != NULL));
    qpc_options_free(o);
    return handle;
}

static void send(QpqHandle *handle)
{
    size_t len;
    uint8_t *bytes = body(&len), id[16];
    QpcSend message = {.size = below(10) ? sizeof message : below(200), .kind = below(4), .flags = below(5),
                       .body = below(10) ? bytes : NULL, .body_len = len};
    switch (below(3)) {
    case 0:
        code(qpc_send(handle, user(), message.body, len));
        break;
    case 1:
        code(qpc_send_bytes(handle, user(), message.body, len, below(2) ? id : NULL));
        break;
    default:
        code(qpc_send_message(handle, user(), below(10) ? &message : NULL));
    }
    free(bytes);
}

static void take(QpqHandle *handle)
{
    QpcMessages *messages = NULL;
    QpcDevices *devices = NULL;
    QpcEvent *event = NULL;
    char *string = NULL;
    int given = below(10) != 0;
    switch (below(6)) {
    case 0:
        code(qpc_receive(handle, below(20), given ? &string : NULL));
        break;
    case 1:
        code(qpc_receive_messages(handle, below(20), given ? &messages : NULL));
        for (size_t i = 0; messages && i < messages->count; i++)
            CHECK(messages->messages[i]->body[messages->messages[i]->body_len] == 0);
        break;
    case 2:
        code(qpc_devices(handle, given ? &devices : NULL));
        /* Not so many devices that the account is full. */
        for (size_t i = 0; devices && i < devices->count; i++)
            if (!devices->devices[i]->own && below(3) == 0)
                code(qpc_revoke_device(handle, devices->devices[i]->id));
        break;
    case 3:
        code(qpc_safety_number(handle, user(), given ? &string : NULL));
        break;
    default:
        for (uint32_t i = below(30); i > 0; i--) {
            struct pollfd fd = {.fd = qpc_event_fd(handle), .events = POLLIN};
            poll(&fd, 1, 5);
            code(qpc_next_event(handle, given ? &event : NULL));
            qpc_event_free(event);
            event = NULL;
        }
    }
    qpc_messages_free(messages);
    qpc_devices_free(devices);
    qpc_free_string(string);
}

int main(int argc, char **argv)
{
    if (argc != 4 || !getenv("QPC_TEST_DIR"))
        return 2;
    state = strtoull(argv[2], NULL, 10) * 2 + 1;
    setenv("QPC_STATE_DIR", state_dir("default"), 1);
    QpqHandle *handles[HANDLES] = {NULL};
    time_t end = time(NULL) + atol(argv[3]);
    long calls = 0;
    while (time(NULL) < end) {
        QpqHandle **handle = &handles[below(HANDLES)];
        calls++;
        switch (below(16)) {
        case 0: {
            /* The handle stays where it is, given back. */
            qpc_disconnect(*handle);
            code(qpc_send(*handle, "fay", (const uint8_t *)"x", 1));
            CHECK(qpc_last_error(*handle) == NULL && qpc_event_fd(*handle) == -1);
            break;
        }
        case 1:
        case 2:
            qpc_disconnect(*handle);
            *handle = connect(argv[1]);
            /* Another one that was given back may have had this address. */
            for (QpqHandle **other = handles; other < handles + HANDLES; other++)
                if (other != handle && *other == *handle)
                    *other = NULL;
            break;
        case 3:
            code(qpc_register(*handle, user(), password()));
            break;
        case 4:
        case 5:
            code(qpc_login(*handle, user(), password()));
            break;
        case 6:
            if (below(4) == 0)
                code(qpc_change_password(*handle, password(), below(2) ? "secret" : NULL));
            break;
        case 7:
            code(qpc_accept_identity(*handle, user()));
            code(qpc_revoke_device(*handle, below(2) ? (const uint8_t *)"0123456789abcdef" : NULL));
            break;
        case 8:
        case 9:
        case 10:
            send(*handle);
            break;
        default:
            take(*handle);
        }
    }
    for (int i = 0; i < HANDLES; i++)
        qpc_disconnect(handles[i]);
    printf("seed %s: %ld calls\n", argv[2], calls);
    return 0;
}
