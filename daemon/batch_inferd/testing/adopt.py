"""How the daemon gets its test service: the one that runs, else a new one.

1. Take `service.start.lock`: whoever else wants a service waits here.
2. Look whether `service.lock` is held. If not, start a service and wait until it is ready.
3. If it is held: service.json must name a service that answers GET /_control as the very same one.
   It may be just starting or just ending; look again until the deadline.

The service outlives the daemon, and ends for idleness by itself.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar

import filelock

from batch_infer.protocol.errors import BatchInferError
from batch_infer.protocol.text import Text
from batch_inferd.testing.spawn import (
    LOG_NAME,
    SpawnError,
    read_report,
    reap_in_background,
    spawn,
)
from batch_inferd.testing.state import (
    LOCK_NAME,
    START_LOCK_NAME,
    Beacon,
    make_lock,
    make_state_dir,
    read_beacon,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from batch_inferd.seams.clock import Clock

CONTROLS_VARIABLE = "BATCH_INFER_TEST_CONTROLS"
_FRIENDLY = '{"latency_ms": [20, 80]}'
IDLE_EXIT_S = 300.0  # without a request; the daemon looks after it while a task needs it
_DEADLINE_S = 30.0  # for all of it, another one's start included
_LOOK_S = 0.05
_PING_S = 2.0


class TestServiceUnavailable(BatchInferError):  # noqa: N818  named as one says it
    """The embedded test service could neither be adopted nor started."""

    code: ClassVar[str] = "test_service"
    exit_code: ClassVar[int] = 4
    __test__ = False  # no test class, whatever pytest makes of its name


async def ensure_running(state_dir: Path, clock: Clock, idle_exit_s: float = IDLE_EXIT_S) -> str:
    """The base URL ("http://127.0.0.1:PORT/v1") of the one service of `state_dir`, which answers now.

    A new service has the controls of BATCH_INFER_TEST_CONTROLS (JSON), else a latency of 20 to 80 ms and
    no errors; an adopted one keeps its own. Raises TestServiceUnavailable.
    """
    deadline = clock.monotonic() + _DEADLINE_S
    try:
        state_dir = make_state_dir(state_dir)
        async with _start_lock(state_dir, clock, deadline):
            while True:
                if _is_held(state_dir):
                    if (base_url := await _adopt(state_dir)) is not None:
                        return base_url
                elif (base_url := await _start(state_dir, clock, deadline, idle_exit_s)) is not None:
                    return base_url
                if clock.monotonic() >= deadline:
                    raise _unavailable(state_dir, _held_by(state_dir))
                await clock.sleep(_LOOK_S)
    except (SpawnError, OSError) as error:
        raise _unavailable(state_dir, Text("{error}", {"error": str(error)})) from error


@asynccontextmanager
async def _start_lock(state_dir: Path, clock: Clock, deadline: float) -> AsyncIterator[None]:
    lock = make_lock(state_dir, START_LOCK_NAME)
    while not _try(lock):
        if clock.monotonic() >= deadline:
            raise _unavailable(state_dir, Text("another process has been starting it for too long"))
        await clock.sleep(_LOOK_S)
    try:
        yield
    finally:
        lock.release()


def _is_held(state_dir: Path) -> bool:
    lock = make_lock(state_dir, LOCK_NAME)
    if not _try(lock):
        return True
    lock.release()
    return False


def _try(lock: filelock.BaseFileLock) -> bool:
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        return False
    return True


async def _adopt(state_dir: Path) -> str | None:
    """The URL of the service that service.json names, if it is the one that answers there."""
    beacon = read_beacon(state_dir)
    return beacon.base_url if beacon is not None and await _answers(beacon) else None


async def _answers(beacon: Beacon) -> bool:
    # No certificates are loaded: there is no TLS on loopback, and loading them takes the loop 20 ms.
    no_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    import httpx  # noqa: PLC0415  most daemons never ask: their tasks run elsewhere

    try:
        async with httpx.AsyncClient(trust_env=False, verify=no_tls, timeout=_PING_S) as client:
            told = (await client.get(f"{beacon.base_url.removesuffix('/v1')}/_control")).json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return False
    return isinstance(told, dict) and (told.get("pid"), told.get("instance")) == (beacon.pid, beacon.instance)


async def _start(state_dir: Path, clock: Clock, deadline: float, idle_exit_s: float) -> str | None:
    """Start a service; None when one that was started by hand came first. Raises SpawnError, OSError."""
    controls = os.environ.get(CONTROLS_VARIABLE) or _FRIENDLY
    process = spawn(state_dir, controls=controls, port=0, idle_exit_s=idle_exit_s)
    reading = asyncio.create_task(asyncio.to_thread(read_report, process, state_dir))
    timer = asyncio.create_task(clock.sleep(max(0.0, deadline - clock.monotonic())))
    try:
        await asyncio.wait({reading, timer}, return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            process.kill()  # ends the reading
        base_url = await reading
    except SpawnError as error:
        if error.held:
            return None
        raise
    finally:
        timer.cancel()
        reap_in_background(process)
    return base_url


def _held_by(state_dir: Path) -> Text:
    beacon = read_beacon(state_dir)
    if beacon is None:
        return Text("another process holds {path}, and nothing answers", {"path": str(state_dir / LOCK_NAME)})
    return Text(
        "process {pid} holds {path}, and does not answer at {url}",
        {"pid": beacon.pid, "path": str(state_dir / LOCK_NAME), "url": beacon.base_url},
    )


def _unavailable(state_dir: Path, why: Text) -> TestServiceUnavailable:
    return TestServiceUnavailable(
        Text("the embedded test service does not run: {why}", {"why": why}),
        hints=(Text("its log is {path}", {"path": str(state_dir / LOG_NAME)}),),
    )
