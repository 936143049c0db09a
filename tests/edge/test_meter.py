"""The byte meter against the kernel's own counters of an interface."""

import asyncio
import json
import socket
import subprocess
import sys

import pytest

from tallynode.edge.meter import Meter, Traffic, frame_overhead, read_socket

TOLERANCE = 0.03

# Run inside a network namespace whose only traffic is ours.
MESH = """
import asyncio, json, random, sys
from pathlib import Path
from tallynode.edge.links import Links
from tallynode.edge.outbox import Outbox

READERS, MESSAGES, ETHERNET = 3, 300, 14
STATISTICS = Path("/sys/class/net/lo/statistics")

def interface():
    # the loopback device counts packets without the Ethernet header that they carry
    packets = int((STATISTICS / "tx_packets").read_text())
    return int((STATISTICS / "tx_bytes").read_text()) + ETHERNET * packets

async def main():
    chance, heard, meshes = random.Random(1), asyncio.Semaphore(0), []
    outbox = Outbox("127.0.0.1", 0)
    address = await outbox.start()
    await outbox.publish("t", b"first", retain=True)
    for i in range(READERS):
        links = Links(
            f"reader-{i}",
            on_up=lambda neighbour: None,
            on_down=lambda neighbour: None,
            on_message=lambda *message: heard.release(),
        )
        links.subscribe("n", ["t"])
        links.set_address("n", *address)
        meshes.append((links, asyncio.create_task(links.run())))
    for _ in range(READERS):
        await heard.acquire()
    for _ in range(MESSAGES):
        payload = chance.randbytes(chance.randint(100, 2000))
        await outbox.publish("t", payload, retain=False)
        for _ in range(READERS):
            await heard.acquire()
    for links, task in meshes:
        await links.stop()
        await task
    await outbox.stop()
    total = sum((links.traffic() for links, _ in meshes), outbox.traffic())
    figures = {"sent": total.sent, "received": total.received, "interface": interface()}
    print(json.dumps(figures | {"source": total.source}))

if sys.argv[1] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


@pytest.mark.privileged
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_wire_bytes_are_what_the_interface_counts(namespace: str, loop: str) -> None:
    """The sum over all ends of TCP_INFO is the interface's count, within three per cent."""
    command = ["ip", "netns", "exec", namespace, sys.executable, "-c", MESH, loop]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    figures = json.loads(done.stdout)
    assert figures["source"] == "tcp-info"
    assert figures["interface"] > 900_000
    assert figures["sent"] == pytest.approx(figures["interface"], rel=TOLERANCE)
    assert figures["received"] == pytest.approx(figures["interface"], rel=TOLERANCE)


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO is read on Linux only")
async def test_a_closed_connection_still_counts() -> None:
    """What a connection moved is in the sum before and after it is gone."""
    meter = Meter()
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    handle = meter.add(writer.get_extra_info("socket"))
    writer.write(bytes(1000))
    await writer.drain()
    before = meter.traffic()
    assert before.sent >= 1000 + 66
    meter.remove(handle)
    meter.remove(handle)
    writer.close()
    after = meter.traffic()
    assert after.sent == before.sent + 66
    assert after.received == before.received + 66
    server.close()


def test_a_socket_that_is_gone_reads_as_nothing() -> None:
    """A descriptor closed under our hands costs a reading and no crash."""
    sock = socket.socket()
    sock.close()
    assert read_socket(sock) == (0, 0)


def test_frames_cost_what_their_headers_do() -> None:
    """66 bytes over IPv4, 86 over IPv6, 12 less without TCP timestamps."""
    with socket.socket(socket.AF_INET) as four, socket.socket(socket.AF_INET6) as six:
        assert frame_overhead(four) == 66
        assert frame_overhead(six) == 86
        assert frame_overhead(four, timestamps=False) == 54


def test_sums_name_the_weaker_source() -> None:
    """Exact and partial counts make a partial sum."""
    exact, partial = Traffic(1, 2, "tcp-info"), Traffic(10, 20, "tcp-info (own ends)")
    assert exact + partial == Traffic(11, 22, "tcp-info (own ends)")
    assert partial + Traffic(0, 0, "none") == Traffic(10, 20, "none")
