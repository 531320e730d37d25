"""ipcd and tcpd on two machines, which here are two run directories: network.py PROGRAMS [COMMAND...]

PROGRAMS is the folder of ipcd, tcpd, pong and pongd; COMMAND, valgrind or an emulator for example, runs them. No result
depends on how long something takes, but what hangs is a failure.
"""

import contextlib
import os
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

TIMEOUT = 60
programs, command = sys.argv[1], sys.argv[2:]
checks = 0


def check(what, so):
    global checks
    if not so:
        sys.exit(f"not so: {what}")
    checks += 1


def frame(message):
    return struct.pack(">I", len(message)) + message


def exactly(stream, count):
    """So many bytes, or None at the end. (Python's timeouts leave MSG_WAITALL without effect.)"""
    got = b""
    while len(got) < count:
        piece = stream.recv(count - len(got))
        if not piece:
            return None
        got += piece
    return got


def receive(stream):
    header = exactly(stream, 4)
    return header and exactly(stream, struct.unpack(">I", header)[0])


def closed(stream):
    try:
        return stream.recv(1) == b""
    except ConnectionResetError:
        return True


class Machine:
    """A run directory, its daemons and a pongd."""

    def __init__(self, scratch, name):
        self.run = os.path.join(scratch, name)
        self.children = {}
        # First, for it makes the directory.
        self.start("pongd", SERVICE=f"pong-{name}")
        self.wait_for(f"pong-{name}")
        self.start("ipcd")
        self.wait_for("ipc")
        said = self.start("tcpd", ADDRESS="127.0.0.1:0").stdout.readline()
        self.port = int(said.rsplit(b":", 1)[1])

    def start(self, program, **environment):
        child = subprocess.Popen(
            [*command, os.path.join(programs, program)],
            env={**os.environ, "RUNDIR": self.run, **environment},
            stdout=subprocess.PIPE,
        )
        self.children[program] = child
        return child

    def wait_for(self, service):
        end = time.monotonic() + TIMEOUT
        while not os.path.exists(os.path.join(self.run, service)):
            if time.monotonic() > end or any(child.poll() is not None for child in self.children.values()):
                sys.exit(f"no service {service}")
            time.sleep(0.02)
        self.connect(service).close()

    def connect(self, service):
        stream = socket.socket(socket.AF_UNIX)
        stream.settimeout(TIMEOUT)
        end = time.monotonic() + TIMEOUT
        while True:
            try:
                stream.connect(os.path.join(self.run, service))
                return stream
            except (BlockingIOError, ConnectionRefusedError):
                # It has enough connections waiting, or does not listen yet.
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)

    def serve(self, service):
        listener = socket.socket(socket.AF_UNIX)
        listener.settimeout(TIMEOUT)
        listener.bind(os.path.join(self.run, service))
        listener.listen()
        return listener

    def tcp(self):
        stream = socket.create_connection(("127.0.0.1", self.port), TIMEOUT)
        stream.settimeout(TIMEOUT)
        return stream

    def ask(self, service, network):
        """What a client does whose environment has IPC_NETWORK: a connection, or None."""
        with self.connect("ipc") as asker:
            try:
                asker.sendall(frame(f"{service};{network}".encode()))
                said, fds, _, _ = socket.recv_fds(asker, 2, 8)
            except (BrokenPipeError, ConnectionResetError):
                return None
            if said != b"ok" or len(fds) != 1:
                check("a refusal brings no connection", said in (b"no", b"") and not fds)
                return None
        check("a connection handed over waits", os.get_blocking(fds[0]))
        stream = socket.socket(fileno=fds[0])
        stream.settimeout(TIMEOUT)
        return stream

    def fds(self, program):
        return len(os.listdir(f"/proc/{self.children[program].pid}/fd"))


def pong(machine, message, **environment):
    done = subprocess.run(
        [*command, os.path.join(programs, "pong"), message],
        env={**os.environ, "RUNDIR": machine.run, **environment},
        capture_output=True,
        timeout=TIMEOUT,
    )
    return done.returncode, done.stdout


