"""MQTT packets as the outbox speaks them: version 5 through `mqtt5`, version 3.1.1 by hand.

The outbox is written for MQTT 5. Stock tools still greet with 3.1.1 (`mosquitto_sub` does unless
told otherwise), and a reader's half of that version is small: it is translated to and from the
packet objects of `mqtt5`, so that the server above knows one language. Both codecs take bytes from
strangers: they are given one whole packet of bounded length and raise ValueError or IndexError.
"""

from collections.abc import Sequence
from typing import Protocol

import mqtt5

CONNECT, SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT = 0x10, 0x82, 0xA2, 0xC0, 0xE0
CONNACK, PUBLISH, SUBACK, UNSUBACK = 0x20, 0x30, 0x90, 0xB0

_REMAINING_LENGTH_BYTES = 4  # bytes; the longest that MQTT allows
_GREETING_311 = b"\x00\x04MQTT\x04"
_GREETING_5 = b"\x00\x04MQTT\x05"
_CONNACK_311 = {  # MQTT 5 reason code: 3.1.1 return code
    int(mqtt5.ConnAckReasonCode.SUCCESS): 0,
    int(mqtt5.ConnAckReasonCode.CLIENT_ID_NOT_VALID): 2,
    int(mqtt5.ConnAckReasonCode.NOT_AUTHORIZED): 5,
}
_UNAVAILABLE_311 = 3  # return code
_FAILURE_311 = 0x80  # SUBACK


class Codec(Protocol):
    """One version of MQTT, from the server's side."""

    version: str

    def read(self, packet: bytes) -> mqtt5.Packet: ...
    def connack(self, packet: mqtt5.ConnAckPacket) -> bytes: ...
    def publish(self, topic: str, payload: bytes, *, retain: bool) -> bytes: ...
    def suback(self, packet: mqtt5.SubAckPacket) -> bytes: ...
    def unsuback(self, packet: mqtt5.UnsubAckPacket) -> bytes: ...
    def disconnect(self, reason: mqtt5.DisconnectReasonCode) -> bytes: ...


def packet_length(buffer: bytes | bytearray) -> int | None:
    """Length of the first packet in `buffer`, header included; None while that is unknown.

    Raises:
        ValueError: the length field is longer than MQTT allows.
    """
    length = 0
    for position, byte in enumerate(buffer[1 : 1 + _REMAINING_LENGTH_BYTES]):
        length |= (byte & 0x7F) << (7 * position)
        if byte < 0x80:
            return 2 + position + length
    if len(buffer) > _REMAINING_LENGTH_BYTES:
        raise ValueError("length field longer than four bytes")
    return None


def codec_for(packet: bytes) -> Codec:
    """The codec for a connection, by its first packet.

    Raises:
        ValueError: the packet is no CONNECT of a version that we speak.
    """
    body = packet[_header_size(packet) :]
    if packet[0] == CONNECT and body.startswith(_GREETING_5):
        return V5()
    if packet[0] == CONNECT and body.startswith(_GREETING_311):
        return V311()
    raise ValueError("not an MQTT 5 or 3.1.1 CONNECT")


class V5:
    """MQTT 5, all of it from the library."""

    version = "5"

    def read(self, packet: bytes) -> mqtt5.Packet:
        parsed, _ = mqtt5.read(memoryview(packet))
        return parsed

    def connack(self, packet: mqtt5.ConnAckPacket) -> bytes:
        return packet.write()

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> bytes:
        return mqtt5.PublishPacket(topic, payload, retain=retain).write()

    def suback(self, packet: mqtt5.SubAckPacket) -> bytes:
        return packet.write()

    def unsuback(self, packet: mqtt5.UnsubAckPacket) -> bytes:
        return packet.write()

    def disconnect(self, reason: mqtt5.DisconnectReasonCode) -> bytes:
        return mqtt5.DisconnectPacket(reason_code=reason).write()


class V311:
    """MQTT 3.1.1, as much of it as a subscriber uses (OASIS standard, chapter 3)."""

    version = "3.1.1"

    def read(self, packet: bytes) -> mqtt5.Packet:
        body = _Reader(packet, _header_size(packet))
        kind = packet[0]
        if kind == CONNECT:
            return _read_connect(body)
        if kind & 0xF0 == PUBLISH:
            return mqtt5.PublishPacket(body.text(), b"")  # to be refused: the rest is not read
        if kind == SUBSCRIBE:
            packet_id, filters = body.u16(), []
            while body.left():
                filters.append(mqtt5.TopicFilter(body.text(), retain_as_published=False))
                body.u8()  # the QoS asked for; we grant 0
            return mqtt5.SubscribePacket(packet_id, filters)
        if kind == UNSUBSCRIBE:
            packet_id, patterns = body.u16(), []
            while body.left():
                patterns.append(body.text())
            return mqtt5.UnsubscribePacket(packet_id, patterns)
        if kind == PINGREQ:
            return mqtt5.PingReqPacket()
        if kind == DISCONNECT:
            return mqtt5.DisconnectPacket()
        raise ValueError(f"packet type {kind:#x} is not a subscriber's")

    def connack(self, packet: mqtt5.ConnAckPacket) -> bytes:
        return bytes([CONNACK, 2, 0, _CONNACK_311.get(int(packet.reason_code), _UNAVAILABLE_311)])

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> bytes:
        name = topic.encode()
        body = len(name).to_bytes(2, "big") + name + payload
        return bytes([PUBLISH | retain]) + _length_field(len(body)) + body

    def suback(self, packet: mqtt5.SubAckPacket) -> bytes:
        codes = bytes(min(int(code), _FAILURE_311) for code in packet.reason_codes)
        return _acknowledgement(SUBACK, packet.packet_id, codes)

    def unsuback(self, packet: mqtt5.UnsubAckPacket) -> bytes:
        return _acknowledgement(UNSUBACK, packet.packet_id, b"")

    def disconnect(self, reason: mqtt5.DisconnectReasonCode) -> bytes:
        return b""  # 3.1.1 has no such packet from the server: closing says it


def _read_connect(body: "_Reader") -> mqtt5.ConnectPacket:
    body.take(len(_GREETING_311))
    flags, keep_alive, client_id = body.u8(), body.u16(), body.text()
    will = None
    if flags & 0x04:
        will_topic = body.text()
        will = mqtt5.Will(will_topic, payload=body.take(body.u16()))
    return mqtt5.ConnectPacket(client_id, will=will, keep_alive=keep_alive, clean_start=True)


class _Reader:
    """Fields out of one packet; running over its end raises IndexError."""

    def __init__(self, packet: bytes, position: int) -> None:
        self._packet = packet
        self._position = position

    def left(self) -> int:
        return len(self._packet) - self._position

    def take(self, count: int) -> bytes:
        if count > self.left():
            raise IndexError("packet ends within a field")
        self._position += count
        return self._packet[self._position - count : self._position]

    def u8(self) -> int:
        return self.take(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def text(self) -> str:
        return self.take(self.u16()).decode()


def _header_size(packet: bytes) -> int:
    return 2 + next(i for i, byte in enumerate(packet[1:]) if byte < 0x80)


def _length_field(length: int) -> bytes:
    field = bytearray()
    while True:
        length, low = length >> 7, length & 0x7F
        field.append(low | (0x80 if length else 0))
        if not length:
            return bytes(field)


def _acknowledgement(kind: int, packet_id: int, codes: Sequence[int]) -> bytes:
    body = packet_id.to_bytes(2, "big") + bytes(codes)
    return bytes([kind]) + _length_field(len(body)) + body
