"""What is to be sent next: the open records of one task, and the turns of the tasks on an account."""

from __future__ import annotations

import heapq
import itertools
from bisect import insort
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batch_inferd.backends.online import Prepared
    from batch_inferd.worker.fresh import Fresh
    from batch_inferd.worker.link import Down, Link
    from batch_inferd.worker.purse import Purse
    from batch_inferd.worker.record import Record

PRIORITIES = range(-5, 6)
_STRIDES = {priority: 2.0**-priority for priority in PRIORITIES}  # each step up: twice the share
FILLING_MAX = 8  # records of a task whose images are being loaded, or wait for room
_counter = itertools.count()  # breaks ties between two leases of one chunk: records are not ordered


class TaskQueue:
    """The records of one task that this worker may send.

    Those that were sent before go first, by chunk and line; then the fresh ones, by chunk and line. A
    retry waits in a heap by its time and holds nothing else. Records of a chunk that takes no part any
    more are dropped when they are met.
    """

    def __init__(self, task: str, task_id: str, prepared: Prepared, link: Link) -> None:
        self.task = task
        self.task_id = task_id
        self.prepared = prepared
        self.link = link  # the route of `prepared`
        self.blocked = False  # the service does not have the task's model
        self.purse: Purse | None = None  # of a task with a budget
        self.filling = 0  # records that were taken, and whose images are not loaded yet
        self.position = 0.0  # among the tasks that take turns: see Turns
        self._ready: list[tuple[int, int, int, Record]] = []
        self._delayed: list[tuple[float, int, Record]] = []
        self._fresh: list[tuple[int, int, Fresh]] = []

    @property
    def may_send(self) -> bool:
        """Whether nothing but its account's gate holds its calls back: no block, no outage, no budget."""
        if self.purse is not None and self.purse.starved:
            return False
        return not self.blocked and self.link.down is None

    @property
    def takes_turns(self) -> bool:
        """Whether its next record may be taken, as far as that is up to the task."""
        return self.filling < FILLING_MAX and self.may_send

    @property
    def backlog(self) -> int:
        """Records that are queued here."""
        return len(self._ready) + len(self._delayed) + sum(len(fresh) for _, _, fresh in self._fresh)

    def add_fresh(self, chunk: int, fresh: Fresh) -> None:
        """Records that were never sent."""
        if fresh:
            heapq.heappush(self._fresh, (chunk, next(_counter), fresh))

    def put_back(self, record: Record) -> None:
        """First in line: it was sent, and that did not count."""
        heapq.heappush(self._ready, (record.chunk.lease.chunk, record.line, next(_counter), record))

    def delay(self, record: Record, due: float) -> None:
        """Send it again at monotonic time `due`."""
        heapq.heappush(self._delayed, (due, next(_counter), record))

    def peek(self, now: float) -> Record | None:
        """The record whose turn it is, or None."""
        while self._delayed and (self._delayed[0][0] <= now or not self._delayed[0][2].chunk.sending):
            record = heapq.heappop(self._delayed)[2]
            if record.chunk.sending:
                self.put_back(record)
        while self._ready and not self._ready[0][3].chunk.sending:
            heapq.heappop(self._ready)
        if self._ready:
            return self._ready[0][3]
        while self._fresh:
            fresh = self._fresh[0][2]
            if fresh and fresh.chunk.sending:
                return fresh.head()
            heapq.heappop(self._fresh)
        return None

    def take(self, record: Record) -> None:
        """Take what `peek` returned."""
        if self._ready and self._ready[0][3] is record:
            heapq.heappop(self._ready)
        else:
            self._fresh[0][2].pop()

    def next_due(self) -> float | None:
        """When the first waiting retry is due; None where none waits. Call after `peek` returned None."""
        return self._delayed[0][0] if self._delayed else None


class Turns:
    """The tasks of one account take turns, record by record, weighted by their priority.

    Each turn moves a task on by a stride, the smaller the higher its priority, and the task that is the
    least far goes next. One that had nothing to send joins the others where they are: it has no claim on
    turns that it did not take.
    """

    def __init__(self) -> None:
        self._queues: list[TaskQueue] = []  # by how far they are
        self._now = 0.0  # how far the task was that went last

    @property
    def queues(self) -> tuple[TaskQueue, ...]:
        """All that take turns."""
        return tuple(self._queues)

    @property
    def down(self) -> Down | None:
        """The outage that has lasted longest, of all routes that the tasks take."""
        downs = [queue.link.down for queue in self._queues if queue.link.down is not None]
        return min(downs, key=lambda down: down.since, default=None)

    @property
    def backlog(self) -> int:
        """Records that wait for their turn, or for their time, in tasks that may send."""
        return sum(queue.backlog for queue in self._queues if queue.may_send)

    def add(self, queue: TaskQueue) -> None:
        """Let a task take part."""
        if queue not in self._queues:
            queue.position = max(queue.position, self._now)
            insort(self._queues, queue, key=_position)

    def remove(self, queue: TaskQueue) -> None:
        """Its last chunk has gone, or it moved to another account."""
        if queue in self._queues:
            self._queues.remove(queue)
            queue.position = 0.0

    def peek(self, now: float) -> tuple[TaskQueue, Record] | None:
        """Whose turn it is, with its record."""
        for queue in self._queues:
            if queue.takes_turns and (record := queue.peek(now)) is not None:
                return queue, record
        return None

    def take(self, queue: TaskQueue, record: Record) -> None:
        """Take what `peek` returned; the task moves on."""
        queue.take(record)
        queues = self._queues
        self._now = max(self._now, queue.position)
        queue.position = self._now + _STRIDES[queue.prepared.plan.priority]
        if len(queues) > 1:
            queues.remove(queue)
            insort(queues, queue, key=_position)

    def next_due(self) -> float | None:
        """When the first waiting retry of any task is due."""
        dues = [due for queue in self._queues if queue.takes_turns and (due := queue.next_due()) is not None]
        return min(dues, default=None)


def _position(queue: TaskQueue) -> float:
    return queue.position
