"""A peer as a process: built from the configuration, run on the fastest loop, ended by signals."""

import asyncio
import signal
from collections.abc import Callable

import structlog

from tallynode import assemble
from tallynode.config import Mesh
from tallynode.edge.daemon import Daemon, Folders
from tallynode.errors import ConfigError, IoError

log = structlog.get_logger(__name__)

OnLoop = Callable[[asyncio.AbstractEventLoop, Callable[[], None]], None]


def start(
    mesh: Mesh,
    name: str,
    folders: Folders,
    *,
    threads: int = 1,
    on_loop: OnLoop | None = None,
    read_again: Callable[[], Mesh] | None = None,
) -> str:
    """Build the peer of this name and run it to its end, stopping on SIGTERM and Ctrl-C.

    Args:
        mesh: the whole configuration.
        name: which peer of it.
        folders: where it writes.
        threads: how many torch may use.
        on_loop: called with the loop and the function that stops the daemon, before it runs.
        read_again: reads the configuration anew at SIGHUP, for its pins.

    Returns:
        "finished" or "stopped".
    """
    assemble.refuse_pooling(mesh)
    parts = assemble.parts(
        mesh, name, threads=threads, progress=lambda text: log.info("data", progress=text)
    )
    daemon = Daemon(mesh, parts, folders)

    def reload() -> None:
        assert read_again is not None
        try:
            daemon.reload(read_again())
        except (ConfigError, IoError) as error:
            log.error("not taken over, the old pins hold", why=str(error))

    async def main() -> str:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, daemon.stop)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            loop.add_signal_handler(signal.SIGINT, daemon.stop)
        if read_again is not None:
            loop.add_signal_handler(signal.SIGHUP, reload)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # blocked while it started
        if on_loop is not None:
            on_loop(loop, daemon.stop)
        return await daemon.run()

    try:
        import uvloop
    except ImportError:  # no wheel on 32-bit ARM
        return asyncio.run(main())
    return uvloop.run(main())
