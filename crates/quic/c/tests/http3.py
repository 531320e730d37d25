"""aioquic's ends of HTTP/3: http3.py client PORT CA, which asks http3_status, or http3.py server CERT KEY, which prints its port."""

import asyncio
import json
import sys

from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration


class Client(QuicConnectionProtocol):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.http = H3Connection(self._quic)
        self.answers = {}

    def get(self, path, method=b"GET", body=b""):
        stream = self._quic.get_next_available_stream_id()
        head = [(b":method", method), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", path)]
        self.http.send_headers(stream, head + [(b"user-agent", b"aioquic"), (b"x-of-its-own", b"again and again")])
        self.http.send_data(stream, body, end_stream=True)
        self.answers[stream] = answer = asyncio.get_running_loop().create_future()
        answer.parts = [None, b""]
        self.transmit()
        return asyncio.wait_for(answer, 10)

    def quic_event_received(self, event):
        for event in self.http.handle_event(event):
            answer = self.answers[event.stream_id]
            if isinstance(event, HeadersReceived):
                answer.parts[0] = dict(event.headers)
            elif isinstance(event, DataReceived):
                answer.parts[1] += event.data
            if event.stream_ended:
                answer.set_result(answer.parts)


async def client(port, ca):
    configuration = QuicConfiguration(alpn_protocols=H3_ALPN, server_name="localhost")
    configuration.load_verify_locations(ca)
    async with connect("127.0.0.1", int(port), configuration=configuration, create_protocol=Client) as connection:
        heads, body = await connection.get(b"/status")
        assert heads[b":status"] == b"200" and heads[b"content-type"] == b"application/json", heads
        assert int(heads[b"content-length"]) == len(body)
        assert json.loads(body)["uptime"] > 0, body
        # Many at once, which refer to the tables of both ends.
        answers = await asyncio.gather(*[connection.get(b"/status") for _ in range(15)])
        assert all(heads[b":status"] == b"200" for heads, _ in answers)
        heads, _ = await connection.get(b"/none")
        assert heads[b":status"] == b"404", heads
        heads, _ = await connection.get(b"/status", method=b"POST", body=b"x" * 100_000)
        assert heads[b":status"] == b"405", heads
        assert connection.http._decoder_bytes_received > 0, "their table was not used"
    print("6 checks passed")


class Server(QuicConnectionProtocol):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.http = H3Connection(self._quic)

    def quic_event_received(self, event):
        for event in self.http.handle_event(event):
            if isinstance(event, HeadersReceived):
                self.http.send_headers(event.stream_id, [(b":status", b"103"), (b"link", b"</style>")])
                self.http.send_headers(event.stream_id, [(b":status", b"200"), (b"server", b"aioquic")])
                self.http.send_data(event.stream_id, b"x" * 1_000_000, end_stream=True)
                self.transmit()


async def server(cert, key):
    configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN)
    configuration.load_cert_chain(cert, key)
    listening = await serve("127.0.0.1", 0, configuration=configuration, create_protocol=Server)
    print(listening._transport.get_extra_info("sockname")[1], flush=True)
    await asyncio.Event().wait()


asyncio.run({"client": client, "server": server}[sys.argv[1]](*sys.argv[2:]))
