"""A peer's neighbourhood, on a device whose network comes and goes."""

import asyncio
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tallynode.config import Mesh
from tallynode.edge.discovery import AddressBook
from tallynode.edge.links import Links
from tallynode.edge.neighbourhood import Neighbourhood
from tallynode.edge.outbox import Outbox

WAIT_S = 30.0  # seconds; far beyond what is needed, so that only a failure reaches it

# A peer that listens everywhere, run inside a network namespace; its log is what it says.
PEER = """
import asyncio, sys
from pathlib import Path
from tallynode.config import Mesh
from tallynode.edge import neighbourhood
from tallynode.edge.links import Links

neighbourhood.REFRESH_S = 0.2

async def main():
    name, folder = sys.argv[1:]
    peers = [{"name": "a"}, {"name": "b"}]
    mesh = Mesh.model_validate(
        {"mesh": "m", "listen": "0.0.0.0", "insecure": "lab-network", "peers": peers}
    )
    links = Links(name, on_up=print, on_down=print, on_message=print)
    links.set_address = lambda name, host, port: print("found", host, flush=True)
    around = neighbourhood.Neighbourhood(
        mesh, name, {"a", "b"} - {name}, links, Path(folder) / "addresses.json"
    )
    await around.start("0.0.0.0", 1883)
    await asyncio.Event().wait()

asyncio.run(main())
"""


class Device:
    """A peer's process inside a namespace."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.text = ""

    async def says(self, what: str) -> None:
        """Wait until its next lines say this."""
        assert self._process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            while True:
                line = (await self._process.stdout.readline()).decode()
                self.text += line
                assert line, self.text
                if what in line:
                    return


@asynccontextmanager
async def device(name: str, namespace: str, folder: Path) -> AsyncIterator[Device]:
    """A peer that runs until the end of the block."""
    process = await asyncio.create_subprocess_exec(
        *("ip", "netns", "exec", namespace, sys.executable, "-c", PEER, name, str(folder)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield Device(process)
    finally:
        process.kill()
        await process.wait()


@pytest.fixture
def ip(namespace: str) -> Callable[[str], object]:
    """Changes the namespace's network, all of which is on its loopback interface."""
    return lambda words: subprocess.run(["ip", "-n", namespace, *words.split()], check=True)


@pytest.mark.privileged
async def test_a_peer_follows_its_devices_addresses(
    namespace: str, ip: Callable[[str], object], tmp_path: Path
) -> None:
    """Who boots before its network says so once, and is found at each address that it gets."""
    async with device("a", namespace, tmp_path) as early, device("b", namespace, tmp_path) as other:
        await early.says("no network yet")
        await other.says("found 127.0.0.1")
        ip("addr add 10.9.0.7/24 dev lo")
        await early.says("announced anew")
        await other.says("found 10.9.0.7")
        ip("addr del 10.9.0.7/24 dev lo")
        ip("addr add 10.9.0.8/24 dev lo")
        await other.says("found 10.9.0.8")
        assert early.text.count("no network yet") == 1
        ip("addr del 127.0.0.1/8 dev lo")
        ip("addr del 10.9.0.8/24 dev lo")
        await early.says("this device has no address")
        ip("addr add 10.9.0.9/24 dev lo")
        await early.says("announced anew")
        assert early.text.count("this device has no address") == 1
        assert "Traceback" not in early.text + other.text


async def test_only_an_address_that_worked_is_kept_and_at_once(tmp_path: Path) -> None:
    """A false announcement is not remembered; where a link came up is, before the end."""
    mesh = Mesh.model_validate(
        {"mesh": f"m-{secrets.token_hex(4)}", "peers": [{"name": "a"}, {"name": "b"}]}
    )
    path = tmp_path / "addresses.json"
    box = Outbox("127.0.0.1", 0)
    host, port = await box.start()
    up = asyncio.Event()
    links = Links("a", on_up=lambda _: up.set(), on_down=lambda _: None, on_message=print)
    around = Neighbourhood(mesh, "a", {"b"}, links, path)
    running = asyncio.create_task(links.run())
    await around.start("127.0.0.1", 1)
    try:
        around._found("b", "127.0.0.1", 9)
        around.save()
        assert not path.exists()
        around._found("b", host, port)
        await asyncio.wait_for(up.wait(), WAIT_S)
        around.reached("b")
        async with asyncio.timeout(WAIT_S):
            while not path.exists():  # noqa: ASYNC110  the disk has no event to wait for
                await asyncio.sleep(0.01)
        assert AddressBook(path).get("b") == (host, port)
    finally:
        await around.stop()
        await links.stop()
        await running
        await box.stop()
