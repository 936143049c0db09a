"""One MQTT connection of ours to a broker that is not in this process.

aiomqtt speaks the protocol, on a socket that we have connected ourselves (dial.py says why).
paho (below aiomqtt) has one method that makes its socket: it is replaced on the one object. That,
paho's method that closes it and aiomqtt's future of the connection's end are the only private names
that this file relies on; tests/edge pin them.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine
from typing import Any, NoReturn

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type
from tenacity.wait import wait_random_exponential

from tallynode.edge.dial import (
    CONNECT_WITHIN_S,
    PACKET_IN_MAX,
    ConnectionFailed,
    Endpoint,
    Socket,
    Tls,
    TlsSocket,
    dial,
)
from tallynode.edge.meter import Meter

KEEPALIVE_S = 15  # seconds; a half-open link is noticed within twice this
BACKOFF_S = (0.05, 5.0)  # seconds: first and longest window of the random wait between attempts
CANCEL_AGAIN_S = 1.0  # seconds a cancelled task has to end before it is cancelled once more
STABLE_S = 5.0  # seconds; a connection that lived so long starts the backoff afresh

# A neighbour that goes is daily life and told by our callers; paho calls it an error each time.
_quiet = logging.getLogger("tallynode.mqtt")
_quiet.setLevel(logging.CRITICAL)

CONNECTION_ERRORS = (aiomqtt.MqttError, OSError)

Receive = Callable[[aiomqtt.Message], None]


@contextlib.asynccontextmanager
async def connected(
    endpoint: Endpoint,
    identifier: str,
    meter: Meter,
    *,
    receive: Receive | None = None,
    will: aiomqtt.Will | None = None,
    tls: Tls | None = None,
) -> AsyncIterator[aiomqtt.Client]:
    """An MQTT 5 connection, closed on leaving; `receive` is called in the loop for each message.

    Raises:
        MqttError, OSError: no connection; the text says why.
    """
    bugs: list[Exception] = []
    client = aiomqtt.Client(
        endpoint.host,
        endpoint.port,
        identifier=identifier,
        username=endpoint.username,
        password=endpoint.password,
        protocol=aiomqtt.ProtocolVersion.V5,
        logger=_quiet,
        will=will,
        clean_start=True,
        keepalive=KEEPALIVE_S,
        timeout=CONNECT_WITHIN_S,
        queue_type=_no_queue(receive, bugs),
        properties=_connect_properties(),
    )
    paho: Any = client._client
    sock = await dial(endpoint, meter, tls)
    paho._create_socket_connection = lambda: sock
    try:
        await _greet(client, sock, endpoint)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_exit(client)
            yield client
    finally:
        paho._sock_close()  # aiomqtt leaves the socket open where the greeting fails
        sock.release()
        if bugs:
            raise bugs[0]


async def serve(client: aiomqtt.Client, work: Coroutine[Any, Any, None]) -> None:
    """Do `work` until it fails or the connection ends; return if that was stable.

    Raises:
        MqttError, OSError: the connection ended early, so the next attempt should wait a while.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    working = asyncio.ensure_future(work)
    losing = asyncio.ensure_future(_lost(client))
    try:
        done, _ = await asyncio.wait({working, losing}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    except CONNECTION_ERRORS:
        if loop.time() - began < STABLE_S:
            raise
    finally:
        await end_tasks({working, losing})


async def end_tasks(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they end, whatever they end with.

    Once is not enough: a cancellation that comes together with an answer is swallowed by Python
    3.11's wait_for (gh-86296), and one that comes together with a lost connection is replaced by
    aiomqtt's error, after which we would connect anew.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)


async def _lost(client: aiomqtt.Client) -> None:
    await anext(client.messages)  # none comes, messages go to `receive`; the end is raised


async def keep_trying(
    live: Callable[[], Awaitable[None]],
    *,
    backoff: tuple[float, float],
    pause: Callable[[float], Awaitable[None]],
) -> NoReturn:
    """Run a connection's life over and over, waiting a random while after a failure (full jitter).

    Args:
        live: connects and serves; raises a CONNECTION_ERROR where that failed, and returns when a
            stable connection was lost, after which the next attempt comes at once.
        backoff: the first and the longest window, in seconds.
        pause: waits, or returns early where trying at once makes sense.
    """
    first_s, longest_s = backoff
    window = wait_random_exponential(multiplier=first_s, max=longest_s)

    def wait(state: RetryCallState) -> float:
        return first_s / 2 + window(state)  # never at once: a broker may close all it accepts

    async def attempt() -> None:
        try:
            await live()
        except CONNECTION_ERRORS:
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # the loss has hidden our cancellation
                raise asyncio.CancelledError from None
            raise

    while True:
        retrying = AsyncRetrying(
            wait=wait, sleep=pause, retry=retry_if_exception_type(CONNECTION_ERRORS)
        )
        await retrying(attempt)


async def _greet(client: aiomqtt.Client, sock: Socket, endpoint: Endpoint) -> None:
    """Exchange CONNECT and CONNACK; a broker that hangs up meanwhile fails us at once."""
    where = f"{endpoint.host}:{endpoint.port}"
    end = client._disconnected  # aiomqtt forgets an end that comes in the instant of the greeting
    greeting = asyncio.ensure_future(client.__aenter__())
    ended = asyncio.ensure_future(sock.ended.wait())
    try:
        await asyncio.wait({greeting, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not greeting.done():
            unmet = ", or has not met us yet" if isinstance(sock, TlsSocket) else ""
            raise ConnectionFailed(f"{where}: closed the connection during the greeting{unmet}")
        greeting.result()
        if end.done():
            raise ConnectionFailed(f"{where}: {end.exception() or 'closed the connection'}")
    except CONNECTION_ERRORS:
        if sock.refusal:
            raise ConnectionFailed(f"{where}: refused us: {sock.refusal}") from None
        raise
    finally:
        greeting.cancel()
        ended.cancel()
        await asyncio.gather(greeting, ended, return_exceptions=True)


def _connect_properties() -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.MaximumPacketSize = PACKET_IN_MAX
    return properties


def _no_queue(
    receive: Receive | None, bugs: list[Exception]
) -> type[asyncio.Queue[aiomqtt.Message]]:
    """A queue that hands messages on at once: what is not queued needs no bound, nor is it dropped.

    While `receive` works, the socket is not read, and TCP slows the sender down. What `receive`
    raises is our bug; paho and aiomqtt would take it for a lost connection, so `bugs` keeps it.
    """

    class Direct(asyncio.Queue[aiomqtt.Message]):
        def put_nowait(self, item: aiomqtt.Message) -> None:
            if receive is None:
                return
            try:
                receive(item)
            except Exception as bug:
                bugs.append(bug)
                raise

    return Direct
