"""How a limit that the service does not tell is found: a value that grows while it is used, and is cut.

Until the first cut it doubles each second ("slow start"). A cut begins a new round of three phases, which
count only time in which the value was used and nothing met a 429:

1. after several cuts in a row, which may have gone too far: half of the way back, within `RECOVER_S`;
2. rest, until `REST_S`: this much is known to pass;
3. probing: growth that starts at a sixth of a per cent a second, doubles every `FASTER_S`, and ends at
   5.5 % a second. So a limit that is still there is met gently, a few calls too many, and one that has
   doubled is reached within a minute.

A cut out of a probe goes back to just under what passed. One that comes sooner says that what was
thought to pass does not: the value falls, the steeper the more cuts come in a row, but not far under what
the service takes. Pure: time comes in with each call.
"""

from __future__ import annotations

import math

RECOVER_S = 4.0
REST_S = 12.0
FASTER_S = 4.0
_PROBE_FIRST = 0.0017  # growth a second when probing begins
_PROBE_MOST = 0.055
_DOUBLES_S = 1.0  # in slow start
_STEP_S = 0.25  # of time at most, while the growth itself grows
_NOTICED_S = 1.2  # how long a 429 takes from the send to the cut, at most as a rule
_MARGIN = 0.98
_CUTS = (0.97, 0.85, 0.6, 0.4, 0.3)  # by how many cuts there were in a row
_IN_A_ROW_S = 3.0
_LEAST_OF_PASSED = 0.8


class Aimd:
    """One learned value: calls in flight, or calls a second."""

    def __init__(self, start: float, most: float, least: float = 1.0) -> None:
        self._least = least
        self._most = max(least, most)
        self.value = min(max(least, start), self._most)
        self.slow_start = True
        self._from = self._aim = self.value
        self.clean_s = 0.0  # used, and without a 429, since the last cut
        self._cuts = 0  # in a row

    def set_bounds(self, start: float, most: float) -> None:
        """The limits of the tasks on the account changed: the value follows at once."""
        self._most = max(self._least, most)
        if self.slow_start:
            self.value = max(self.value, start)
        self.value = min(self.value, self._most)

    def restart(self, start: float) -> None:
        """Begin anew with this value; what was learnt is forgotten."""
        self.value = min(max(self._least, start), self._most)
        self.slow_start = True

    def settle(self, value: float) -> None:
        """Take a first guess for what passes: no slow start."""
        self.value = min(max(self._least, value), self._most)
        self._from = self._aim = self.value
        self.slow_start = False
        self.clean_s = 0.0

    def raise_to(self, value: float) -> None:
        """Another limit holds the calls back: keep this much room, as nothing can be learnt here."""
        if not self.slow_start and value > self.value:
            self.settle(value)
            self.clean_s = REST_S

    def grow(self, seconds: float) -> None:
        """For so long it was used, and nothing met a 429. In slow start it doubles at most, however long."""
        if self.slow_start:
            self.clean_s += seconds
            self.value = min(self._most, self.value * 2 ** min(1.0, seconds / _DOUBLES_S))
            return
        while seconds > 0:
            step = min(seconds, _STEP_S)
            seconds -= step
            self._grow_on(step)

    def _grow_on(self, seconds: float) -> None:
        self.clean_s += seconds
        if self.clean_s < RECOVER_S:
            self.value = self._from + (self._aim - self._from) * self.clean_s / RECOVER_S
        elif self.clean_s < REST_S:
            self.value = self._aim
        else:
            self.value *= math.exp(self._slope * seconds)
        self.value = min(self.value, self._most)

    @property
    def _slope(self) -> float:
        """Growth a second, as a share; 0.0 where it does not probe."""
        probing = self.clean_s - REST_S
        if probing < 0:
            return 0.0
        return min(_PROBE_MOST, _PROBE_FIRST * 2 ** min(probing / FASTER_S, 32.0))

    def cut(self, passed: float) -> None:
        """A 429 that is no echo. `passed`: what the service took of late."""
        refused = self.value
        in_a_row = self.clean_s < _IN_A_ROW_S or self.slow_start
        self._cuts = self._cuts + 1 if in_a_row else 0
        slope = 0.0 if self.slow_start else self._slope
        if slope:
            self.value = max(self._aim, refused * (1 - _NOTICED_S * slope) * _MARGIN)
        else:
            self.value = refused * _CUTS[min(self._cuts, len(_CUTS) - 1)]
            if in_a_row:
                self.value = max(min(self.value, passed), _LEAST_OF_PASSED * passed)
        self.slow_start = False
        self.value = max(self._least, min(refused, self.value))
        self._from = self.value
        self._aim = (self.value + refused) / 2 if self._cuts > 1 else self.value
        self.clean_s = 0.0
