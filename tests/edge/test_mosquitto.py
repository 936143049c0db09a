"""The supervised mosquitto: the real program, started, killed and outlived."""

import asyncio
import errno
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tallynode.edge import mosquitto as mosquitto_module
from tallynode.edge.broker import make_broker
from tallynode.edge.mosquitto import MosquittoBroker
from tallynode.edge.outbox import Outbox
from tallynode.errors import ConfigError, IoError

WAIT_S = 20.0

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(
        not (shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")),
        reason="mosquitto is not installed",
    ),
]

PEER = """
import asyncio, pathlib, sys
from tallynode.edge.mosquitto import MosquittoBroker

async def main():
    broker = MosquittoBroker(name="p", address=("127.0.0.1", 0), run_dir=pathlib.Path(sys.argv[1]))
    await broker.start()
    print(broker.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def wait_for_end(process: int) -> bool:
    """Wait until a process that is not ours to reap has ended."""
    return bool(select.select([process], [], [], WAIT_S)[0])


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[MosquittoBroker]:
    """A running mosquitto on a port of its choice."""
    made = make_broker(
        "mosquitto", name="pi-1", mesh="m", address=("127.0.0.1", 0), run_dir=tmp_path
    )
    assert isinstance(made, MosquittoBroker)
    await made.start()
    yield made
    await made.stop()


async def test_it_serves_what_its_peer_publishes(broker: MosquittoBroker, new_ear: Any) -> None:
    """Retained and live messages reach a link, and only our own end is metered."""
    await broker.publish("b", b"old", retain=True)
    async with new_ear() as ear:
        ear.links.subscribe("n", ["b", "c"])
        ear.links.set_address("n", "127.0.0.1", broker._port)
        assert await ear.next() == ("up", "n")
        assert await ear.next() == ("n", "b", b"old")
        await broker.publish("c", b"new", retain=False)
        assert await ear.next() == ("n", "c", b"new")
    traffic = broker.traffic()
    assert traffic.source == "tcp-info (own ends)"
    assert traffic.sent > 200


async def test_nobody_else_may_write(broker: MosquittoBroker, new_ear: Any, raw: Any) -> None:
    """What a stranger publishes is not delivered, and a wrong password is refused."""
    port = str(broker._port)
    await broker.publish("b", b"true", retain=True)
    for extra in ([], ["-u", "owner", "-P", "guess"]):
        publish = await asyncio.create_subprocess_exec(
            *("mosquitto_pub", "-p", port, "-t", "b", "-m", "forged", "-r", "-q", "1", *extra),
            stderr=asyncio.subprocess.DEVNULL,
        )
        await asyncio.wait_for(publish.wait(), WAIT_S)
    async with new_ear() as ear:
        ear.links.subscribe("n", ["b"])
        ear.links.set_address("n", "127.0.0.1", broker._port)
        assert await ear.next() == ("up", "n")
        assert await ear.next() == ("n", "b", b"true")


async def test_it_is_started_again_and_knows_what_it_knew(
    broker: MosquittoBroker, new_ear: Any
) -> None:
    """A mosquitto that dies is replaced on the same port, with the retained messages."""
    await broker.publish("b", b"kept", retain=True)
    await broker.publish("c", b"dropped", retain=True)
    await broker.publish("c", b"", retain=True)
    async with new_ear() as ear:
        ear.links.subscribe("n", ["#"])
        ear.links.set_address("n", "127.0.0.1", broker._port)
        assert await ear.next() == ("up", "n")
        assert await ear.next() == ("n", "b", b"kept")
        before = broker.pid
        assert before is not None
        os.kill(before, signal.SIGKILL)
        assert await ear.next() == ("down", "n")
        await broker.publish("d", b"meanwhile", retain=True)
        assert await ear.next() == ("up", "n")
        kept = {await ear.next(), await ear.next()}
        assert kept == {("n", "b", b"kept"), ("n", "d", b"meanwhile")}
        assert broker.pid != before


async def test_a_fork_that_fails_is_tried_again(
    broker: MosquittoBroker, new_ear: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that is short of memory or processes for a moment gets its broker back."""
    fork, refusals = asyncio.create_subprocess_exec, [errno.EAGAIN, errno.ENOMEM]

    async def refused(*words: Any, **how: Any) -> asyncio.subprocess.Process:
        if refusals:
            raise OSError(refusals.pop(), "no fork")
        return await fork(*words, **how)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refused)
    async with new_ear() as ear:
        ear.links.set_address("n", "127.0.0.1", broker._port)
        assert await ear.next() == ("up", "n")
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGKILL)
        assert await ear.next() == ("down", "n")
        assert await ear.next() == ("up", "n")
    assert refusals == []


async def test_it_runs_without_privileges(broker: MosquittoBroker) -> None:
    """Started by root or by a user, the broker that strangers talk to is never root."""
    assert 0 not in psutil.Process(broker.pid).uids()


async def test_stop_ends_the_child(broker: MosquittoBroker) -> None:
    """After `stop` the process is gone, and stopping again is harmless."""
    assert broker.pid is not None
    handle = os.pidfd_open(broker.pid)
    await broker.stop()
    assert wait_for_end(handle)
    os.close(handle)
    assert broker.pid is None


def test_it_dies_with_a_peer_that_is_killed(tmp_path: Path) -> None:
    """SIGKILL of the peer, which can run no code of its own any more, ends mosquitto too."""
    peer = subprocess.Popen(
        [sys.executable, "-c", PEER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert peer.stdout is not None
    try:
        said = next(line for line in peer.stdout if line.strip().isdigit())  # beside log lines
        handle = os.pidfd_open(int(said))
    finally:
        peer.kill()
        peer.communicate()
    assert wait_for_end(handle)
    os.close(handle)


async def test_port_in_use_is_a_clear_error(tmp_path: Path) -> None:
    """A port that is taken is named, and nothing is left running."""
    box = Outbox("127.0.0.1", 0)
    _, port = await box.start()
    broker = MosquittoBroker(name="p", address=("127.0.0.1", port), run_dir=tmp_path)
    with pytest.raises(IoError, match=f"127.0.0.1:{port}: port in use"):
        await broker.start()
    assert broker.pid is None
    await box.stop()


async def test_a_missing_program_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without mosquitto the error says how to get it and what else would do."""
    monkeypatch.setattr(mosquitto_module.shutil, "which", lambda *a, **k: None)
    broker = MosquittoBroker(name="p", address=("127.0.0.1", 0), run_dir=tmp_path)
    with pytest.raises(IoError, match=r"apt install mosquitto.*broker: embedded"):
        await broker.start()


async def test_a_file_in_the_way_is_a_clear_error(tmp_path: Path) -> None:
    """A run folder that cannot be written is named."""
    (tmp_path / "mosquitto-p").write_text("in the way")
    broker = MosquittoBroker(name="p", address=("127.0.0.1", 0), run_dir=tmp_path)
    with pytest.raises(IoError, match="mosquitto-p: cannot write"):
        await broker.start()


@pytest.mark.parametrize("kind", ["emqx", "http://h:1", "mqtt://", "mqtt://h:99999", "mqtt://h:x"])
def test_an_unknown_kind_of_broker_is_a_configuration_error(kind: str, tmp_path: Path) -> None:
    """What is no broker is refused with the kinds that there are, or with its odd port."""
    with pytest.raises(ConfigError, match="broker: "):
        make_broker(kind, name="p", mesh="m", address=("127.0.0.1", 0), run_dir=tmp_path)
