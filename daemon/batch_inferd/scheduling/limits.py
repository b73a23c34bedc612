"""The limits that tasks set for their account: the strictest of each holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from batch_inferd.tasks.task import Task

DEFAULT_BYTES = 64 * 1024 * 1024


class Limits(NamedTuple):
    """Calls in flight at first and at most; requests and tokens a minute, None: no limit; bytes in flight."""

    concurrency: int
    most: int
    rpm: float | None = None
    tpm: float | None = None
    bytes: int = DEFAULT_BYTES

    @classmethod
    def of(cls, task: Task) -> Limits:
        """What a task's config says, and its service."""
        config = task.config["config"]
        limits = config["limits"]
        most = min(limits["max_concurrency"], task.config["max_concurrency"])
        return cls(
            config["execution"]["concurrency"], most, limits["rpm"], limits["tpm"], limits["bytes_in_flight"]
        )

    @classmethod
    def strictest(cls, all_limits: Iterable[Limits]) -> Limits | None:
        """Of the tasks that share an account; None of none. It begins with the largest concurrency."""
        limits = tuple(all_limits)
        if not limits:
            return None
        most = min(one.most for one in limits)
        return cls(
            min(most, max(one.concurrency for one in limits)),
            most,
            min((one.rpm for one in limits if one.rpm), default=None),
            min((one.tpm for one in limits if one.tpm), default=None),
            min(one.bytes for one in limits),
        )

    def divided(self, number: int) -> Limits:
        """The share of one of `number` daemons that use the account."""
        if number <= 1:
            return self
        most = max(1, self.most // number)
        return Limits(
            min(self.concurrency, most),
            most,
            None if self.rpm is None else self.rpm / number,
            None if self.tpm is None else self.tpm / number,
            max(1, self.bytes // number),
        )


def weights(tasks: Iterable[Task]) -> dict[str, float]:
    """How much of their account's limits each seat should have, by what it has to send.

    A task counts by its priority, and is spread over the seats that hold unsent records of it: so a small
    task whose only chunk is with one seat is not slower for it.
    """
    found: dict[str, float] = {}
    for task in tasks:
        leases = [lease for lease in task.leases.values() if lease.unstarted > 0 and not lease.asked_to_end]
        holders = {lease.seat.name for lease in leases}
        for name in holders:
            found[name] = found.get(name, 0.0) + 2.0 ** _priority(task.config) / len(holders)
    return found


def _priority(config: Mapping[str, dict[str, int]]) -> int:
    return config["config"].get("priority", 0)
