"""A daemon with its workers, as far as limits go: the real account, gates, queues and pumps.

What is left out: processes, files and HTTP. The runner is as short as can be; the dispatcher keeps each
worker's backlog at its share and sends what the account says, as the real one does.
"""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from virtual import VirtualClock

from batch_inferd.backends.online import Prepared
from batch_inferd.backends.plan import RequestPlan, Retry, Timeouts
from batch_inferd.scheduling.account import Account
from batch_inferd.scheduling.limits import Limits, weights
from batch_inferd.worker.fresh import Fresh
from batch_inferd.worker.gate import Gate, estimate
from batch_inferd.worker.pump import Pump
from batch_inferd.worker.queues import TaskQueue
from batch_inferd.worker.report import INTERVAL_S

if TYPE_CHECKING:
    from services import Service

    from batch_inferd.worker.record import Record

_PIPE_S = 0.002
_TICK_S = 0.25
_MIN_LEASES = 16


def _prepared(name: str, priority: int, max_tokens: int) -> Prepared:
    return Prepared(
        RequestPlan(
            task=name, version=1, account="acc", base_url="http://service/v1", paths={"chat": "/chat"},
            query={}, headers={}, proxy=None, defaults={"chat": {"max_tokens": max_tokens}},
            messages_key="messages", omit=[], rename={}, batch_id="b", credit_codes=[], model_codes=[],
            timeouts=Timeouts(), retry=Retry(), max_line_bytes=2**30, max_response_bytes=2**30,
            durability="normal", priority=priority,
        )
    )  # fmt: skip


class Task:
    """`records` lines, cut into chunks as they are granted."""

    def __init__(
        self, name: str, records: int, *, priority: int = 0, length: int = 400, max_tokens: int = 900,
        chunk: int = 200,
    ) -> None:  # fmt: skip
        self.name = name
        self.left = records  # not granted yet
        self.open = records
        self.length = length
        self.chunk = chunk
        self.done: list[float] = []  # when each record was answered
        self.leases: dict[int, Any] = {}
        self.config = {"config": {"priority": priority}}
        self.prepared = _prepared(name, priority, max_tokens)
        self._line = 0

    def grant(self, worker: Worker) -> Any:
        size = min(self.chunk, self.left)
        self.left -= size
        number = len(self.leases) + 1
        lease = SimpleNamespace(
            chunk=number, seat=worker, unstarted=size, first_line=self._line + 1, asked_to_end=""
        )
        chunk: Any = SimpleNamespace(sending=True, lease=lease, task=self, taken=_taken)
        lines: Any = SimpleNamespace(place=lambda _: (0, self.length))
        self.leases[number] = lease
        self._line += size
        worker.queue(self).add_fresh(number, Fresh(chunk, lines, range(size)))
        worker.pump.wake()
        return lease

    def rate(self, begin: float, end: float) -> float:
        return sum(begin <= at < end for at in self.done) / (end - begin)


class Worker:
    def __init__(self, name: str, service: Service) -> None:
        self.name = name
        self.clock = VirtualClock()
        self.gate = Gate("acc", self.clock)
        self.pump = Pump(self.clock, lambda: [self.gate], self._run)
        self._service = service
        self._queues: dict[str, TaskQueue] = {}
        self.sends: list[float] = []

    def queue(self, task: Task) -> TaskQueue:
        queue = self._queues.get(task.name)
        if queue is None:
            link: Any = SimpleNamespace(down=None)
            queue = self._queues[task.name] = TaskQueue(task.name, task.name, task.prepared, link)
            self.gate.turns.add(queue)
        return queue

    async def _run(self, gate: Gate, queue: TaskQueue, record: Record, *_: Any) -> None:
        chunk: Any = record.chunk
        sent_at = self.clock.monotonic()
        self.sends.append(sent_at)
        tokens = estimate(record.length, queue.prepared)
        answer = await self._service.call()
        gate.returned(record, tokens, answer.tokens)
        if answer.ok:
            gate.answered(record)
            chunk.task.done.append(self.clock.monotonic())
            chunk.task.open -= 1
        else:
            gate.throttled(queue.prepared.plan.retry, answer.retry_after, sent_at)
            assert not gate.strikes.throttled(record, alone=gate.in_flight == 0)
            queue.put_back(record)
        self.pump.wake()


def _taken(record: Record) -> None:
    if not record.attempts:
        record.attempts = 1
        record.chunk.lease.unstarted -= 1


class Daemon:
    """Workers, their tasks, and the account that they share."""

    def __init__(self, service: Service, workers: int, limits: Limits, daemons: int = 1) -> None:
        self.account = Account("acc")
        self.account.daemons = daemons
        self.limits = limits
        self.workers = [Worker(f"w{n}", service) for n in range(workers)]
        self.tasks: list[Task] = []
        self._told: dict[str, Any] = {}
        self._wake = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []

    def add(self, task: Task) -> Task:
        self.tasks.append(task)
        self._wake.set()
        return task

    def start(self) -> None:
        loops = [self._rounds(), *(self._reports(worker) for worker in self.workers)]
        self._loops = [asyncio.create_task(loop) for loop in loops]

    def kill(self, worker: Worker) -> None:
        """It is gone, with what it had in flight and in its hands."""
        worker.gate.blocked = True
        self.workers.remove(worker)
        self.account.gone(worker.name, worker.clock.monotonic())
        self._told.pop(worker.name, None)

    async def stop(self) -> None:
        for loop in self._loops:
            loop.cancel()
        for worker in self.workers:
            worker.pump.stop()
        await asyncio.gather(*self._loops, return_exceptions=True)

    async def _reports(self, worker: Worker) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(random.uniform(0, INTERVAL_S))
        while worker in self.workers:
            await asyncio.sleep(INTERVAL_S)
            report = worker.gate.report()
            if report is not None:
                loop.call_later(_PIPE_S, self._observe, worker, report)

    def _observe(self, worker: Worker, report: dict[str, Any]) -> None:
        if worker in self.workers:
            clock = worker.clock
            self.account.observe(worker.name, report, clock.now(), clock.monotonic())
            self._wake.set()

    async def _rounds(self) -> None:
        while True:
            self._wake.clear()
            self._round()
            try:
                await asyncio.wait_for(self._wake.wait(), _TICK_S)
            except TimeoutError:
                continue

    def _round(self) -> None:
        loop = asyncio.get_running_loop()
        self.account.set_limits([self.limits])
        names = [worker.name for worker in self.workers]
        words = self.account.divide(names, weights(self.tasks), loop.time())  # type: ignore[arg-type]
        held = self.account.is_held(loop.time())
        for worker in self.workers:
            word = words[worker.name]
            message = (word, self.account.hold_until if held else None)
            content = (word._replace(word=0, first_in_s=0.0), message[1])
            if self._told.get(worker.name) != content:
                self._told[worker.name] = content
                loop.call_later(_PIPE_S, self._tell, worker, *message)
            for task in self.tasks:
                mine = [lease for lease in task.leases.values() if lease.seat is worker]
                backlog = sum(lease.unstarted for lease in mine)
                while task.left and backlog < word.due:
                    backlog += task.grant(worker).unstarted

    @staticmethod
    def _tell(worker: Worker, word: Any, hold_until: float | None) -> None:
        worker.gate.tell(
            word.slots, word.rate_per_s, hold_until, tokens=word.tokens_per_s, room=word.bytes,
            first_in=word.first_in_s, charged=word.charged, cut=word.cut, word=word.word,
        )  # fmt: skip
        worker.pump.wake()
