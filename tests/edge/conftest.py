"""What several edge tests need: an ear on the links, raw MQTT sockets, a broker of another make."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import mqtt5
import pytest

from tallynode.edge.links import Links
from tallynode.lab.trial import free_ports

WAIT_S = 20.0  # seconds; far beyond what is needed, so that only a failure reaches it
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")


class Ear:
    """A peer's links, with all that they report in one queue."""

    def __init__(self, me: str = "reader") -> None:
        self.heard: asyncio.Queue[tuple[object, ...]] = asyncio.Queue()
        self.links = Links(
            me,
            on_up=lambda neighbour: self.heard.put_nowait(("up", neighbour)),
            on_down=lambda neighbour: self.heard.put_nowait(("down", neighbour)),
            on_message=lambda *message: self.heard.put_nowait(message),
        )

    async def __aenter__(self) -> "Ear":
        self._task = asyncio.create_task(self.links.run())
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.links.stop()
        await self._task

    async def next(self) -> tuple[object, ...]:
        """The next thing that happens."""
        return await asyncio.wait_for(self.heard.get(), WAIT_S)


class Raw:
    """A client that sends whatever bytes a test wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, address: tuple[str, int], *packets: bytes) -> "Raw":
        """Connect and send."""
        raw = cls(*await asyncio.open_connection(*address))
        raw.send(*packets)
        return raw

    def send(self, *packets: bytes) -> None:
        """Send bytes."""
        self.writer.write(b"".join(packets))

    async def packet(self) -> mqtt5.Packet:
        """The next MQTT 5 packet from the server."""
        return mqtt5.read(memoryview(await self.raw_packet()))[0]

    async def raw_packet(self) -> bytes:
        """The next packet (shorter than 128 bytes) from the server, as it came."""
        header = await asyncio.wait_for(self.reader.readexactly(2), WAIT_S)
        return header + await self.reader.readexactly(header[1])

    async def rest(self) -> bytes:
        """All that comes until the server closes the connection."""
        try:
            return await asyncio.wait_for(self.reader.read(-1), WAIT_S)
        except ConnectionResetError:
            return b""

    def close(self) -> None:
        """Hang up."""
        self.writer.close()


@pytest.fixture
def new_ear() -> type[Ear]:
    """Makes an Ear."""
    return Ear


@pytest.fixture
def raw() -> type[Raw]:
    """Makes a Raw client."""
    return Raw


@pytest.fixture
def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on just now."""
    (port,) = free_ports(1)
    return port


@pytest.fixture
async def stock_mosquitto(tmp_path: Path, free_port: int) -> AsyncIterator[tuple[str, int]]:
    """(host, port) of a mosquitto that anybody may read and write, as for a shared broker."""
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed")
    config = tmp_path / "stock.conf"
    user = "user root\n" if os.geteuid() == 0 else ""
    config.write_text(f"listener {free_port} 127.0.0.1\nallow_anonymous true\n{user}")
    process = await asyncio.create_subprocess_exec(
        MOSQUITTO, "-c", str(config), stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    async with asyncio.timeout(WAIT_S):
        while b"running" not in await process.stderr.readline():
            assert process.returncode is None
    yield "127.0.0.1", free_port
    process.terminate()
    await process.communicate()
