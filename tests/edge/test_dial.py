"""Dialling somebody who resets the connection between TCP and TLS."""

import asyncio
import select
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from tallynode.edge.admission import Admission
from tallynode.edge.dial import ConnectionFailed, Endpoint, dial
from tallynode.edge.identity import load_or_make
from tallynode.edge.meter import Meter

AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset


@pytest.mark.parametrize("noticed", [False, True])
@pytest.mark.parametrize("sent", [b"", b"\x16\x03"])
async def test_a_reset_before_the_handshake_is_a_failed_connection(
    sent: bytes, noticed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever came before the reset, and whether its error was read: nothing else is raised."""
    loop: Any = asyncio.get_running_loop()
    connect = loop.sock_connect

    async def connect_and_be_reset(sock: socket.socket, address: Any) -> None:
        await connect(sock, address)
        near, _ = listening.accept()
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        near.sendall(sent)
        near.close()
        waiting = select.poll()
        waiting.register(sock, 0)  # POLLERR or POLLHUP
        assert waiting.poll(20_000)
        if noticed:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    monkeypatch.setattr(loop, "sock_connect", connect_and_be_reset)
    tls = Admission(load_or_make(tmp_path / "a"), {}, tmp_path).link_to("b")
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        pytest.raises(ConnectionFailed, match=r"reset|not connected|closed before"),
    ):
        await dial(Endpoint(*listening.getsockname()), Meter(), tls)
