"""Looking at an account's batches: each at growing intervals, many of them by one list call.

Looks that are nearly due are made together. A batch that a list does not show (it is too new, or the
list is long) is asked for by itself, and so is every one now and then: some services move a batch on
only when it is asked for.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

from batch_inferd.backends.batch.provider import BatchStatus, Unsettled
from batch_inferd.seams.clock import within

if TYPE_CHECKING:
    from batch_infer.protocol.text import Text
    from batch_inferd.backends.batch.api import BatchApi
    from batch_inferd.backends.batch.provider import BatchProvider
    from batch_inferd.batches.reach import Reach
    from batch_inferd.seams.clock import Clock

_log = logging.getLogger(__name__)
LIST_FROM = 6  # with fewer due at a time, each is asked for by itself
_LIST_MAX = 2_000  # batches of a list that are gone through in one look
_ALONE_EVERY = 10
_TOGETHER = 0.25  # of its interval, which a look may be early
_GROWTH = 1.5
_AT_ONCE = 4
_FOUND_S = 1.0
_TROUBLE_FROM = 3  # failed looks in a row


class _Watch:
    def __init__(self, batch_id: str, since: float) -> None:
        self.batch_id = batch_id
        self.since = since  # wall time of its creation
        self.interval = 0.0
        self.at = 0.0  # monotonic
        self.looks = 0
        self.state = ""
        self.failures = 0
        self.trouble: Text | None = None
        self.waiting: asyncio.Future[BatchStatus] | None = None
        self.api: BatchApi | None = None
        self.provider: BatchProvider | None = None


class Poller:
    """One account's. Keys are submissions, unique in the daemon."""

    def __init__(self, clock: Clock, reach: Reach) -> None:
        self._clock = clock
        self._reach = reach
        self._watches: dict[str, _Watch] = {}
        self._expected: set[str] = set()  # asked for by `soon` before the first look
        self._wake = asyncio.Event()
        self._job: asyncio.Task[None] | None = None

    def due_in(self, key: str) -> float | None:
        """Seconds until the next look at a batch."""
        watch = self._watches.get(key)
        return None if watch is None else max(0.0, watch.at - self._clock.monotonic())

    async def look(
        self, key: str, batch_id: str, since: float, api: BatchApi, provider: BatchProvider
    ) -> BatchStatus:
        """The batch's state, at its next turn. Raises Blocked, Refused, NotFound."""
        watch = self._watches.get(key)
        if watch is None or watch.batch_id != batch_id:
            watch = self._watches[key] = _Watch(batch_id, since)
            watch.interval = api.poll_first_s
            expected = key in self._expected
            self._expected.discard(key)
            wait = api.poll_min_s if expected else self._jittered(watch, api)
            if self._clock.now() - since > wait:  # it was found live, and may have ended long ago
                wait = min(wait, _FOUND_S)
            watch.at = self._clock.monotonic() + wait
        watch.api, watch.provider = api, provider
        watch.waiting = asyncio.get_running_loop().create_future()
        self._start()
        try:
            return await watch.waiting
        finally:
            watch.waiting = None

    def soon(self, key: str) -> None:
        """Look at this one at the next possible moment: something is expected."""
        watch = self._watches.get(key)
        if watch is None:
            self._expected.add(key)
        elif watch.api is not None:
            watch.interval = watch.api.poll_first_s
            watch.at = min(watch.at, self._clock.monotonic() + watch.api.poll_min_s)
            self._wake.set()

    def forget(self, key: str) -> None:
        """It has ended."""
        self._watches.pop(key, None)
        self._expected.discard(key)

    def close(self) -> None:
        """Look no more."""
        if self._job is not None:
            self._job.cancel()

    def _start(self) -> None:
        self._wake.set()
        if self._job is None or self._job.done():
            self._job = asyncio.create_task(self._run(), name="poller")

    async def _run(self) -> None:
        while asked := [watch for watch in self._watches.values() if watch.waiting is not None]:
            self._wake.clear()
            now = self._clock.monotonic()
            first = min(watch.at for watch in asked)
            if first > now:
                await self._rest(first - now)
                continue
            due = [watch for watch in asked if watch.at <= now + _TOGETHER * watch.interval]
            try:
                await self._look_at(due)
            except Exception:  # noqa: BLE001  one account's looks must not end
                _log.exception("a bug in looking at batches; it goes on")
                await self._clock.sleep(5.0)

    async def _rest(self, seconds: float) -> None:
        await within(self._clock, self._wake.wait(), seconds)

    async def _look_at(self, due: list[_Watch]) -> None:
        for watch in due:
            watch.looks += 1
        api = due[0].api
        alone = due
        if api is not None and api.lists and len(due) >= LIST_FROM:
            found = await self._list(due)
            alone = [watch for watch in due if watch.batch_id not in found or watch.looks % _ALONE_EVERY == 0]
            for watch in due:
                if watch not in alone:
                    self._deliver(watch, found[watch.batch_id])
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(watch: _Watch) -> None:
            async with gate:
                await self._retrieve(watch)

        await asyncio.gather(*(one(watch) for watch in alone))

    async def _list(self, due: list[_Watch]) -> dict[str, BatchStatus]:
        provider = due[0].provider
        assert provider is not None  # noqa: S101  set by `look`
        wanted = {watch.batch_id for watch in due}
        since = min(watch.since for watch in due) - 60.0

        async def pages() -> dict[str, BatchStatus]:
            found: dict[str, BatchStatus] = {}
            seen = 0
            async for status in provider.recent(since):
                seen += 1
                if status.id in wanted:
                    found[status.id] = status
                if len(found) == len(wanted) or seen >= _LIST_MAX:
                    break
            return found

        try:
            return await self._reach.call(pages)
        except Exception:  # noqa: BLE001  also of a provider whose task has just been stopped
            return {}  # whatever it is, the calls for single batches meet it too

    async def _retrieve(self, watch: _Watch) -> None:
        provider = watch.provider
        if provider is None or watch.waiting is None:
            return
        try:
            status = await self._reach.call(lambda: provider.retrieve(watch.batch_id))
        except Unsettled as error:
            watch.failures += 1
            watch.trouble = error.text if watch.failures >= _TROUBLE_FROM else None
            self._next(watch)  # a look that failed is only late
        except Exception as error:  # noqa: BLE001  it belongs to who waits
            self._next(watch)
            if watch.waiting is not None and not watch.waiting.done():
                watch.waiting.set_exception(error)
        else:
            self._deliver(watch, status)

    def trouble(self, key: str) -> Text | None:
        """What the service says again and again instead of an answer."""
        watch = self._watches.get(key)
        return None if watch is None else watch.trouble

    def _deliver(self, watch: _Watch, status: BatchStatus) -> None:
        watch.failures, watch.trouble = 0, None
        if status.raw_state != watch.state:
            watch.state = status.raw_state
            watch.interval = 0.0  # it moves: look again soon
        self._next(watch)
        if watch.waiting is not None and not watch.waiting.done():
            watch.waiting.set_result(status)

    def _next(self, watch: _Watch) -> None:
        api = watch.api
        if api is not None:
            grown = watch.interval * _GROWTH if watch.interval else api.poll_first_s
            watch.interval = min(max(grown, api.poll_min_s), max(api.poll_max_s, api.poll_min_s))
            watch.at = self._clock.monotonic() + self._jittered(watch, api)

    @staticmethod
    def _jittered(watch: _Watch, api: BatchApi) -> float:
        return max(api.poll_min_s, watch.interval * random.uniform(0.85, 1.15))  # noqa: S311
