"""Attempts on a peer's outbox by whoever may not: real sockets, real tools, one verdict each.

An attempt is refused when the outbox ends it, or answers it with an MQTT refusal, and no byte of a
ballot came out and none went in.
"""

import asyncio
import shutil
import ssl
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import mqtt5
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

OWNER_TOPIC = "v/a"  # where the besieged peer publishes its own ballots
FORGED = b"forged"
PATIENCE_S = 8.0  # seconds; longer than every bound of the outbox
CONNECT_5 = mqtt5.ConnectPacket(client_id="x", clean_start=True).write()
CONNECT_311 = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x0f\x00\x01x"
SUBSCRIBE_ALL = mqtt5.SubscribePacket(1, [mqtt5.TopicFilter("#")]).write()
HUGE = b"\x30\xff\xff\xff\x77\x00\x01t"  # PUBLISH that announces 250 MB and begins
REFUSALS = 0x80  # reason codes from here on
HALF_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An outbox, and the keys that an attacker has."""

    host: str
    port: int
    certificate: Path  # of the outbox, as PEM
    pinned: Path  # key and certificate of a pinned neighbour, as PEM
    unpinned: Path
    child: Path  # signed by the pinned neighbour's key
    second: Path  # another certificate of that key


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of an attempt."""

    refused: bool
    how: str
    worst_ms: float  # until the outbox ended it; the slowest where there were many


Attempt = Callable[[Target], Awaitable[Verdict]]


Pem = Callable[[Target], Path | None]


def _raw(pem: Pem | None, *packets: bytes, old: bool = False) -> Attempt:
    """One connection that sends packets: in plain (pem None), or over TLS with or without a key."""

    async def attempt(target: Target) -> Verdict:
        context = None if pem is None else tls(pem(target))
        if context is not None and old:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        return await _converse(target, context, b"".join(packets))

    return attempt


async def _converse(target: Target, context: ssl.SSLContext | None, sent: bytes) -> Verdict:
    began = time.perf_counter()
    received, how = b"", "closed"
    try:
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection(target.host, target.port, ssl=context)
            writer.write(sent)
            while not _mqtt_refusal(received) and (data := await reader.read(1 << 16)):
                received += data
            writer.close()
    except TimeoutError:
        how = "still open"
    except ssl.SSLError as error:
        how = (error.reason or "TLS broken off").replace("_", " ").lower()
    except OSError as error:
        how = (error.strerror or "connection reset").lower()
    ms = 1000 * (time.perf_counter() - began)
    leaked = b"v/" in received or b"\x00\x01h" in received
    refusal = _mqtt_refusal(received)
    return Verdict(refused=how != "still open" and not leaked, how=refusal or how, worst_ms=ms)


def _mqtt_refusal(received: bytes) -> str:
    """The reason in the last whole MQTT 5 packet, if that is a refusal."""
    last = None
    while received:
        try:
            last, size = mqtt5.read(memoryview(received))
        except (ValueError, IndexError):
            return ""
        received = received[size:]
    if isinstance(last, mqtt5.DisconnectPacket | mqtt5.PubAckPacket):
        return last.reason_code.name.lower() if int(last.reason_code) >= REFUSALS else ""
    return ""


def _flood(count: int, per_s: float, sent: bytes, pem: bool = False) -> Attempt:
    """Many connections at a rate, each of which then sends this and waits."""

    async def attempt(target: Target) -> Verdict:
        began = time.perf_counter()
        context = tls(target.unpinned) if pem else None
        tasks = []
        for i in range(count):
            await asyncio.sleep(max(0.0, began + i / per_s - time.perf_counter()))
            tasks.append(asyncio.ensure_future(_converse(target, context, sent)))
        verdicts = await asyncio.gather(*tasks)
        at_once = sum(verdict.worst_ms < 1000 for verdict in verdicts)
        left = sum(not verdict.refused for verdict in verdicts)
        rest = f"{left} still open after {PATIENCE_S:g} s" if left else "the rest in time"
        return Verdict(
            refused=not left,
            how=f"{at_once} of {count} closed within a second, {rest}",
            worst_ms=max(verdict.worst_ms for verdict in verdicts),
        )

    return attempt


def _tool(program: str, version: str, key: str) -> Attempt:
    """mosquitto_sub, which must get nothing, or mosquitto_pub, which must change nothing."""

    async def attempt(target: Target) -> Verdict:
        binary = shutil.which(program)
        if binary is None:
            return Verdict(refused=False, how=f"{program} is not installed", worst_ms=0.0)
        words = [
            binary,
            "-V",
            version,
            "-h",
            target.host,
            "-p",
            str(target.port),
            *_keys(target, key),
        ]
        if program == "mosquitto_sub":
            words += ["-t", "#", "-C", "1", "-W", "1"]  # until then it tries again and again
        else:
            words += ["-t", OWNER_TOPIC, "-m", FORGED.decode(), "-r"]
        began = time.perf_counter()
        done = await asyncio.to_thread(_run, words)
        ms = 1000 * (time.perf_counter() - began)
        says = done.stderr.decode(errors="replace").strip().splitlines()
        return Verdict(
            refused=not done.stdout and not await _is_forged(target),
            how=says[-1] if says else f"exit code {done.returncode}",
            worst_ms=ms,
        )

    return attempt