def echoes(stream, *messages):
    for message in messages:
        stream.sendall(frame(message))
        if receive(stream) != message:
            return False
    return True


def through(near, far, uri):
    stream = near.ask("far", f"other tcp://192.0.2.1/x;far {uri}")
    if stream is None:
        return False
    with stream:
        return echoes(stream, b"hello", b"", bytes(99992))


def examples(near, far):
    uri = f"tcp://127.0.0.1:{far.port}/pong-far"
    network = f"other tcp://192.0.2.1/x ; far {uri}"
    check("pong, ipcd, tcpd, TCP, tcpd, pongd", pong(near, "hi", SERVICE="far", IPC_NETWORK=network) == (0, b"hi\n"))
    local = pong(near, "hi", SERVICE="pong-near", IPC_NETWORK=network)
    check("a service without a URI is a local one", local == (0, b"hi\n"))
    alias = pong(near, "hi", SERVICE="x", IPC_NETWORK="x unix://pong-near")
    check("and so is one with unix://", alias == (0, b"hi\n"))
    check("nobody answers", pong(near, "hi", SERVICE="nobody", IPC_NETWORK=network)[0] != 0)


def both_ways(near, far):
    check("near to far", through(near, far, f"tcp://127.0.0.1:{far.port}/pong-far"))
    check("far to near", through(far, near, f"tcp://127.0.0.1:{near.port}/pong-near"))
    check("by name", through(near, far, f"tcp://localhost:{far.port}/pong-far"))
    check("in brackets", through(near, far, f"tcp://[127.0.0.1]:{far.port}/pong-far"))


def refusals(near, far):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        unused = free.getsockname()[1]
        for uri in (
            f"tcp://127.0.0.1:{unused}/pong-far",
            f"tcp://127.0.0.1:{far.port}",
            f"tcp://127.0.0.1:{far.port}/" + "x" * 300,
            "tcp://",
            "nonsense",
            "gopher://127.0.0.1/x",
            "../ipc://x",
            "unix://nobody",
            "unix://../ipc",
        ):
            check(f"refused: {uri}", near.ask("far", f"far {uri}") is None)
    for request in (b"", b";", b";;;", b"\0", b"nobody", b"x" * 5000, b"a" * 99992):
        with near.connect("ipc") as asker:
            try:
                asker.sendall(frame(request))
                check("refused", asker.recv(10) in (b"no", b""))
            except ConnectionError:
                pass


def other_daemons(near, far):
    """Schemes whose daemon does not do as it should; one that does it in pieces is as good as any."""
    with near.serve("odd") as daemon:
        for answer, passed, good in (
            (frame(b"ok"), 1, True),
            (frame(b"no"), 0, False),
            (frame(b"ne"), 0, False),
            (frame(b"ok") + b"ok", 0, False),
            (frame(b"ok") + b"no", 1, False),
            (b"HTTP/1.1 200 OK", 3, False),
            (b"", 0, False),
        ):
            with near.connect("ipc") as asker, socket.socketpair()[0] as other:
                asker.sendall(frame(b"x;x odd://somewhere/x"))
                serving, _ = daemon.accept()
                with serving:
                    check("the daemon gets the URI", receive(serving) == b"odd://somewhere/x")
                    # It may be refused before the end.
                    with contextlib.suppress(BrokenPipeError):
                        for byte in answer[:-1]:
                            serving.sendall(bytes([byte]))
                        socket.send_fds(serving, [answer[-1:]], [other.fileno()] * passed)
                said, fds, _, _ = socket.recv_fds(asker, 10, 8)
                for fd in fds:
                    os.close(fd)
                check(f"answered {answer}", (said, len(fds)) == ((b"ok", 1) if good else (b"no", 0)))


def disconnections(near, far):
    with far.serve("watch") as watch:
        for who in ("client", "service"):
            client = near.ask("far", f"far tcp://127.0.0.1:{far.port}/watch")
            service, _ = watch.accept()
            service.settimeout(TIMEOUT)
            going, staying = (client, service) if who == "client" else (service, client)
            for _ in range(5):
                going.sendall(frame(bytes(50000)))
            going.close()
            check("all arrives", all(receive(staying) == bytes(50000) for _ in range(5)))
            check(f"the {who} goes, and the other is told", closed(staying))
            staying.close()


