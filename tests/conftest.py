"""What tests of several rooms need."""

import os
import secrets
import subprocess
from collections.abc import Iterator

import pytest


@pytest.fixture
def namespace() -> Iterator[str]:
    """A new network namespace with its loopback up, gone after the test."""
    name = f"tn-{os.getpid()}-{secrets.token_hex(2)}"
    try:
        subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("this machine does not let us make a network namespace")
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)