async def _is_forged(target: Target) -> bool:
    """Whether what we wrote stands where the owner's ballot should."""
    subscribe = mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(OWNER_TOPIC)]).write()
    context = tls(target.pinned)
    reader, writer = await asyncio.open_connection(target.host, target.port, ssl=context)
    writer.write(CONNECT_5 + subscribe)
    received = b""
    async with asyncio.timeout(PATIENCE_S):
        while OWNER_TOPIC.encode() not in received:
            received += await reader.readexactly(1)
        received += await reader.read(1024)
    writer.close()
    return FORGED in received


def _write(topic: str) -> Attempt:
    """A pinned neighbour that writes, and asks for the answer in which mosquitto refuses."""
    once = mqtt5.QoS.AT_LEAST_ONCE
    packet = mqtt5.PublishPacket(topic, FORGED, retain=True, qos=once, packet_id=1).write()
    publish = _raw(lambda target: target.pinned, CONNECT_5, packet)

    async def attempt(target: Target) -> Verdict:
        verdict = await publish(target)
        return replace(verdict, refused=verdict.refused and not await _is_forged(target))

    return attempt


def _run(words: Sequence[str]) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(words, capture_output=True, timeout=PATIENCE_S, check=False)


def _keys(target: Target, key: str) -> list[str]:
    if key == "plaintext":
        return []
    own = {"pinned": target.pinned, "unpinned": target.unpinned}.get(key)
    shown = ["--cert", str(own), "--key", str(own)] if own else []
    return ["--cafile", str(target.certificate), "--insecure", *shown]


def _paho(version: MQTTProtocolVersion, key: str) -> Attempt:
    """paho as a user would write it: connect, subscribe to everything, publish."""

    async def attempt(target: Target) -> Verdict:
        return await asyncio.to_thread(_paho_blocking, target, version, key)

    return attempt


def _paho_blocking(target: Target, version: MQTTProtocolVersion, key: str) -> Verdict:
    client = paho.Client(CallbackAPIVersion.VERSION2, "paho", protocol=version)
    greeted: list[str] = []
    got: list[bytes | bytearray] = []
    client.on_connect = lambda _c, _u, _f, code, _p: greeted.append(str(code))
    client.on_message = lambda _c, _u, message: got.append(message.payload)
    if key != "plaintext":
        client.tls_set_context(tls(target.unpinned if key == "unpinned" else None))
    began = time.perf_counter()
    how = "closed"
    try:
        client.connect(target.host, target.port)
        client.subscribe("#")
        client.publish(OWNER_TOPIC, FORGED, retain=True)
        while client.loop(0.1) == paho.MQTT_ERR_SUCCESS and not got:
            if time.perf_counter() - began > PATIENCE_S:
                how = "still open"
                break
    except ssl.SSLError as error:
        how = (error.reason or "TLS broken off").replace("_", " ").lower()
    except OSError as error:
        how = (error.strerror or "connection reset").lower()
    ms = 1000 * (time.perf_counter() - began)
    refused = not got and "Success" not in greeted and how != "still open"
    return Verdict(refused=refused, how=how, worst_ms=ms)


def tls(pem: Path | None) -> ssl.SSLContext:
    """TLS as a client that believes everybody, with a key or without one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if pem is not None:
        context.load_cert_chain(pem)
    return context


_SUB = CONNECT_5 + SUBSCRIBE_ALL
_MQTT = {"311": MQTTProtocolVersion.MQTTv311, "5": MQTTProtocolVersion.MQTTv5}

ATTEMPTS: dict[str, Attempt] = {
    "no certificate": _raw(lambda _: None, _SUB),
    "an unpinned certificate": _raw(lambda t: t.unpinned, _SUB),
    "a child certificate of a pinned key": _raw(lambda t: t.child, _SUB),
    "a second certificate of a pinned key": _raw(lambda t: t.second, _SUB),
    "plaintext, MQTT 5": _raw(None, _SUB),
    "plaintext, MQTT 3.1.1": _raw(None, CONNECT_311),
    "TLS 1.2 with a pinned certificate": _raw(lambda t: t.pinned, _SUB, old=True),
    "pinned, writes the owner's ballot": _write(OWNER_TOPIC),
    "pinned, writes on another topic": _write("x/y"),
    "pinned, an unfinished 250 MB packet": _raw(lambda t: t.pinned, CONNECT_5, HUGE),
    "plaintext, an unfinished 250 MB packet": _raw(None, HUGE),
    "pinned, CONNECT never sent": _raw(lambda t: t.pinned),
    "200 silent connections (slow loris)": _flood(200, 1000, b""),
    "200 handshakes begun, never finished": _flood(200, 1000, HALF_HELLO),
    "500 connections a second, plaintext, 4 s": _flood(2000, 500, CONNECT_5),
    "500 connections a second, unpinned TLS, 2 s": _flood(1000, 500, CONNECT_5, pem=True),
    **{
        f"{program}, MQTT {version}, {key}": _tool(program, f"mqttv{version}", key)
        for program in ("mosquitto_sub", "mosquitto_pub")
        for version in ("311", "5")
        for key in ("plaintext", "no certificate", "unpinned")
    },
    "mosquitto_pub, MQTT 5, pinned": _tool("mosquitto_pub", "mqttv5", "pinned"),
    **{
        f"paho, MQTT {version}, {key}": _paho(number, key)
        for version, number in _MQTT.items()
        for key in ("plaintext", "no certificate", "unpinned")
    },
}
