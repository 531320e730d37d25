/* Sends one alert, for shell scripts and hotplug hooks:
 *
 *   logread -l 20 | qpc_alert qpc://HOST:PORT/#FINGERPRINT USER RECIPIENT
 *   qpc_alert qpc://HOST:PORT/#FINGERPRINT USER RECIPIENT "the line is up again"
 *
 * USER has logged in here once with a key file (`qpc --keep-key login`, or qpc_options_set_key_file). It waits up to half a
 * minute for a device of RECIPIENT to say that it has the message.
 *
 * Messages to USER that come in that time are thrown away: give alerts a user of their own.
 *
 * Exit status: 0 a device has it; 1 it was not sent; 2 usage; 3 the relay has it, and no device has said so yet; 4 the
 * relay was lost: it goes out with the next alert. Only after 1 is it to be sent again. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <quicprochat.h>

enum { LONGEST = 49152, PATIENCE = 30 };

static int is_receipt_for(const QpcMessage *message, const char *user, const uint8_t id[16])
{
    if (message->kind != QPC_KIND_RECEIPT || strcmp(message->sender, user) != 0)
        return 0;
    for (size_t at = 0; at + 16 <= message->body_len; at += 16)
        if (memcmp(message->body + at, id, 16) == 0)
            return 1;
    return 0;
}

static int wait_for_receipt(QpqHandle *handle, const char *user, const uint8_t id[16])
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    time_t end = now.tv_sec + PATIENCE;
    int found = 0;
    while (!found && now.tv_sec < end) {
        QpcMessages *messages;
        int32_t rc = qpc_receive_messages(handle, (uint32_t)(end - now.tv_sec) * 1000, &messages);
        if (rc != QPC_OK)
            return 0;
        for (size_t i = 0; i < messages->count; i++)
            found |= is_receipt_for(messages->messages[i], user, id);
        qpc_messages_free(messages);
        clock_gettime(CLOCK_MONOTONIC, &now);
    }
    return found;
}

int main(int argc, char **argv)
{
    static char input[LONGEST];
    if (argc < 4 || argc > 5) {
        fprintf(stderr, "usage: %s ADDRESS USER RECIPIENT [TEXT]\n", argv[0]);
        return 2;
    }
    const char *text = argc == 5 ? argv[4] : input;
    size_t len = argc == 5 ? strlen(text) : fread(input, 1, sizeof input, stdin);

    QpqHandle *handle = qpc_open(argv[1], argv[2], NULL);
    if (!handle) {
        fprintf(stderr, "%s\n", qpc_last_connect_error());
        return 1;
    }
    QpcSend send = {.size = sizeof send, .kind = QPC_KIND_TEXT, .flags = QPC_SEND_RECEIPT,
                    .body = (const uint8_t *)text, .body_len = len};
    int32_t rc = qpc_send_message(handle, argv[3], &send);
    int status = rc == QPC_UNCONFIRMED ? 4 : 1;
    if (rc == QPC_OK)
        status = wait_for_receipt(handle, argv[3], send.id) ? 0 : 3;
    else
        fprintf(stderr, "%s\n", qpc_last_error(handle));
    qpc_disconnect(handle);
    return status;
}
