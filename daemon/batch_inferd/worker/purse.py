"""A task's money in a worker: what it may spend of the task's budget, and what calls in flight may cost.

The daemon grants amounts, and has written each down before it tells of it. A call is sent only if what it
costs at most fits in what is free; when it has ended, what it cost is spent and the rest is free again.
Amounts are in nano units, see `money.budget`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Purse:
    """One purse; `number` tells it from earlier ones of the same task.

    `tell` is called with what the daemon is to know, `wake` when calls may start again.
    """

    def __init__(self, number: int, tell: Callable[[dict[str, Any]], None], wake: Callable[[], None]) -> None:
        self.number = number
        self.starved = 0  # what the call costs at most that did not fit; no call of the task begins
        self._tell = tell
        self._wake = wake
        self._granted = 0  # all that was granted
        self._returned = 0  # of it, given back
        self._spent = 0
        self._committed = 0  # what calls in flight may cost
        self._in_flight = 0
        self._asked = False  # for more, without having an answer yet

    @property
    def free(self) -> int:
        """What calls may still be begun for; negative when one cost more than its bound."""
        return self._granted - self._returned - self._spent - self._committed

    def commit(self, worst: int) -> bool:
        """Whether a call that costs at most `worst` may be sent; `settle` must follow then."""
        free = self.free
        if worst > free:
            if not self.starved:
                self.starved = worst
                self._ask_urgently()
            return False
        self._committed += worst
        self._in_flight += 1
        # More is asked for before it runs out: a grant takes as long as writing it down.
        if not self._asked and free - worst < worst * (1 + self._in_flight // 8):
            self._asked = True
            self._say(want=worst * (1 + self._in_flight // 4))
        return True

    def settle(self, worst: int, cost: int) -> None:
        """A call that was committed for `worst` has ended, and cost so much."""
        self._committed -= worst
        self._in_flight -= 1
        self._spent += cost
        if self.starved:
            if self.starved <= self.free:
                self._go_on()
            elif not self._in_flight:
                self._ask_urgently()

    def grant(self, granted: int) -> None:
        """The daemon's word: what was granted in all."""
        self._granted = max(self._granted, granted)
        self._asked = False
        if self.starved:
            if self.starved <= self.free:
                self._go_on()
            else:  # it was asked for before the call that did not fit
                self._ask_urgently()

    def close(self) -> None:
        """Nothing is in flight, and nothing will be: what was not spent is the daemon's again."""
        self._say(closed=True)

    def _go_on(self) -> None:
        self.starved = 0
        self._wake()

    def _ask_urgently(self) -> None:
        """With nothing in flight, what is left here is of no use here: others may need it."""
        idle = not self._in_flight
        if idle:
            self._returned += max(0, self.free)
        need = self.starved - self.free
        self._asked = True
        self._say(need=need, want=max(need, self.starved * (1 + self._in_flight)), idle=idle)

    def _say(self, *, need: int = 0, want: int = 0, idle: bool = False, closed: bool = False) -> None:
        self._tell(
            {
                "purse": self.number,
                "granted": self._granted,
                "spent": self._spent,
                "returned": self._returned,
                "need": need,
                "want": want,
                "idle": idle,
                "closed": closed,
            }
        )
