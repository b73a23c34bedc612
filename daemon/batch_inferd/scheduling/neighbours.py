"""Daemons of one user that use the same account find each other, and divide its limits by their number.

Each holds a lock file of its own in the account's folder below the user's state directory, while a task of
the account runs. Held locks are the truth: a file that can be locked belongs to a daemon that has gone,
however it ended, and is removed by whoever finds it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import re
import threading
import uuid
from typing import TYPE_CHECKING, TypeVar

from filelock import FileLock, Timeout

from batch_inferd.scheduling.orphans import make_private
from batch_inferd.services.credentials import state_dir

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batch_inferd.seams.clock import Clock

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
LOOK_S = 2.0  # how long a daemon that was killed is still counted, at most
CLOSE_S = 1.0  # a network disk may never answer; locks that are held still go with the process
_FOLDER = "accounts"
_SUFFIX = ".lock"
_NAME = re.compile(r"[0-9A-Za-z_-]{1,64}", re.ASCII)


class Membership:
    """This daemon among those that use one account. Each method blocks on the disk: call it in a thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: FileLock | None = None

    def look(self) -> int:
        """Join, if need be, and count the daemons that use the account, with this one. Raises OSError."""
        if self._lock is None or not os.path.lexists(self._lock.lock_file):
            self.leave()
            self._join()
        mine = self._lock and self._lock.lock_file
        paths = [path for path in self._folder.iterdir() if path.suffix == _SUFFIX]
        return 1 + sum(_is_held(path) for path in paths if str(path) != mine)

    def leave(self) -> None:
        """Be counted no more."""
        lock, self._lock = self._lock, None
        if lock is not None:
            with contextlib.suppress(OSError):
                os.unlink(lock.lock_file)  # first: nobody else can hold what is unlinked
            lock.release()

    def _join(self) -> None:
        self._folder.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_private(self._folder.parent)
        make_private(self._folder)
        while True:
            lock = _lock(self._folder / f"{uuid.uuid4().hex}{_SUFFIX}")
            try:
                lock.acquire()
            except Timeout:
                continue  # somebody took it for one that was left behind, before it was held
            except OSError:
                with contextlib.suppress(OSError):
                    os.unlink(lock.lock_file)
                raise
            if os.path.lexists(lock.lock_file):
                self._lock = lock
                return
            lock.release()


def _lock(path: Path) -> FileLock:
    # A soft lock, which is a file that is merely present, would outlive a daemon that is killed.
    return FileLock(path, mode=0o600, timeout=0, thread_local=False, fallback_to_soft=False)


def _is_held(path: Path) -> bool:
    lock = _lock(path)
    try:
        lock.acquire()
    except Timeout:
        return True
    except OSError:
        return False  # it went away meanwhile, or is none of ours
    with contextlib.suppress(OSError):
        path.unlink()
    lock.release()
    return False


class Neighbours:
    """The accounts that this daemon uses, and by how many daemons each is used. Looks every `LOOK_S`."""

    def __init__(self, clock: Clock, changed: Callable[[], None], folder: Path | None = None) -> None:
        self._clock = clock
        self._changed = changed
        self._folder = folder
        self._members: dict[str, Membership] = {}
        self._numbers: dict[str, int] = {}
        self._looked_at: float | None = None  # monotonic
        self._task: asyncio.Task[None] | None = None
        self._said = ""

    def number(self, account: str) -> int:
        """How many daemons use it, this one included."""
        return self._numbers.get(account, 1)

    def use(self, accounts: set[str]) -> None:
        """These are the accounts with running tasks. Looks again when it is time, in a thread."""
        now = self._clock.monotonic()
        due = self._looked_at is None or now - self._looked_at >= LOOK_S
        if (due or accounts != set(self._members)) and (self._task is None or self._task.done()):
            self._looked_at = now
            self._task = asyncio.create_task(self._look(accounts), name="neighbours")

    async def close(self) -> None:
        """Leave all accounts, as far as that takes no longer than `CLOSE_S`."""
        try:
            async with asyncio.timeout(CLOSE_S):
                if self._task is not None:
                    await asyncio.wait([self._task])
                await _in_thread(lambda: self._leave(set(self._members)))
        except OSError as error:
            _log.warning("other daemons may count this one until it has ended: %s", str(error) or "no answer")
            if self._task is not None:
                self._task.cancel()

    async def _look(self, accounts: set[str]) -> None:
        try:
            numbers = await _in_thread(lambda: self._look_now(accounts))
        except OSError as error:
            if str(error) != self._said:
                self._said = str(error)
                _log.warning("other daemons that use the same accounts cannot be found: %s", error)
            return
        if numbers != self._numbers:
            self._numbers = numbers
            self._changed()

    def _look_now(self, accounts: set[str]) -> dict[str, int]:
        self._leave(set(self._members) - accounts)
        folder = (self._folder or state_dir()) / _FOLDER
        for account in accounts:
            if account not in self._members and _NAME.fullmatch(account):
                self._members[account] = Membership(folder / account)
        return {account: member.look() for account, member in self._members.items()}

    def _leave(self, accounts: set[str]) -> None:
        for account in accounts:
            self._members.pop(account).leave()


async def _in_thread(work: Callable[[], _T]) -> _T:
    """Run it in a thread that nobody waits for when the process ends."""
    future: concurrent.futures.Future[_T] = concurrent.futures.Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  it is raised where it is waited for
            future.set_exception(error)

    threading.Thread(target=run, name="neighbours", daemon=True).start()
    return await asyncio.wrap_future(future)
