"""The wrapper and its command line against a relay that really runs; started by crates/ffi/tests/run."""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import qpc_client

SERVER = os.environ["QPC_TEST_SERVER"]
CA_CERT = os.environ["QPC_TEST_CA"]
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


if __name__ == "__main__":
    unittest.main()
