#!/usr/bin/env python3
"""quicprochat from Python: a ctypes wrapper of libquicprochat_ffi and a small command line.

    python qpc_client.py --server 127.0.0.1:7000 --ca-cert ca.der \\
        --username alice --password secret --send bob --message "hello"
    python qpc_client.py --server 127.0.0.1:7000 --ca-cert ca.der \\
        --username bob --password secret --receive --timeout 5000

The library is looked for in $QPC_FFI_LIB, beside this file, in the repository's target folder, and where the system
keeps libraries, in this order.
"""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import json
import os
import sys
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Iterator, Optional, Union

OK, ERROR, AUTH_FAILED, TIMEOUT, NOT_CONNECTED, UNCONFIRMED = range(6)

# The version of quicprochat.h that the declarations below are of.
ABI_VERSION = 2


class Kind(IntEnum):
    """What the body of a message is."""

    BINARY = 0
    TEXT = 1
    RECEIPT = 2


class EventKind(IntEnum):
    """What has happened; see quicprochat.h."""

    CONNECTED = 1
    DISCONNECTED = 2
    MESSAGE = 3
    RECEIPT = 4
    SENT = 5
    NOT_SENT = 6
    DEVICE_ADDED = 7
    DEVICE_REMOVED = 8
    OWN_DEVICE_ADDED = 9
    OWN_DEVICE_REMOVED = 10
    IDENTITY_CHANGED = 11
    LOST = 12
    NOTE = 13


@dataclass(frozen=True)
class Message:
    """A message that was received. `kind` is a `Kind`, or a number of a later version."""

    sender: str
    kind: int
    body: bytes
    id: bytes
    conversation: bytes
    device: bytes
    relay_time: Optional[int]
    sender_time: Optional[int]
    durable: bool

    @property
    def text(self) -> str:
        """The body of a text."""
        return self.body.decode()

    @property
    def receipts(self) -> list[bytes]:
        """The ids in the body of a receipt."""
        return [self.body[at:at + 16] for at in range(0, len(self.body) - 15, 16)]


@dataclass(frozen=True)
class Event:
    """Something that happened. `kind` is an `EventKind`, or a number of a later version; what it does not name is None or zeros."""

    kind: int
    user: Optional[str]
    text: Optional[str]
    message: Optional[Message]
    id: bytes
    conversation: bytes
    device: bytes
    durable: bool


@dataclass(frozen=True)
class Device:
    """A device of the account."""

    id: bytes
    label: str
    queued: int
    online: bool
    own: bool


@dataclass(frozen=True)
class Sent:
    """A message that the relay has, or that was queued."""

    id: bytes
    durable: bool


@dataclass(frozen=True)
class Options:
    """How a connection is to behave; what is None is left as it is by default."""

    state_dir: Union[str, os.PathLike[str], None] = None
    device_label: Optional[str] = None
    key_file: Optional[bool] = None
    timeout_ms: Optional[int] = None
    keep_alive_s: Optional[int] = None
    receipts: Optional[bool] = None


_Id = ctypes.c_uint8 * 16


class _Send(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("kind", ctypes.c_uint32), ("flags", ctypes.c_uint32), ("body", ctypes.c_char_p),
                ("body_len", ctypes.c_size_t), ("id", _Id), ("durability", ctypes.c_uint32), ("reserved", ctypes.c_uint32)]


class _Message(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("sender", ctypes.c_char_p), ("body", ctypes.c_void_p),
                ("body_len", ctypes.c_size_t), ("relay_time", ctypes.c_uint64), ("sender_time", ctypes.c_uint64),
                ("kind", ctypes.c_uint32), ("durability", ctypes.c_uint32), ("id", _Id), ("conversation", _Id), ("device", _Id)]

    def read(self) -> Message:
        return Message(_text(self.sender), self.kind, ctypes.string_at(self.body, self.body_len), bytes(self.id),
                       bytes(self.conversation), bytes(self.device), self.relay_time or None, self.sender_time or None,
                       self.durability == 0)


class _Event(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("kind", ctypes.c_int32), ("durability", ctypes.c_uint32), ("user", ctypes.c_char_p),
                ("text", ctypes.c_char_p), ("message", ctypes.POINTER(_Message)), ("id", _Id), ("conversation", _Id),
                ("device", _Id)]

    def read(self) -> Event:
        text = lambda pointer: None if pointer is None else _text(pointer)
        message = self.message.contents.read() if self.message else None
        return Event(self.kind, text(self.user), text(self.text), message, bytes(self.id), bytes(self.conversation),
                     bytes(self.device), self.durability == 0)


