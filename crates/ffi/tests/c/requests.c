/* Many requests that the agent answers by itself.
 *
 *   requests CONNECTIONS USER       over so many connections one after the other, ten each; USER is known to the agent
 *
 * Ends with the number of requests, or with the first one whose answer is another than expected. */
#include "check.h"

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    int requests = 0;
    for (int left = atoi(argv[1]); left > 0; left--) {
        QpqHandle *handle = qpc_connect_agent(NULL, NULL);
        CHECK(handle != NULL);
        QpcMessages *messages;
        EXPECT(handle, QPC_TIMEOUT, qpc_receive_messages(handle, 0, &messages));
        requests++;
        for (int i = 0; i < 8; i++, requests++) {
            char *number;
            EXPECT(handle, QPC_OK, qpc_safety_number(handle, argv[2], &number));
            qpc_free_string(number);
        }
        /* One that is refused. */
        EXPECT(handle, QPC_ERROR, qpc_accept_identity(handle, argv[2]));
        requests++;
        qpc_disconnect(handle);
    }
    printf("%d requests\n", requests);
    return 0;
}
