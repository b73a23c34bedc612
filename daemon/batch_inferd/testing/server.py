"""The life of the service's process: lock, ledger, port, service.json, serving, idle exit, end."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import signal
import socket
import sys
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

import filelock
import psutil
from aiohttp import web

from batch_infer.version import __version__
from batch_inferd.seams.clock import make_clock
from batch_inferd.testing import uploads
from batch_inferd.testing.app import MAX_BODY_BYTES, Service
from batch_inferd.testing.batch_routes import BatchRoutes
from batch_inferd.testing.batch_runner import BatchRunner
from batch_inferd.testing.batch_store import BatchStore
from batch_inferd.testing.batches_api import BatchesApi
from batch_inferd.testing.control_routes import ControlRoutes, Identity
from batch_inferd.testing.faults import Faults
from batch_inferd.testing.files_api import FilesApi
from batch_inferd.testing.ledger_writer import LedgerWriter
from batch_inferd.testing.state import LOCK_NAME, Beacon, make_lock, make_state_dir, read_beacon, write_beacon

if sys.platform != "win32":
    import resource

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batch_inferd.testing.controls import Controls

_log = logging.getLogger(__name__)
_LOCK_WAIT_S = 2.0  # rides over one who only looks whether the lock is held, and over one who is ending
_BACKLOG = 4096
_OPEN_FILES = 10_240  # all that macOS allows
_LOOK_S = 2.0  # how often it looks whether its state directory is still there
_GRACE_S = 1.0  # what a request under way gets at the end
_SWITCH_S = 0.001  # requests are not to wait for the thread that works on batches
_KEEPALIVE_S = 3600.0  # a reset that nobody ordered would be a fault that tests cannot explain


class CannotServe(Exception):  # noqa: N818  named as one says it
    """The service cannot start; the message says why."""


class Held(CannotServe):
    """Another process serves this state directory."""


class Options(NamedTuple):
    """What the command line asks for."""

    state_dir: Path
    host: str
    port: int  # 0: the port of the last life if it is free, else any
    controls: Controls
    idle_exit_s: float | None  # None: never


async def serve(options: Options, announce: Callable[[Beacon], None]) -> None:
    """Serve until SIGTERM, SIGINT or idleness; `announce` is called once it listens.

    Raises CannotServe, LedgerError, or OSError of the state directory.
    """
    if not _is_loopback(options.host):
        raise CannotServe(f"{options.host} is not a loopback address; this service is for this machine only")
    state_dir = make_state_dir(options.state_dir)
    lock = make_lock(state_dir, LOCK_NAME)
    try:
        await asyncio.to_thread(lock.acquire, timeout=_LOCK_WAIT_S)
    except filelock.Timeout:
        holder = read_beacon(state_dir)
        who = f"process {holder.pid} at {holder.base_url}" if holder else "another process"
        raise Held(f"{state_dir} is served by {who}") from None
    try:
        await _serve_locked(options, state_dir, announce)
    finally:
        lock.release()


async def _serve_locked(options: Options, state_dir: Path, announce: Callable[[Beacon], None]) -> None:
    stop = _stop_event()
    _allow_many_connections()
    sys.setswitchinterval(_SWITCH_S)
    instance = uuid.uuid4().hex
    faults = Faults(options.controls)
    clock = make_clock()
    ledger = LedgerWriter(state_dir)
    store = BatchStore(state_dir)
    uploads.clean(store.folder)
    batches = BatchRunner(store, faults, clock)
    service = Service(
        faults,
        ledger,
        ControlRoutes(state_dir, Identity(os.getpid(), instance, __version__), faults, ledger),
        BatchRoutes(
            faults, ledger, FilesApi(store, faults, clock), BatchesApi(store, faults, clock, batches)
        ),
        batches,
    )
    runner = web.ServerRunner(
        web.Server(service, request_factory=_make_request, access_log=None, keepalive_timeout=_KEEPALIVE_S),
        shutdown_timeout=_GRACE_S,
    )
    try:
        await runner.setup()
        listener = _listen(options, state_dir)
        await web.SockSite(runner, listener, backlog=_BACKLOG).start()
        beacon = _beacon(listener, instance)
        write_beacon(state_dir, beacon)
        _log.info("serving %s at %s", state_dir, beacon.base_url)
        batches.start()
        home = _inode(state_dir)  # before anybody who was told of it can remove it
        announce(beacon)
        await _until_stopped(stop, service, state_dir, home, options.idle_exit_s)
    finally:
        await runner.cleanup()
        await asyncio.to_thread(batches.stop)
        await asyncio.to_thread(store.close)
        await ledger.close()
    _log.info("ended")


async def _until_stopped(
    stop: asyncio.Event, service: Service, state_dir: Path, home: int | None, idle_exit_s: float | None
) -> None:
    while not stop.is_set():
        left = _LOOK_S if idle_exit_s is None else idle_exit_s - service.idle_s()
        if left <= 0:
            _log.info("no request for %s s", idle_exit_s)
            return
        if _inode(state_dir) != home:
            _log.info("%s was removed", state_dir)
            return
        try:
            await asyncio.wait_for(stop.wait(), min(left, _LOOK_S))
        except TimeoutError:
            continue


def _inode(state_dir: Path) -> int | None:
    """Which directory it is; None when it is gone: then nobody can find this service."""
    try:
        return state_dir.stat().st_ino
    except OSError:
        return None


def _stop_event() -> asyncio.Event:
    """Set by SIGTERM and SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, stop.set)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    return stop


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name may lead anywhere
        return False


def _allow_many_connections() -> None:
    """Raise the soft limit of open files, which is often 1,024: clients may open more connections."""
    if sys.platform != "win32":
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
        if soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _listen(options: Options, state_dir: Path) -> socket.socket:
    """A bound socket. Raises CannotServe."""
    before = read_beacon(state_dir)
    wanted = [options.port] if options.port else [*([before.port] if before else []), 0]
    for port in wanted:
        try:
            return _bind(options.host, port)
        except OSError as error:
            if port == wanted[-1]:
                raise CannotServe(f"cannot listen on {options.host}:{port}: {error}") from error
    raise AssertionError("unreachable: the last port returns or raises")


def _bind(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        if sys.platform != "win32":  # there it would let two processes have one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def _beacon(listener: socket.socket, instance: str) -> Beacon:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return Beacon(
        pid=os.getpid(),
        started=psutil.Process().create_time(),
        port=port,
        base_url=f"http://{shown}:{port}/v1",
        version=__version__,
        instance=instance,
    )


def _make_request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    """As aiohttp's own factory, but with room for large bodies."""
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY_BYTES)
