"""One subscriber's connection to the outbox: bytes in, packets out, and the bounds between.

    accepted ──CONNECT──► connected ──SUBSCRIBE / UNSUBSCRIBE / PINGREQ──► connected ──► closed

There are no tasks: asyncio calls in with bytes, and one timer per connection closes it when it does
not greet in time or shows no sign of life for one and a half keepalives (MQTT 5, 3.1.2.10). A new
subscriber's retained messages go out as fast as it reads them, topic by topic, so that a large
store needs no large buffer.
"""

import asyncio
import secrets
import socket
from typing import TYPE_CHECKING, cast

import mqtt5

from tallynode.edge.mqtt_codec import CONNECT, Codec, codec_for, packet_length
from tallynode.edge.subscriptions import Answer, Subscriptions

if TYPE_CHECKING:
    from tallynode.edge.outbox import Outbox

CONNECT_WITHIN_S = 5.0  # seconds; a connection that never says CONNECT holds a socket (slow loris)
PACKET_IN_MAX = 64 << 10  # bytes; readers send small packets: a huge one announced fills memory
QUEUE_OUT_MAX = 8 << 20  # bytes unsent to one subscriber; one that stops reading fills memory
PACKETS_A_SECOND_MAX = 1000  # of one client; a flood of pings would take the loop for seconds
KEEPALIVE_MAX_S = 300  # seconds; a client that asks for no keepalive would hold its socket forever
REPLAY_HIGH_WATER = 256 << 10  # bytes unsent at which replay of retained messages pauses
FAREWELL_WITHIN_S = 2.0  # seconds to take what is unsent; then the socket closes all the same
CLIENT_ID_MAX = 256  # characters; it is a dictionary key here and a field in logs

PINGRESP = b"\xd0\x00"

Reason = mqtt5.DisconnectReasonCode


