"""The accounts and tasks of a worker: their gates, their queues, and the plans they run under."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_inferd.worker.gate import Gate
from batch_inferd.worker.link import Link
from batch_inferd.worker.purse import Purse
from batch_inferd.worker.queues import TaskQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from batch_inferd.backends.online import Prepared
    from batch_inferd.backends.transport import HttpTransport
    from batch_inferd.seams.clock import Clock
    from batch_inferd.seams.events import Events
    from batch_inferd.worker.chunk import LeasedChunk
    from batch_inferd.worker.runner import Attempt


_Route = tuple[str, str, str | None]  # account, base URL, proxy


class Accounts:
    """Finds the gate of an account and the queue of a task.

    `wake` is called when calls may start, `send` takes messages for the daemon.
    """

    def __init__(
        self,
        transport: HttpTransport,
        clock: Clock,
        events: Events,
        wake: Callable[[], None],
        send: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._events = events
        self._wake = wake
        self._send = send
        self._purses = 0  # that there ever were
        self._gates: dict[str, Gate] = {}
        self._plans: dict[str, Prepared] = {}
        self._queues: dict[str, TaskQueue] = {}
        self._leases: dict[str, set[str]] = {}  # task -> its open leases
        self._links: dict[_Route, Link] = {}  # of all queues
        self._told: dict[_Route, str] = {}  # what the log said last of its network

    def gates(self) -> Iterable[Gate]:
        """All accounts."""
        return self._gates.values()

    def gate(self, fingerprint: str) -> Gate:
        """The gate of an account."""
        gate = self._gates.get(fingerprint)
        if gate is None:
            gate = self._gates[fingerprint] = Gate(fingerprint, self._clock)
        return gate

    def _link(self, prepared: Prepared) -> Link:
        plan = prepared.plan
        route = (plan.account, plan.base_url, plan.proxy)
        link = self._links.get(route)
        if link is None:
            link = Link(self._transport, self._clock, lambda: self._link_changed(route))
            self._links[route] = link
        return link

    def prepared(self, task: str) -> Prepared | None:
        """The newest plan of a task."""
        return self._plans.get(task)

    def set_plan(self, prepared: Prepared) -> None:
        """A task's plan, or a newer one: all later calls go by it, and what blocked the task is over."""
        plan = prepared.plan
        known = self._plans.get(plan.task)
        if known is not None and known.plan.version > plan.version:
            return
        self._plans[plan.task] = prepared
        gate = self.gate(plan.account)
        gate.blocked = False
        queue = self._queues.get(plan.task)
        if queue is not None:
            queue.link.reset()
            self.gate(queue.prepared.plan.account).turns.remove(queue)
            queue.prepared = prepared
            queue.link = self._link(prepared)  # the newer plan may lead through another proxy
            queue.link.reset()
            queue.blocked = False
            if (plan.budget is None) != (queue.purse is None):
                queue.purse = self._purse(prepared)
            gate.turns.add(queue)
            self._retire_links()
        self._wake()

    def on_account(self, params: dict[str, Any]) -> None:
        """The daemon's word on an account."""
        gate = self.gate(str(params["account"]))
        gate.tell(
            int(params["slots"]),
            _number(params["rate_per_s"]),
            _number(params["hold_until"]),
            tokens=_number(params.get("tokens_per_s")),
            room=None if params.get("bytes") is None else int(params["bytes"]),
            first_in=float(params.get("first_in_s", 0.0)),
            charged=float(params.get("charged", 0.0)),
            cut=int(params.get("cut", 0)),
            word=int(params.get("word", 0)),
        )
        for queue in gate.turns.queues:
            queue.blocked = False
        self._wake()

    def on_forget(self, params: dict[str, Any]) -> None:
        """A task is over: its plan, which holds secrets, is dropped."""
        self._plans.pop(str(params["task"]), None)

    def add(self, chunk: LeasedChunk, prepared: Prepared) -> None:
        """Queue the records of an opened chunk, under the plan it was opened with or a newer one."""
        lease = chunk.lease
        prepared = self._plans.get(lease.task, prepared)
        queue = self._queues.get(lease.task)
        if queue is None:
            queue = self._queues[lease.task] = TaskQueue(
                lease.task, lease.task_id, prepared, self._link(prepared)
            )
            queue.purse = self._purse(prepared)
            self.gate(prepared.plan.account).turns.add(queue)
        self._leases.setdefault(lease.task, set()).add(lease.lease)
        fresh, waiting = chunk.records()
        queue.add_fresh(lease.chunk, fresh)
        for due, record in waiting:
            queue.delay(record, due)

    def remove(self, chunk: LeasedChunk) -> None:
        """A lease ended; with a task's last one its queue goes."""
        lease = chunk.lease
        leases = self._leases.get(lease.task, set())
        leases.discard(lease.lease)
        if not leases:
            self._leases.pop(lease.task, None)
            queue = self._queues.pop(lease.task, None)
            if queue is not None:
                if queue.purse is not None:
                    queue.purse.close()
                self.gate(queue.prepared.plan.account).turns.remove(queue)
                self._retire_links()

    def _purse(self, prepared: Prepared) -> Purse | None:
        """A new purse for a task whose plan has a budget."""
        if prepared.budget is None:
            return None
        self._purses += 1
        task = prepared.plan.task
        return Purse(self._purses, lambda said: self._send("purse", {"task": task, **said}), self._wake)

    def on_grant(self, params: dict[str, Any]) -> None:
        """The daemon's word on what a purse may spend; one that is closed is not meant any more.

        `void`: the purse is of an earlier budget; another one takes its place.
        """
        queue = self._queues.get(str(params["task"]))
        if queue is None or queue.purse is None or queue.purse.number != int(params["purse"]):
            return
        if params.get("void"):
            queue.purse = self._purse(queue.prepared)
            self._wake()
        else:
            queue.purse.grant(int(params["granted"]))

    def _retire_links(self) -> None:
        """Do not go on probing a route that nobody waits for."""
        used = {queue.link for queue in self._queues.values()}
        for route, link in tuple(self._links.items()):
            if link not in used:
                link.retire()
                del self._links[route]
                self._told.pop(route, None)

    def block(self, attempt: Attempt, code: str) -> bool:
        """Send nothing more for the account (`model`: the task); whether that is news."""
        blocked: Gate | TaskQueue = attempt.queue if code == "model" else attempt.gate
        if blocked.blocked or attempt.prepared is not attempt.queue.prepared:
            return False  # a call under the plan before the one that mended it
        blocked.blocked = True
        return True

    def close(self) -> None:
        """Stop probing."""
        for link in self._links.values():
            link.close()

    def _link_changed(self, route: _Route) -> None:
        self._wake()
        link = self._links[route]
        text = str(link.down.text) if link.down is not None else ""
        if text != self._told.get(route, ""):
            self._told[route] = text
            name = "account.waiting" if text else "account.back"
            for queue in self._queues.values():
                if queue.link is link:
                    self._events.emit(name, task=queue.task, task_id=queue.task_id, text=text)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
