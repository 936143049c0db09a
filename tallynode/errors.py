"""Errors that a person reads, each with the exit code that a script reads (sysexits.h)."""

EX_OK = 0
EX_USAGE = 64
EX_DATAERR = 65
EX_UNAVAILABLE = 69
EX_SOFTWARE = 70
EX_IOERR = 74
EX_CONFIG = 78
EX_INTERRUPTED = 130  # what a shell says of a program that Ctrl-C ended
EX_PIPE = 141  # … and of one that wrote to a pipe whose reader had gone


class TallynodeError(Exception):
    """Base of every error that ends the command with one clear line."""

    exit_code = EX_SOFTWARE


class UsageError(TallynodeError):
    """The command line asks for something that cannot be."""

    exit_code = EX_USAGE


class ConfigError(TallynodeError):
    """topology.yaml is wrong; the message starts with file:line:column."""

    exit_code = EX_CONFIG


class DataError(TallynodeError):
    """Training data, probes or a stored state cannot be used; the message names the file."""

    exit_code = EX_DATAERR


class DivergedError(DataError):
    """Training ran away: nothing of it is sent or saved. It depends on the seed."""


class IoError(TallynodeError):
    """The operating system refused: a port in use, a disk full, a file unreadable."""

    exit_code = EX_IOERR


class LocalError(TallynodeError):
    """Our own bug: a broken contract inside the process. It crashes."""


class RemoteError(Exception):
    """A peer's bad message: dropped, counted against that peer, and the mesh carries on."""

    def __init__(self, peer: str, why: str, *, differs: bool = False) -> None:
        super().__init__(f"{peer}: {why}")
        self.peer = peer
        self.why = why
        self.differs = differs  # it is set up otherwise than this peer, and means no harm
