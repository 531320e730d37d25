"""Our end and aioquic's, which decodes with ls-qpack, with a transport in between that cuts and reorders: interop.py LINES SEEDS."""

import random
import subprocess
import sys
from types import SimpleNamespace

from aioquic.h3.connection import ErrorCode, H3Connection, Setting
from aioquic.h3.events import DataReceived, DatagramReceived, HeadersReceived, PushPromiseReceived
from aioquic.quic.events import DatagramFrameReceived, StreamDataReceived, StreamReset

program, seeds = sys.argv[1], int(sys.argv[2])
names = [b"user-agent", b"accept", b"x-request", b"authorization", b"x-router", b"etag", b"x-a-long-name-of-a-field"]

# Bytes of insertions into the tables of both ends.
tables = [0, 0]


def hexed(data):
    return "-" + data.hex()


def hexed_fields(fields):
    return "".join(f"{hexed(name)}:{hexed(value)}," for name, value in fields) or ","


def fields_of(text):
    unhexed = lambda part: bytes.fromhex(part[1:])
    return [tuple(unhexed(part) for part in field.split(":")) for field in text.split(",") if field]


class Transport:
    """What aioquic's HTTP/3 asks of its QUIC."""

    _quic_logger = None
    _remote_max_datagram_frame_size = 65535

    def __init__(self, is_client):
        self.configuration = SimpleNamespace(is_client=is_client)
        self.next = {False: 0 if is_client else 1, True: 2 if is_client else 3}
        self.sent, self.datagrams, self.resets, self.closed = {}, [], [], None

    def get_next_available_stream_id(self, is_unidirectional=False):
        stream = self.next[is_unidirectional]
        self.next[is_unidirectional] += 4
        return stream

    def send_stream_data(self, stream, data, end_stream=False):
        before = self.sent.setdefault(stream, [b"", False])
        before[0] += data
        before[1] |= end_stream

    def send_datagram_frame(self, data):
        self.datagrams.append(data)

    def reset_stream(self, stream, code):
        self.resets.append((stream, code))

    def stop_stream(self, stream, code):
        pass

    def close(self, error_code, reason_phrase=""):
        self.closed = (error_code, reason_phrase)


class Pair:
    def __init__(self, seed, ours):
        self.random = random.Random(seed)
        self.transport = Transport(ours == "server")
        self.theirs = H3Connection(self.transport, enable_webtransport=False)
        self.process = subprocess.Popen([program, ours], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.down = {}
        self.told, self.events = [], []
        self.tell("")

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        while (answer := self.process.stdout.readline().rstrip("\n")) != ".":
            assert answer, "our end is gone"
            words = answer.split(" ")
            if words[0] == "data":
                before = self.down.setdefault(int(words[1]), [b"", False])
                before[0] += bytes.fromhex(words[3][1:])
                before[1] |= words[2] == "1"
            elif words[0] == "datagram":
                self.receive(DatagramFrameReceived(data=bytes.fromhex(words[1][1:])))
            elif words[0] == "reset":
                self.receive(StreamReset(stream_id=int(words[1]), error_code=int(words[2])))
            else:
                self.told.append(words)

    def receive(self, event):
        self.events += self.theirs.handle_event(event)
        assert self.transport.closed is None, self.transport.closed

    def piece(self, pending):
        """Takes the next bytes of some stream."""
        stream = self.random.choice(list(pending))
        data, fin = pending[stream]
        count = min(len(data), self.random.choice([1, 5, 50, 5000]))
        if count == len(data):
            del pending[stream]
            return stream, data, fin
        pending[stream][0] = data[count:]
        return stream, data[:count], False

    def run(self):
        """Until neither end has anything left to send."""
        while self.transport.sent or self.down or self.transport.datagrams or self.transport.resets:
            if self.transport.datagrams:
                self.tell("datagram " + hexed(self.transport.datagrams.pop(0)))
            if self.transport.resets:
                stream, code = self.transport.resets.pop(0)
                self.transport.sent.pop(stream, None)
                self.tell(f"reset {stream} {int(code)}")
            if self.transport.sent and (not self.down or self.random.random() < 0.5):
                stream, data, fin = self.piece(self.transport.sent)
                self.tell(f"data {stream} {int(fin)} {hexed(data)}")
            elif self.down:
                stream, data, fin = self.piece(self.down)
                self.receive(StreamDataReceived(stream_id=stream, data=data, end_stream=fin))
        assert not any(words[0] == "close" for words in self.told), self.told

    def close(self):
        tables[0] += self.theirs._encoder_bytes_received
        tables[1] += self.theirs._encoder_bytes_sent
        self.process.stdin.close()
        assert self.process.wait() == 0

    def some_fields(self):
        value = lambda: b"value" * self.random.randrange(12)
        return [(self.random.choice(names), value()) for _ in range(self.random.randrange(8))]

    def some_request(self):
        head = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"router.lan")]
        head.append((b":path", self.random.choice([b"/", b"/status", b"/a/longer/path?x=y"])))
        trailers = [(b"x-sum", b"1")] if self.random.random() < 0.3 else []
        return head, self.some_fields(), self.random.randbytes(self.random.randrange(5000)), trailers