class Session(asyncio.Protocol):
    """The server's end of one connection."""

    def __init__(self, outbox: "Outbox") -> None:
        self.codec: Codec | None = None
        self.client_id = ""
        self.peer = "?"  # its address
        self.certificate: bytes | None = None  # DER, over TLS
        self.reader = ""  # the pinned peer that it is
        self.subscriptions = Subscriptions()
        self._outbox = outbox
        self._transport: asyncio.Transport | None = None
        self._metered = 0
        self._counted: socket.socket | None = None  # TLS transports close theirs before they say so
        self._buffer = bytearray()
        self._replay: dict[str, None] = {}  # retained topics still to be sent, in order
        self._packet_out_max = QUEUE_OUT_MAX
        self._patience_s = CONNECT_WITHIN_S
        self._heard_at = 0.0
        self._second = (0.0, 0)  # when it began, packets in it
        self._timer: asyncio.TimerHandle | None = None

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=REPLAY_HIGH_WATER // 2)
        self.peer = "{}:{}".format(*(transport.get_extra_info("peername") or "??"))
        sock = transport.get_extra_info("socket")
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self.certificate = tls.getpeercert(True)
            sock = self._counted = sock.dup()
        self._metered = self._outbox.meter.add(sock)
        loop = asyncio.get_running_loop()
        self._heard_at = loop.time()
        self._timer = loop.call_later(self._patience_s, self._check_alive)
        why = self._outbox.admit(self)
        if why is not None:
            self._refuse(why, None)

    def data_received(self, data: bytes) -> None:
        if self._closing():
            return
        self._heard_at = asyncio.get_running_loop().time()
        self._buffer += data
        if self.codec is None and self._buffer[0] != CONNECT:
            self._refuse("not MQTT", None)
            return
        while not self._closing():
            try:
                length = packet_length(self._buffer)
            except ValueError:
                self._refuse("malformed packet", Reason.MALFORMED_PACKET)
                return
            if length is not None and length > PACKET_IN_MAX:
                self._refuse("packet too large", Reason.PACKET_TOO_LARGE)
                return
            if length is None or length > len(self._buffer):
                return
            if self._floods():
                self._refuse("too many packets", Reason.MESSAGE_RATE_TOO_HIGH)
                return
            packet = bytes(self._buffer[:length])
            del self._buffer[:length]
            self._handle(packet)

    def resume_writing(self) -> None:
        self._continue_replay()

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._outbox.meter.remove(self._metered)
        if self._counted is not None:
            self._counted.close()
        self._outbox.forget(self)
        self._buffer.clear()
        self._replay.clear()

    # What the outbox calls.

    def send(self, packet: bytes) -> None:
        """Queue one packet, unless the subscriber reads too slowly: then it has to go."""
        if self._transport is None or self._closing():
            return
        if len(packet) > self._packet_out_max:  # it said that it takes no more (MQTT 5, 3.1.2.11)
            self._outbox.refuse(self.peer, "message above the subscriber's packet size")
            return
        waiting = self.unsent()
        if waiting and (waiting + len(packet) > QUEUE_OUT_MAX or not self._outbox.has_room()):
            self._outbox.refuse(self.peer, "reads too slowly")
            self._transport.abort()
            return
        self._transport.write(packet)

    def unsent(self) -> int:
        """Bytes that wait for this subscriber."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def farewell(self) -> None:
        """Close because the outbox stops."""
        self._close(Reason.SERVER_SHUTTING_DOWN)

    def taken_over(self) -> None:
        """Close because the same client has connected again."""
        self._close(Reason.SESSION_TAKEN_OVER)

    def abort(self) -> None:
        """Close at once, whatever is unsent."""
        if self._transport is not None:
            self._transport.abort()

    # The conversation.

    def _floods(self) -> bool:
        began, packets = self._second
        fresh = self._heard_at >= began + 1
        self._second = (self._heard_at, 1) if fresh else (began, packets + 1)
        return self._second[1] > PACKETS_A_SECOND_MAX

    def _handle(self, raw: bytes) -> None:
        try:
            if self.codec is None:
                self._connect(raw)
                return
            packet = self.codec.read(raw)
        except (ValueError, IndexError):
            self._refuse("malformed packet", Reason.MALFORMED_PACKET)
            return
        match packet:
            case mqtt5.SubscribePacket():
                self._subscribe(packet)
            case mqtt5.UnsubscribePacket():
                self._unsubscribe(packet)
            case mqtt5.PingReqPacket():
                self.send(PINGRESP)
            case mqtt5.DisconnectPacket():
                self._close(None)
            case mqtt5.PublishPacket():
                self._refuse("publish by a stranger", Reason.NOT_AUTHORIZED)
            case _:
                self._refuse("packet out of place", Reason.PROTOCOL_ERROR)

    def _connect(self, raw: bytes) -> None:
        codec = codec_for(raw)
        packet = codec.read(raw)
        if not isinstance(packet, mqtt5.ConnectPacket):
            raise ValueError("not a CONNECT")
        code = mqtt5.ConnAckReasonCode
        refusal = None
        if packet.will is not None:
            refusal = ("will of a stranger", code.NOT_AUTHORIZED)
        elif packet.authentication_method is not None:
            refusal = ("unknown authentication method", code.BAD_AUTHENTICATION_METHOD)
        elif len(packet.client_id) > CLIENT_ID_MAX:
            refusal = ("client ID too long", code.CLIENT_ID_NOT_VALID)
        if refusal is not None:
            why, reason_code = refusal
            self._write(codec.connack(mqtt5.ConnAckPacket(reason_code=reason_code)))
            self._refuse(why, None)
            return
        self.codec = codec
        assigned = None if packet.client_id else f"reader-{secrets.token_hex(8)}"
        self.client_id = packet.client_id or cast(str, assigned)
        keepalive_s = min(packet.keep_alive or KEEPALIVE_MAX_S, KEEPALIVE_MAX_S)
        self._patience_s = 1.5 * keepalive_s
        self._packet_out_max = min(packet.max_packet_size or QUEUE_OUT_MAX, QUEUE_OUT_MAX)
        self._rearm(self._patience_s)
        self._outbox.name_session(self)
        answer = mqtt5.ConnAckPacket(
            assigned_client_id=assigned,
            server_keep_alive=keepalive_s if keepalive_s != packet.keep_alive else None,
            max_qos=mqtt5.QoS.AT_MOST_ONCE,
            max_packet_size=PACKET_IN_MAX,
            subscription_id_available=False,
            shared_subscription_available=False,
        )
        self._write(codec.connack(answer))

    def _subscribe(self, packet: mqtt5.SubscribePacket) -> None:
        assert self.codec is not None
        answers, fresh = [], []
        for wanted in packet.topic_filters:
            answer, due = self.subscriptions.add(wanted)
            answers.append(answer)
            if answer == Answer.QUOTA_EXCEEDED:
                self._outbox.refuse(self.peer, "too many subscriptions")
            if due:
                fresh.append(wanted.pattern)
        self.send(self.codec.suback(mqtt5.SubAckPacket(packet.packet_id, answers)))
        for pattern in fresh:
            self._replay.update(dict.fromkeys(self._outbox.retained_topics(pattern)))
        self._continue_replay()

    def _unsubscribe(self, packet: mqtt5.UnsubscribePacket) -> None:
        assert self.codec is not None
        code = mqtt5.UnsubAckReasonCode
        removed = map(self.subscriptions.remove, packet.patterns)
        answers = [code.SUCCESS if found else code.NO_SUBSCRIPTION_EXISTED for found in removed]
        self.send(self.codec.unsuback(mqtt5.UnsubAckPacket(packet.packet_id, answers)))

    def _continue_replay(self) -> None:
        while self._replay and not self._closing() and self.unsent() < REPLAY_HIGH_WATER:
            topic = next(iter(self._replay))
            del self._replay[topic]
            packet = self._outbox.retained_packet(topic, cast(Codec, self.codec))
            if packet is not None:
                self.send(packet)

    # Closing.

    def _check_alive(self) -> None:
        silent_s = asyncio.get_running_loop().time() - self._heard_at
        if self.codec is None:
            self._refuse("no CONNECT in time", None)
        elif silent_s >= self._patience_s:
            self._refuse("silent beyond its keepalive", Reason.KEEP_ALIVE_TIMEOUT)
        else:
            self._rearm(self._patience_s - silent_s)

    def _rearm(self, delay_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._check_alive)

    def _refuse(self, why: str, reason: Reason | None) -> None:
        self._outbox.refuse(self.peer, why)
        self._close(reason)

    def _close(self, reason: Reason | None) -> None:
        if self._transport is None or self._closing():
            return
        if reason is not None and self.codec is not None:
            self._write(self.codec.disconnect(reason))
        self._transport.close()
        if self._timer is not None:  # a reader that has stopped reading never takes the farewell
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(FAREWELL_WITHIN_S, self.abort)

    def _closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def _write(self, packet: bytes) -> None:
        if packet and not self._closing():
            cast(asyncio.Transport, self._transport).write(packet)