def garbage(near, far):
    good = near.ask("far", f"far tcp://127.0.0.1:{far.port}/pong-far")
    for name in b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\4pong", b"\xff" * 300, b"../pong-far", b"ipc", b"tcp":
        with far.tcp() as bad:
            bad.sendall(name)
            with contextlib.suppress(OSError):
                bad.shutdown(socket.SHUT_WR)
            check(f"no service: {name}", closed(bad))
        check("nobody notices", echoes(good, b"x"))
    for bytes_after in b"\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n":
        with far.tcp() as bad:
            bad.sendall(b"/pong-far")
            check("greeted", exactly(bad, 2) == b"ok")
            bad.sendall(bytes_after)
            check("what is no frame ends it", closed(bad))
        check("nobody notices", echoes(good, b"x"))
    with far.tcp() as slow:
        slow.sendall(b"pong")
        check("nobody waits for it", echoes(good, b"x"))
        slow.sendall(b"-far")
        check("a name in pieces", exactly(slow, 2) == b"ok" and echoes(slow, b"slow"))
        for byte in frame(b"one byte at a time"):
            slow.sendall(bytes([byte]))
        check("a message in pieces", receive(slow) == b"one byte at a time")
    with contextlib.ExitStack() as idle:
        silent = [idle.enter_context(far.tcp()) for _ in range(600)]
        check("nobody notices those who say nothing", echoes(good, bytes(99992)))
        check("one more is served", through(near, far, f"tcp://127.0.0.1:{far.port}/pong-far"))
        check("the oldest had to go", closed(silent[0]))
        silent[-1].sendall(b"pong-far")
        check("the newest did not", exactly(silent[-1], 2) == b"ok")
    with contextlib.ExitStack() as idle:
        for _ in range(300):
            idle.enter_context(near.connect("ipc"))
            idle.enter_context(near.connect("tcp"))
    check("nor those", through(near, far, f"tcp://127.0.0.1:{far.port}/pong-far"))
    good.close()


def many(near, far):
    failed = []

    def client(number):
        stream = near.ask("far", f"far tcp://127.0.0.1:{far.port}/pong-far")
        if stream is None or not echoes(stream, *(f"{number} {turn}".encode() for turn in range(10)), bytes(50000)):
            failed.append(number)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(f"100 clients at once, without {failed}", not failed)


def main():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    scratch = tempfile.mkdtemp()
    machines = []
    try:
        for name in "near", "far":
            machines.append(Machine(scratch, name))
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
        near, far = machines
        before = {(machine, daemon): machine.fds(daemon) for machine in machines for daemon in ("ipcd", "tcpd", "pongd")}
        with far.tcp() as half, near.connect("ipc") as mute:
            half.sendall(b"pong")
            for test in examples, both_ways, refusals, other_daemons, disconnections, garbage, many:
                test(near, far)
            check("a half-said name is not waited for without end", closed(half))
            check("nor is one who asks nothing", mute.recv(2) in (b"no", b""))
        for (machine, daemon), count in before.items():
            end = time.monotonic() + TIMEOUT
            while machine.fds(daemon) > count and time.monotonic() < end:
                time.sleep(0.1)
            now = machine.fds(daemon)
            check(f"{daemon} has no more than the {count} file descriptors it had, but {now}", now <= count)
        for machine, number in (near, signal.SIGHUP), (far, signal.SIGTERM):
            for daemon, service in ("ipcd", "ipc"), ("tcpd", "tcp"):
                child = machine.children[daemon]
                child.send_signal(number)
                check(f"{daemon} ends well", child.wait(TIMEOUT) == 0)
                check("and takes its socket away", not os.path.exists(os.path.join(machine.run, service)))
    finally:
        for machine in machines:
            for child in machine.children.values():
                child.kill()
                child.wait()
        shutil.rmtree(scratch)
    print(f"{checks} checks passed")


main()