def our_server(seed):
    pair = Pair(seed, "server")
    expected = {}
    for _ in range(pair.random.randrange(3)):
        # Several at once, then those that can refer to what these brought into the table.
        for _ in range(pair.random.randrange(1, 8)):
            head, fields, body, trailers = pair.some_request()
            stream = pair.transport.get_next_available_stream_id()
            pair.theirs.send_headers(stream, head + fields)
            pair.theirs.send_data(stream, body, end_stream=not trailers)
            if trailers:
                pair.theirs.send_headers(stream, trailers, end_stream=True)
            expected[stream] = [[(b":status", b"103")], [(b":status", b"200")] + fields] + [trailers] * bool(trailers), body
        pair.run()
    heads = {stream: [] for stream in expected}
    bodies = dict.fromkeys(expected, b"")
    ended = set()
    for event in pair.events:
        if isinstance(event, HeadersReceived):
            heads[event.stream_id].append(event.headers)
        elif isinstance(event, DataReceived):
            bodies[event.stream_id] += event.data
        if event.stream_ended:
            ended.add(event.stream_id)
    assert {stream: (heads[stream], bodies[stream]) for stream in expected} == expected
    assert ended == set(expected)
    pair.close()


def our_client(seed):
    pair = Pair(seed, "client")
    requests, heads, bodies, trailers_of, answered = [], {}, {}, {}, {}
    for _ in range(pair.random.randrange(3)):
        for _ in range(pair.random.randrange(1, 8)):
            requests.append(pair.some_request())
            head, fields, body, trailers = requests[-1]
            pair.tell(f"request {hexed_fields(head + fields)} {hexed(body)} {hexed_fields(trailers)}")
        while True:
            pair.run()
            for event in pair.events:
                if isinstance(event, HeadersReceived):
                    (trailers_of if event.stream_id in heads else heads)[event.stream_id] = event.headers
                elif isinstance(event, DataReceived):
                    bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
                if event.stream_ended:
                    response = pair.some_fields(), pair.random.randbytes(pair.random.randrange(5000))
                    answered[event.stream_id] = response
                    pair.theirs.send_headers(event.stream_id, [(b":status", b"100")])
                    pair.theirs.send_headers(event.stream_id, [(b":status", b"200")] + response[0])
                    pair.theirs.send_data(event.stream_id, response[1], end_stream=False)
                    pair.theirs.send_headers(event.stream_id, [(b"x-sum", b"2")], end_stream=True)
            if not pair.events:
                break
            pair.events.clear()
    for number, (head, fields, body, trailers) in enumerate(requests):
        stream = number * 4
        assert heads[stream] == head + fields
        assert bodies.get(stream, b"") == body
        assert trailers_of.get(stream, []) == trailers
        told = [words for words in pair.told if words[1] == str(stream)]
        body = b"".join(bytes.fromhex(words[2][1:]) for words in told if words[0] == "body")
        others = [words for words in told if words[0] != "body"]
        fields, sent = answered[stream]
        assert body == sent
        assert [words[0] for words in others] == ["interim", "response", "trailers", "end"]
        assert others[1][2] == "200" and fields_of(others[1][3]) == fields
        assert fields_of(others[2][2]) == [(b"x-sum", b"2")]
    pair.close()


def settings_and_datagrams():
    pair = Pair(0, "server")
    head = [(b":method", b"CONNECT"), (b":protocol", b"x"), (b":scheme", b"https"), (b":authority", b"router"), (b":path", b"/")]
    stream = pair.transport.get_next_available_stream_id()
    pair.theirs.send_headers(stream, head)
    pair.run()
    settings = pair.theirs.received_settings
    assert (settings[Setting.ENABLE_CONNECT_PROTOCOL], settings[Setting.H3_DATAGRAM]) == (1, 1), settings
    pair.theirs.send_data(stream, b"through", end_stream=False)
    pair.run()
    pair.theirs.send_data(stream, b" the tunnel", end_stream=True)
    pair.run()
    assert b"".join(event.data for event in pair.events if isinstance(event, DataReceived)) == b"through the tunnel"
    pair.close()


def a_push_of_ours():
    pair = Pair(1, "server")
    pair.run()
    stream = pair.transport.get_next_available_stream_id()
    head = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"router"), (b":path", b"/push")]
    pair.theirs.send_headers(stream, head, end_stream=True)
    pair.run()
    promises = [event for event in pair.events if isinstance(event, PushPromiseReceived)]
    assert [event.push_id for event in promises] == [0] and (b":path", b"/pushed") in promises[0].headers
    assert b"".join(event.data for event in pair.events if isinstance(event, DataReceived)) == b"pushed"
    pair.close()


def a_push_of_theirs():
    pair = Pair(2, "client")
    pair.tell(f"request {hexed_fields([(b':method', b'GET'), (b':scheme', b'https'), (b':authority', b'r'), (b':path', b'/')])} - ,")
    pair.run()
    promise = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"r"), (b":path", b"/pushed")]
    push = pair.theirs.send_push_promise(0, promise)
    pair.theirs.send_headers(push, [(b":status", b"200")])
    pair.theirs.send_data(push, b"pushed", end_stream=True)
    pair.theirs.send_headers(0, [(b":status", b"204")], end_stream=True)
    pair.run()
    for words in [["promise", "0", "0", hexed(b"/pushed")], ["push", "0", str(push)]]:
        assert words in pair.told, pair.told
    told = [words[2] for words in pair.told if words[:2] == ["body", str(push)]]
    assert b"".join(bytes.fromhex(body[1:]) for body in told) == b"pushed"
    pair.close()


def their_client_gives_up():
    pair = Pair(3, "server")
    stream = pair.transport.get_next_available_stream_id()
    head = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"r"), (b":path", b"/")]
    pair.theirs.send_headers(stream, head)
    pair.run()
    pair.transport.reset_stream(stream, ErrorCode.H3_REQUEST_CANCELLED)
    pair.run()
    pair.close()


checks = [settings_and_datagrams, a_push_of_ours, a_push_of_theirs, their_client_gives_up]
for check in checks:
    check()
for seed in range(seeds):
    try:
        our_server(seed)
        our_client(seed)
    except BaseException:
        print(f"seed {seed}", file=sys.stderr)
        raise
assert min(tables) > 10 * seeds, tables
print(f"{len(checks) + 2 * seeds} checks passed")
