"""What an account's calls are held to: the window and the pace that were learnt, and the brake.

A service may limit the calls in flight or the calls a minute, and a 429 does not say which. So both are
learnt, as two values of the same kind (`aimd`), and each 429 cuts one of them. Which one: if the 429s of
late came whenever a certain number of calls was in flight, that is the limit; if they came at this number
and at that, it is the pace. The other value keeps room above what is used, out of the way.

The pace is unlimited until the first 429; then it begins at what the service took of late. A 429 counts
once a cut, whoever met it: what was sent before the workers heard of a cut is an echo.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_inferd.scheduling.aimd import REST_S, Aimd
from batch_inferd.scheduling.brake import Brake
from batch_inferd.scheduling.meter import Meter
from batch_inferd.scheduling.ramp import Ramp

if TYPE_CHECKING:
    from collections.abc import Mapping

USED = 0.9  # a window counts as used when this share of it was in flight
_COUNTS = ("sent", "ok", "throttled", "broken", "failed", "paced", "full")
_IDLE_MAX_S = 0.25  # of time that one report may stand for while nobody had anything to send or wait for
_BUSY_MAX_S = 10.0  # the same while somebody had: no machine sleeps unnoticed
_ROOM = 2.0  # above what is used, for the limit that holds nothing back
_HELD_BACK = 2.0  # times as often as by the other one
_EPISODE_S = 2.0  # cuts that follow sooner are of the same overload
_FULL, _NOT_FULL = 0.85, 0.8  # calls in flight at a refusal, of the most since the one before
_ALIKE, _ALIKE_CALLS = 0.1, 1.5  # how far two such refusals may be apart
_HEARD_S = 0.25  # until calls are sent under the newest cut
_TOO_EARLY = 2
_STILL = 0.8  # of the calls in flight at the first refusal of an overload
_LEAST_PACE = 0.2  # calls a second
_PACE_USED = 0.7


class Control:
    """The controller of one account. Times are monotonic."""

    def __init__(self) -> None:
        self._window = Aimd(1, 1)
        self._pace: Aimd | None = None
        self._by_pace = False  # which of them is the limit, as far as is known
        self._brake = Brake()
        self._ramp = Ramp()
        self._meter = Meter()
        self._flying: dict[str, tuple[int, int]] = {}  # worker -> calls in flight: at most, and now
        self._most_flying = 0  # calls in flight since the last cut
        self._refused_at: int | None = None  # calls in flight at the last cut, if there were never more
        self._cut_at = 0.0
        self._settled = False
        self._alike = False  # this overload came with as many calls in flight as the one before
        self._early = 0  # overloads in a row that came while the window rested, under what had passed
        self._first_flying = 0  # calls in flight at the first cut of this overload
        self._at: float | None = None  # the last report
        self._busy: dict[str, bool] = {}  # worker -> whether it had calls in flight, or some to send
        self._answered_at = 0.0
        self._answered = False  # since the last cut
        self._begun = False
        self.cuts = 0  # workers say which of them they go by

    def set_bounds(self, start: int, most: int) -> None:
        """Calls in flight at first, and at most."""
        if self._begun:
            self._window.set_bounds(start, most)
        else:
            self._window = Aimd(start, most)
            self._begun = True

    def restart(self, concurrency: int) -> None:
        """A person says how many calls may be in flight: all begins anew from there."""
        self._window.restart(concurrency)
        self._pace = None
        self._by_pace = False
        self._refused_at = None

    def begin(self, now: float) -> None:
        """Something is to be sent."""
        self._ramp.begin(now)

    def bound(self, window: int, now: float) -> int:
        """`window`, or less in the first seconds."""
        return self._ramp.bound(window, now)

    @property
    def window(self) -> int:
        """Calls that may be in flight."""
        return max(1, int(self._window.value * self._brake.share + 1e-9))

    @property
    def pace(self) -> float | None:
        """Calls a second that were learnt to pass; None: no limit was met."""
        learnt = None if self._pace is None else self._pace.value
        rates = [rate for rate in (learnt, self._brake.rate) if rate is not None]
        return min(rates, default=None)

    def gone(self, worker: str) -> None:
        """A worker has ended."""
        self._flying.pop(worker, None)
        self._busy.pop(worker, None)

    def observe(self, worker: str, seen: Mapping[str, Any], now: float, *, held: bool) -> None:
        """A worker's report; `held`: nothing is sent now, as the service asked to wait."""
        seconds = self._elapsed(now, held=held)
        # After a 429 a worker sends nothing for a moment.
        resting = seen.get("waiting") or seen.get("throttled")
        self._busy[worker] = not resting and bool(seen.get("in_flight") or seen.get("backlog"))
        self._meter.pass_by(seconds)
        self._meter.add(seen, _COUNTS)
        self._flying[worker] = (int(seen.get("peak_in_flight", 0)), int(seen.get("in_flight", 0)))
        self._most_flying = max(self._most_flying, sum(flying for _, flying in self._flying.values()))
        self._brake.observe(seen, self._meter.rate("sent"), now)
        if seen.get("ok"):
            self._answered_at = now
            self._answered = True
            self._ramp.answered(int(seen["ok"]))
        if seen.get("fresh"):
            # While nothing comes through there is nothing to learn: the workers wait as they are told, or
            # longer and longer.
            if int(seen.get("cut", 0)) == self.cuts and self._answered:
                self._answered = False
                others = sum(flying for name, (_, flying) in self._flying.items() if name != worker)
                self._cut(int(seen.get("flying", 0)) + others, now)
        elif not held and now - self._answered_at < 1.0 and self._brake.share == 1.0:
            self._grow(seconds)

    def _elapsed(self, now: float, *, held: bool) -> float:
        """Seconds since the last report in which calls could be sent."""
        at, self._at = self._at, now
        if at is None or held:
            return 0.0
        most = _BUSY_MAX_S if any(self._busy.values()) else _IDLE_MAX_S
        return min(max(0.0, now - at), most)

    @property
    def _passed(self) -> float:
        """Calls a second that the service took of late."""
        return max(0.0, self._meter.rate("sent") - self._meter.rate("throttled"))

    def _cut(self, flying: int, now: float) -> None:
        self.cuts += 1
        self._ramp.end()
        pace = self._pace
        if pace is None:
            pace = self._pace = Aimd(_LEAST_PACE, float("inf"), _LEAST_PACE)
            pace.settle(_ROOM * self._passed)
        elif now - self._cut_at > _EPISODE_S:
            self._settled = True  # the first cut of an overload that came after a calm
            self._first_flying = flying
            self._judge(pace, flying)
        elif (
            self._settled
            and not self._by_pace
            and now - self._cut_at > _HEARD_S
            and not self._alike
            and flying >= _STILL * self._first_flying
        ):
            # The window was cut already, and that did not help: it is not the calls in flight.
            self._hold_by_pace(pace, flying)
        self._cut_at = now
        self._most_flying = 0
        if self._by_pace:
            pace.cut(self._passed)
        else:
            self._window.cut(flying)

    def _judge(self, pace: Aimd, flying: int) -> None:
        """Decide anew which one is the limit."""
        share = flying / max(1, flying, self._most_flying)
        before, self._refused_at = self._refused_at, flying if share >= _FULL else None
        self._alike = before is not None and abs(flying - before) <= max(_ALIKE_CALLS, _ALIKE * flying)
        self._early = self._early + 1 if self._window.clean_s < REST_S else 0
        if not self._by_pace and (share < _NOT_FULL or self._early >= _TOO_EARLY):
            self._hold_by_pace(pace, flying)
            return
        if self._by_pace and share >= _FULL and self._alike:
            self._by_pace = False
            self._window.settle(flying)
            pace.raise_to(_ROOM * self._passed)

    def _hold_by_pace(self, pace: Aimd, flying: int) -> None:
        self._by_pace = True
        self._early = 0
        pace.settle(self._passed)
        self._window.raise_to(_ROOM * flying)

    def _grow(self, seconds: float) -> None:
        peak = sum(most for most, _ in self._flying.values())
        full, paced = self._meter["full"], self._meter["paced"]
        pace = self._pace
        if peak >= int(self._window.value) * USED and (pace is None or _HELD_BACK * full > paced):
            self._window.grow(seconds)
        if pace is None:
            return
        if self._by_pace:
            self._window.raise_to(_ROOM * peak)
        else:
            pace.raise_to(_ROOM * self._passed)
        if paced * _HELD_BACK > full and self._passed >= _PACE_USED * pace.value:
            pace.grow(seconds)
