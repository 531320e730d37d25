"""The wrapper and its command line against a relay that really runs; started by crates/ffi/tests/run."""

import os
import selectors
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import qpc_client

SERVER = os.environ["QPC_TEST_SERVER"]
CA_CERT = os.environ["QPC_TEST_CA"]
ADDRESS = os.environ["QPC_TEST_ADDRESS"]
SCRIPT = Path(qpc_client.__file__)


class CommandLine(unittest.TestCase):
    """The documented commands."""

    def run_client(self, state, *arguments, **options):
        environment = dict(os.environ, QPC_STATE_DIR=str(state))
        command = [sys.executable, str(SCRIPT), "--server", SERVER, "--ca-cert", CA_CERT, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, **options)

    def test_send_and_receive(self):
        with tempfile.TemporaryDirectory() as state:
            for user in ("pia", "pol"):
                done = self.run_client(state, "--username", user, "--password", "secret", "--register")
                self.assertEqual((done.returncode, done.stderr), (0, ""))
            text = "hello from Python \u20ac"
            done = self.run_client(state, "--username", "pia", "--password", "secret", "--send", "pol", "--message", text)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            bob = ("--username", "pol", "--password", "secret", "--receive", "--timeout")
            done = self.run_client(state, *bob, "5000")
            self.assertEqual((done.returncode, done.stdout), (0, text + "\n"))
            done = self.run_client(state, *bob, "0")
            self.assertEqual((done.returncode, done.stdout), (qpc_client.TIMEOUT, ""))
            done = self.run_client(state, "--username", "pol", "--password", "wrong", "--receive")
            self.assertEqual(done.returncode, qpc_client.AUTH_FAILED)

    def test_no_relay(self):
        done = subprocess.run(
            [sys.executable, str(SCRIPT), "--server", "127.0.0.1:1", "--ca-cert", "/nowhere", "--username", "a", "--password", "b"],
            capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, qpc_client.ERROR)
        self.assertIn("/nowhere", done.stderr)


class Wrapper(unittest.TestCase):
    """The class."""

    def test_errors_are_exceptions(self):
        with tempfile.TemporaryDirectory() as state:
            os.environ["QPC_STATE_DIR"] = state
            with qpc_client.Client(SERVER, CA_CERT) as client:
                with self.assertRaises(qpc_client.QpcError) as caught:
                    client.send("pol", "too early")
                self.assertEqual(caught.exception.code, qpc_client.NOT_CONNECTED)
                client.register("pat", "secret")
                with self.assertRaises(qpc_client.QpcError) as caught:
                    client.send("no-such-user", "hello")
                self.assertEqual(caught.exception.code, qpc_client.ERROR)
                self.assertIn("no-such-user", str(caught.exception))
                self.assertEqual(client.receive(0), [])
            client.disconnect()

    def test_messages_receipts_devices_and_password(self):
        with tempfile.TemporaryDirectory() as state:
            options = qpc_client.Options(state_dir=state, key_file=True, device_label="kitchen", timeout_ms=20000)
            with qpc_client.Client.connect_address(ADDRESS, options) as pam, \
                    qpc_client.Client.connect_address(ADDRESS, options) as pip:
                pam.register("pam", "secret")
                pip.register("pip", "secret")
                body = bytes(range(256))
                sent = pam.send_message("pip", body, receipt=True)
                self.assertTrue(sent.durable)
                [message] = pip.receive_messages(30000)
                self.assertEqual((message.sender, message.kind, message.body, message.id),
                                 ("pam", qpc_client.Kind.BINARY, body, sent.id))
                self.assertEqual(pip.receive_messages(0), [])
                [receipt] = pam.receive_messages(30000)
                self.assertEqual((receipt.sender, receipt.kind, receipt.receipts), ("pip", qpc_client.Kind.RECEIPT, [sent.id]))
                self.assertEqual(pam.safety_number("pip"), pip.safety_number("pam"))
                [device] = pam.devices()
                self.assertEqual((device.label, device.own, device.online), ("kitchen", True, True))
                with self.assertRaises(qpc_client.QpcError):
                    pam.revoke_device(bytes(16))
                with self.assertRaises(qpc_client.QpcError):
                    pam.accept_identity("pip")
                with self.assertRaises(qpc_client.QpcError) as caught:
                    pam.change_password("wrong", "new")
                self.assertEqual(caught.exception.code, qpc_client.AUTH_FAILED)
                pam.change_password("secret", "new")
                pam.login("pam", "new")
            with self.assertRaises(ValueError):
                qpc_client.Client.open(ADDRESS, "pam", qpc_client.Options(keep_alive_s=0))

    def test_a_loop_of_its_own(self):
        with tempfile.TemporaryDirectory() as state, selectors.DefaultSelector() as selector:
            options = qpc_client.Options(state_dir=state, key_file=True)
            for user in ("pru", "pet"):
                with qpc_client.Client.connect_address(ADDRESS, options) as client:
                    client.register(user, "secret")
            with qpc_client.Client.open(ADDRESS, "pru", options) as pru, qpc_client.Client.open(ADDRESS, "pet", options) as pet:
                sent = pru.send_message("pet", "no hurry", receipt=True, queued=True)
                selector.register(pru, selectors.EVENT_READ)
                selector.register(pet, selectors.EVENT_READ)
                seen = []
                kinds = qpc_client.EventKind
                # A receipt may be here before the one who gave it is told of the message.
                while not {kinds.MESSAGE, kinds.SENT, kinds.RECEIPT} <= {event.kind for event in seen}:
                    ready = selector.select(60)
                    self.assertTrue(ready, f"only {seen}")
                    for key, _ in ready:
                        seen.extend(key.fileobj.events())
                by_kind = {event.kind: event for event in seen}
                self.assertEqual(by_kind[kinds.MESSAGE].message.text, "no hurry")
                self.assertEqual(by_kind[kinds.SENT].id, sent.id)
                receipt = by_kind[kinds.RECEIPT]
                self.assertEqual((receipt.user, receipt.id), ("pet", sent.id))


if __name__ == "__main__":
    unittest.main()
