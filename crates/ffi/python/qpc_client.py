#!/usr/bin/env python3
"""quicprochat from Python: a ctypes wrapper of libquicprochat_ffi and a small command line.

    python qpc_client.py --server 127.0.0.1:7000 --ca-cert ca.der \\
        --username alice --password secret --send bob --message "hello"
    python qpc_client.py --server 127.0.0.1:7000 --ca-cert ca.der \\
        --username bob --password secret --receive --timeout 5000

The library is looked for in $QPC_FFI_LIB, beside this file, in the repository's target folder, and where the system
keeps libraries, in this order.
"""

import argparse
import ctypes
import ctypes.util
import json
import os
import sys
from pathlib import Path

OK, ERROR, AUTH_FAILED, TIMEOUT, NOT_CONNECTED = range(5)


class QpcError(Exception):
    """A call failed; `code` is one of the status codes of quicprochat.h."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def find_library():
    """The path or name of the shared library."""
    explicit = os.environ.get("QPC_FFI_LIB")
    if explicit:
        return explicit
    here = Path(__file__).resolve().parent
    target = here.parents[2] / "target"
    for folder in (here, target / "release", target / "debug"):
        path = folder / "libquicprochat_ffi.so"
        if path.exists():
            return str(path)
    found = ctypes.util.find_library("quicprochat_ffi")
    if found:
        return found
    raise QpcError(ERROR, "libquicprochat_ffi.so not found: build it with `cargo build --release -p quicprochat-ffi` "
                          "or set QPC_FFI_LIB to its path")


def load_library(path=None):
    """Loads the library and declares its functions."""
    try:
        lib = ctypes.CDLL(path or find_library())
    except OSError as error:
        raise QpcError(ERROR, f"cannot load the library: {error}") from error
    handle, text, status = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32
    lib.qpc_connect.argtypes, lib.qpc_connect.restype = [text, text, text], handle
    lib.qpc_last_connect_error.argtypes, lib.qpc_last_connect_error.restype = [], text
    lib.qpc_register.argtypes, lib.qpc_register.restype = [handle, text, text], status
    lib.qpc_register_with_invite.argtypes = [handle, text, text, text]
    lib.qpc_register_with_invite.restype = status
    lib.qpc_login.argtypes, lib.qpc_login.restype = [handle, text, text], status
    lib.qpc_send.argtypes, lib.qpc_send.restype = [handle, text, ctypes.c_char_p, ctypes.c_size_t], status
    # The JSON comes as a plain pointer: it has to be given back as it was, which a c_char_p would hide.
    lib.qpc_receive.argtypes = [handle, ctypes.c_uint32, ctypes.POINTER(ctypes.c_void_p)]
    lib.qpc_receive.restype = status
    lib.qpc_disconnect.argtypes, lib.qpc_disconnect.restype = [handle], None
    lib.qpc_last_error.argtypes, lib.qpc_last_error.restype = [handle], text
    lib.qpc_free_string.argtypes, lib.qpc_free_string.restype = [handle], None
    return lib


class Client:
    """A connection to a relay; use it as a context manager, or call `disconnect`."""

    def __init__(self, server, ca_cert, server_name="localhost", library=None):
        self._lib = load_library(library)
        self._handle = self._lib.qpc_connect(server.encode(), os.fsencode(ca_cert), server_name.encode())
        if not self._handle:
            raise QpcError(ERROR, _text(self._lib.qpc_last_connect_error()))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.disconnect()

    def register(self, username, password, invite=None):
        """Makes an account and logs in."""
        if invite is None:
            self._check(self._lib.qpc_register(self._handle, username.encode(), password.encode()))
        else:
            self._check(self._lib.qpc_register_with_invite(
                self._handle, username.encode(), password.encode(), invite.encode()))

    def login(self, username, password):
        """Logs in."""
        self._check(self._lib.qpc_login(self._handle, username.encode(), password.encode()))

    def send(self, recipient, message):
        """Sends a text; when this returns, the relay has it on disk."""
        data = message.encode()
        self._check(self._lib.qpc_send(self._handle, recipient.encode(), data, len(data)))

    def receive(self, timeout_ms=5000):
        """A list of the texts that came, empty if none did in time."""
        out = ctypes.c_void_p()
        code = self._lib.qpc_receive(self._handle, timeout_ms, ctypes.byref(out))
        if code == TIMEOUT:
            return []
        self._check(code)
        try:
            return json.loads(ctypes.string_at(out))
        finally:
            self._lib.qpc_free_string(out)

    def disconnect(self):
        """Ends the connection; calling it again does nothing."""
        handle, self._handle = self._handle, None
        self._lib.qpc_disconnect(handle)

    def _check(self, code):
        if code != OK:
            message = "not connected" if not self._handle else _text(self._lib.qpc_last_error(self._handle))
            raise QpcError(code, message)


def _text(pointer):
    return pointer.decode(errors="replace") if pointer else "unknown error"


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Send and receive quicprochat messages.")
    parser.add_argument("--server", required=True, metavar="HOST:PORT")
    parser.add_argument("--ca-cert", required=True, metavar="FILE", help="the relay's ca.der or ca.pem")
    parser.add_argument("--server-name", default="localhost", help="the name in the relay's certificate (%(default)s)")
    parser.add_argument("--username", required=True)
    parser.add_argument("--password", required=True)
    parser.add_argument("--register", action="store_true", help="make the account first")
    parser.add_argument("--invite", help="with --register, where the relay asks for a code")
    parser.add_argument("--send", metavar="USER", help="send a message to this user")
    parser.add_argument("--message", help="what to send (default: standard input)")
    parser.add_argument("--receive", action="store_true", help="print the messages that are there or come in time")
    parser.add_argument("--timeout", type=int, default=5000, metavar="MS", help="how long to wait (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        with Client(options.server, options.ca_cert, options.server_name) as client:
            if options.register:
                client.register(options.username, options.password, options.invite)
            else:
                client.login(options.username, options.password)
            if options.send:
                client.send(options.send, options.message if options.message is not None else sys.stdin.read())
            if options.receive:
                messages = client.receive(options.timeout)
                if not messages:
                    print("no message came in time", file=sys.stderr)
                    return TIMEOUT
                for message in messages:
                    print(message)
    except QpcError as error:
        print(error, file=sys.stderr)
        return error.code
    return OK


if __name__ == "__main__":
    sys.exit(main())