class _Device(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("label", ctypes.c_char_p), ("queued", ctypes.c_uint64), ("id", _Id),
                ("online", ctypes.c_int32), ("own", ctypes.c_int32)]

    def read(self) -> Device:
        return Device(bytes(self.id), _text(self.label), self.queued, bool(self.online), bool(self.own))


def _array_of(item: type[ctypes.Structure]) -> type[ctypes.Structure]:
    class Array(ctypes.Structure):
        _fields_ = [("size", ctypes.c_size_t), ("count", ctypes.c_size_t), ("items", ctypes.POINTER(ctypes.POINTER(item)))]

        def read(self) -> list[Any]:
            return [self.items[index].contents.read() for index in range(self.count)]

    return Array


_Messages, _Devices = _array_of(_Message), _array_of(_Device)


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
    lib.qpc_abi_version.argtypes, lib.qpc_abi_version.restype = [], ctypes.c_uint32
    if lib.qpc_abi_version() < ABI_VERSION:
        raise QpcError(ERROR, "the library is older than this wrapper")
    out = ctypes.POINTER(ctypes.c_void_p)
    for name, restype, argtypes in (
            ("connect_address", handle, [text, handle]),
            ("open", handle, [text, text, handle]),
            ("options_new", handle, []),
            ("options_free", None, [handle]),
            ("options_set_state_dir", status, [handle, text]),
            ("options_set_device_label", status, [handle, text]),
            ("options_set_key_file", status, [handle, status]),
            ("options_set_timeout", status, [handle, ctypes.c_uint32]),
            ("options_set_keep_alive", status, [handle, ctypes.c_uint32]),
            ("options_set_receipts", status, [handle, status]),
            ("send_message", status, [handle, text, ctypes.POINTER(_Send)]),
            ("receive_messages", status, [handle, ctypes.c_uint32, out]),
            ("messages_free", None, [handle]),
            ("event_fd", status, [handle]),
            ("next_event", status, [handle, out]),
            ("event_free", None, [handle]),
            ("safety_number", status, [handle, text, out]),
            ("accept_identity", status, [handle, text]),
            ("devices", status, [handle, out]),
            ("devices_free", None, [handle]),
            ("revoke_device", status, [handle, ctypes.c_char_p]),
            ("change_password", status, [handle, text, text])):
        function = getattr(lib, "qpc_" + name)
        function.argtypes, function.restype = argtypes, restype
    return lib


