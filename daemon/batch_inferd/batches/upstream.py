"""What tasks share of an account's Batch API: its queue, its network, its looks at batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_inferd.batches.capacity import Capacity
from batch_inferd.batches.poller import Poller
from batch_inferd.batches.reach import Reach

if TYPE_CHECKING:
    from batch_inferd.backends.plan import RequestPlan
    from batch_inferd.seams.clock import Clock

_Route = tuple[str, str, str | None]  # account, base URL, proxy


class Upstreams:
    """Finds what is shared. Made once a daemon."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._capacities: dict[str, Capacity] = {}
        self._reaches: dict[_Route, Reach] = {}
        self._pollers: dict[_Route, Poller] = {}

    def capacity(self, account: str) -> Capacity:
        """The account's queue."""
        return self._capacities.setdefault(account, Capacity(self._clock))

    def reach(self, plan: RequestPlan) -> Reach:
        """The way that a plan's calls take."""
        return self._reaches.setdefault(_route(plan), Reach(self._clock))

    def poller(self, plan: RequestPlan) -> Poller:
        """The looks that go this way."""
        route = _route(plan)
        if route not in self._pollers:
            self._pollers[route] = Poller(self._clock, self.reach(plan))
        return self._pollers[route]

    def close(self) -> None:
        """End all looks."""
        for poller in self._pollers.values():
            poller.close()


def _route(plan: RequestPlan) -> _Route:
    return plan.account, plan.base_url, plan.proxy
