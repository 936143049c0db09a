"""The values of topology.yaml: a type each, which reads it or says what it should be."""

import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NoReturn
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    StrictFloat,
    StrictInt,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from tallynode.config_yaml import Where, nearest
from tallynode.protocol import device_id

COUNT_MAX = 1_000_000  # probes, rounds, samples: a larger number is a slip of the finger
HOPS_MAX = 255  # edges; the longest path through the most peers
DURATION_S_MAX = 7 * 86_400  # seconds; a longer wait is a slip of the unit
EPSILON_MAX = 100.0  # of differential privacy; more protects nothing
MQTT_PORT = 1883  # registered for MQTT; used where the file names no port

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_HOST = re.compile(r"(?!-)[A-Za-z0-9._-]{1,253}")
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
_DATA_SETS = ["digits", "mnist", "fashion-mnist"]


def refuse(why: str) -> NoReturn:
    """Refuse the value at hand: `why` becomes the person's message."""
    raise PydanticCustomError("refused", "{why}", {"why": why})


def refuse_all(problems: Sequence[tuple[Where, str]]) -> None:
    """Refuse a section for all its problems at once, each at a place relative to the section."""
    if problems:
        raise PydanticCustomError("problems", "refused", {"problems": list(problems)})


def either(what: str) -> WrapValidator:
    """For a value of one kind or another: `what` says both, in place of what each one misses."""

    def read(value: object, handler: ValidatorFunctionWrapHandler) -> object:
        try:
            return handler(value)
        except ValidationError:
            refuse(f"should be {what}, not {value!r}")

    return WrapValidator(read)


def is_loopback(host: str) -> bool:
    """Say whether a host, as written in the file, can only be this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def split_broker(url: str) -> tuple[str, int]:
    """Split mqtt://host[:port]; ValueError where it is anything else."""
    parts = urlsplit(url)
    extra = parts.path or parts.query or parts.fragment or parts.username is not None
    port = parts.port  # ValueError of its own outside 0..65535
    if parts.scheme != "mqtt" or not parts.hostname or extra or port == 0:
        raise ValueError(url)
    return _check_host(parts.hostname), port or MQTT_PORT


def _check_host(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        # Digits and dots only: a mistyped IPv4 address, which a resolver may read in its own way.
        if not _HOST.fullmatch(value) or re.fullmatch(r"[0-9.]+", value):
            raise ValueError(f"not a host name or an IP address: {value!r}") from None
    return value


def _name(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9-]{1,32}", value):
        refuse(f"should be 1 to 32 of a-z, 0-9 and -, not {value!r}")
    return value


def _device_id(value: str) -> str:
    try:
        return device_id.read(value)
    except device_id.DeviceIdError as error:
        refuse(str(error))


def _seconds(value: object) -> float:
    pattern = r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?(ms|s|m|h)"
    match = re.fullmatch(pattern, value) if isinstance(value, str) else None
    if match is None:
        refuse(f"should be a duration with its unit (250ms, 2s, 10m, 1h), not {value!r}")
    seconds = round(float(match[1]) * _UNITS_S[match[2]], 6)
    if seconds > DURATION_S_MAX:
        refuse(f"should be at most 168h, not {value}")
    return seconds


def _write_seconds(seconds: float) -> str:
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


def _count_or(maximum: int, *words: str) -> PlainValidator:
    def read(value: object) -> int | str:
        number = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= maximum
        if value not in words and not number:
            known = " or ".join(words)
            refuse(f"should be a whole number from 1 to {maximum}, or {known}, not {value!r}")
        return value  # type: ignore[return-value]

    return PlainValidator(read)


def _address(value: str) -> str:
    try:
        return _check_host(value)
    except ValueError:
        refuse(f"should be a host name or an IP address without a port, not {value!r}")


def _listen(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        refuse(f"should be an IP address of this host, such as 127.0.0.1 or 0.0.0.0, not {value!r}")


def _broker(value: str) -> str:
    if value in ("embedded", "mosquitto"):
        return value
    if value.startswith("mqtts:"):
        refuse("a shared broker is reached without TLS: should be mqtt://host:port")
    try:
        split_broker(value)
    except ValueError:
        close = nearest(value, ["embedded", "mosquitto"])
        refuse(f"should be embedded, mosquitto or mqtt://host:port, not {value!r}{close}")
    return value


def _beside(path: str, info: ValidationInfo) -> str:
    # Relative to the topology file, so that it means the same from every working directory.
    base: Path = (info.context or {}).get("base", Path())
    try:
        return str(base / Path(path).expanduser())
    except RuntimeError:
        refuse(f"begins with a home that this machine does not know: {path!r}")


def _data(value: str, info: ValidationInfo) -> str:
    kind, _, rest = value.partition(":")
    if kind == "folder":
        return f"folder:{_beside(rest, info)}" if rest else refuse("folder: lacks its path")
    if value not in _DATA_SETS and not _FUNCTION.fullmatch(value):
        known = ", ".join(_DATA_SETS)
        close = nearest(value, _DATA_SETS)
        refuse(f"should be {known}, folder:PATH or package.module:function, not {value!r}{close}")
    return value


def _folder(value: object, info: ValidationInfo) -> object:
    return _beside(value, info) if isinstance(value, str) else value


Name = Annotated[str, AfterValidator(_name)]
DeviceId = Annotated[str, AfterValidator(_device_id)]
Seconds = Annotated[float, BeforeValidator(_seconds), PlainSerializer(_write_seconds)]
CountOrAll = Annotated[int | Literal["all"], _count_or(COUNT_MAX, "all")]
CountOrWhen = Annotated[int | Literal["auto", "never"], _count_or(COUNT_MAX, "auto", "never")]
Discovery = Annotated[
    bool | Name,
    Field(union_mode="left_to_right"),
    either("true, false or a name of 1 to 32 of a-z, 0-9 and -"),
]
Hops = Annotated[int | Literal["all"], _count_or(HOPS_MAX, "all")]
Address = Annotated[str, AfterValidator(_address)]
Listen = Annotated[str, AfterValidator(_listen)]
Broker = Annotated[str, AfterValidator(_broker)]
Data = Annotated[str, AfterValidator(_data)]
Folder = Annotated[Path, BeforeValidator(_folder)]
Count = Annotated[StrictInt, Field(ge=1, le=COUNT_MAX)]
Epoch = Annotated[StrictInt, Field(ge=0, le=999_999)]
CountOrNone = Annotated[StrictInt, Field(ge=0, le=COUNT_MAX)]
Seed = Annotated[StrictInt, Field(ge=0, lt=1 << 63)]  # what a torch generator takes
Port = Annotated[StrictInt, Field(ge=1, le=65535)]
Share = Annotated[StrictFloat, Field(ge=0, le=1)]
Positive = Annotated[StrictFloat, Field(gt=0, le=1e6)]
Epsilon = Annotated[StrictFloat, Field(gt=0, le=EPSILON_MAX)]