class Client:
    """A connection to a relay; use it as a context manager, or call `disconnect`."""

    def __init__(self, server: str, ca_cert: Union[str, os.PathLike[str]], server_name: str = "localhost",
                 library: Optional[str] = None) -> None:
        self._start(library, lambda lib: lib.qpc_connect(server.encode(), os.fsencode(ca_cert), server_name.encode()))

    @classmethod
    def connect_address(cls, address: str, options: Options = Options(), library: Optional[str] = None) -> Client:
        """Connects by the address, qpc://HOST:PORT/#FINGERPRINT, that the relay prints."""
        client = cls.__new__(cls)
        client._start(library, lambda lib: client._with(options, lib, lambda made: lib.qpc_connect_address(address.encode(), made)))
        return client

    @classmethod
    def open(cls, address: str, username: str, options: Options = Options(), library: Optional[str] = None) -> Client:
        """Is logged in by the key file of an earlier login, and does not wait for the relay."""
        client = cls.__new__(cls)
        client._start(library, lambda lib: client._with(
            options, lib, lambda made: lib.qpc_open(address.encode(), username.encode(), made)))
        return client

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()

    def register(self, username: str, password: str, invite: Optional[str] = None) -> None:
        """Makes an account and logs in."""
        if invite is None:
            self._check(self._lib.qpc_register(self._handle, username.encode(), password.encode()))
        else:
            self._check(self._lib.qpc_register_with_invite(
                self._handle, username.encode(), password.encode(), invite.encode()))

    def login(self, username: str, password: str) -> None:
        """Logs in."""
        self._check(self._lib.qpc_login(self._handle, username.encode(), password.encode()))

    def send(self, recipient: str, message: str) -> None:
        """Sends a text; when this returns, the relay has it on disk."""
        data = message.encode()
        self._check(self._lib.qpc_send(self._handle, recipient.encode(), data, len(data)))

    def send_message(self, recipient: str, body: Union[str, bytes], *, receipt: bool = False, queued: bool = False) -> Sent:
        """Sends a text or bytes. With `receipt` the recipient's devices say when they have stored it; with `queued` it does not
        wait: `next_event` sends it, and tells what became of it. An error whose code is `UNCONFIRMED` says that it goes out
        with the next connection: it is not to be sent again."""
        kind, data = (Kind.TEXT, body.encode()) if isinstance(body, str) else (Kind.BINARY, bytes(body))
        send = _Send(size=ctypes.sizeof(_Send), kind=kind, flags=receipt | queued << 1, body=data, body_len=len(data))
        self._check(self._lib.qpc_send_message(self._handle, recipient.encode(), ctypes.byref(send)))
        return Sent(bytes(send.id), send.durability == 0)

    def receive(self, timeout_ms: int = 5000) -> list[str]:
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

    def receive_messages(self, timeout_ms: int = 5000) -> list[Message]:
        """All that came, with sender and times; empty if nothing did in time."""
        return self._taken(self._lib.qpc_receive_messages, _Messages, self._lib.qpc_messages_free, timeout_ms) or []

    def fileno(self) -> int:
        """A descriptor that is readable when `next_event` may have something: this object can be given to `selectors`."""
        fd = self._lib.qpc_event_fd(self._handle)
        if fd < 0:
            raise QpcError(NOT_CONNECTED, "not connected")
        return fd

    def next_event(self) -> Optional[Event]:
        """Does what there is to do without waiting; the next thing that has happened, if any."""
        return self._taken(self._lib.qpc_next_event, _Event, self._lib.qpc_event_free)

    def events(self) -> Iterator[Event]:
        """All that has happened and was not told yet."""
        while (event := self.next_event()) is not None:
            yield event

    def safety_number(self, user: str) -> str:
        """Sixty digits to compare with the user by another way."""
        out = ctypes.c_void_p()
        self._check(self._lib.qpc_safety_number(self._handle, user.encode(), ctypes.byref(out)))
        try:
            return ctypes.string_at(out).decode()
        finally:
            self._lib.qpc_free_string(out)

    def accept_identity(self, user: str) -> None:
        """Trusts the user's changed identity."""
        self._check(self._lib.qpc_accept_identity(self._handle, user.encode()))

    def devices(self) -> list[Device]:
        """The account's devices."""
        return self._taken(self._lib.qpc_devices, _Devices, self._lib.qpc_devices_free) or []

    def revoke_device(self, device: bytes) -> None:
        """Removes a device from the account."""
        if len(device) != 16:
            raise ValueError("a device id has 16 bytes")
        self._check(self._lib.qpc_revoke_device(self._handle, device))

    def change_password(self, old: str, new: str) -> None:
        """Replaces the account's password."""
        self._check(self._lib.qpc_change_password(self._handle, old.encode(), new.encode()))

    def disconnect(self) -> None:
        """Ends the connection; calling it again does nothing."""
        handle, self._handle = self._handle, None
        self._lib.qpc_disconnect(handle)

    def _start(self, library: Optional[str], connect: Any) -> None:
        self._lib = load_library(library)
        self._handle = connect(self._lib)
        if not self._handle:
            raise QpcError(ERROR, _text(self._lib.qpc_last_connect_error()))

    @staticmethod
    def _with(options: Options, lib: Any, use: Any) -> Any:
        made = lib.qpc_options_new()
        try:
            for name, value in (("state_dir", options.state_dir), ("device_label", options.device_label),
                                ("key_file", options.key_file), ("timeout", options.timeout_ms),
                                ("keep_alive", options.keep_alive_s), ("receipts", options.receipts)):
                if value is None:
                    continue
                argument = value if isinstance(value, int) else os.fsencode(value)
                if getattr(lib, "qpc_options_set_" + name)(made, argument) != OK:
                    raise ValueError(f"{name} cannot be {value!r}")
            return use(made)
        finally:
            lib.qpc_options_free(made)

    def _taken(self, function: Any, struct: Any, free: Any, *arguments: Any) -> Any:
        """What a call stores, read and freed; None if nothing came in time."""
        out = ctypes.c_void_p()
        code = function(self._handle, *arguments, ctypes.byref(out))
        if code == TIMEOUT:
            return None
        self._check(code)
        try:
            return struct.from_address(out.value).read()
        finally:
            free(out)

    def _check(self, code: int) -> None:
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
