"""One account: a credential on a service, with the limits that all tasks on it share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from batch_infer.protocol.text import Text
from batch_inferd.scheduling.charges import Charges
from batch_inferd.scheduling.control import Control
from batch_inferd.scheduling.limits import Limits
from batch_inferd.scheduling.quota import MINUTE_S, Quota
from batch_inferd.scheduling.shares import Shares, with_late
from batch_inferd.scheduling.slots import Slots
from batch_inferd.scheduling.starts import Starts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PROBE_FIRST_S = 30.0
PROBE_MAX_S = 600.0


class Word(NamedTuple):
    """What a worker is told of the account; `due` is how many slots it will have. See the worker's gate.

    `first_in_s` is for a worker that had no share of the rate before: when its first call is due.
    `charged` are the tokens of other workers that it pays for, since it began.
    """

    due: int
    slots: int
    rate_per_s: float | None
    tokens_per_s: float | None
    bytes: int
    first_in_s: float
    charged: float
    cut: int
    word: int

    def to_json(self) -> dict[str, Any]:
        """The ACCOUNT message, without whom it is about, and its hold."""
        told = self._asdict()
        del told["due"]
        return told


class Account:
    """The controller of an account: its window and pace, its hold after a 429, its credit probes."""

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self._hold = 0.0  # monotonic, from Retry-After
        self.hold_until = 0.0  # the same as wall time, as it was when it was asked for
        self.quota: dict[str, str] = {}  # the x-ratelimit headers seen last
        self.waiting: dict[str, Any] | None = None  # what a worker's calls on it wait for
        self.probe_at: float | None = None  # monotonic; credit is gone until then
        self.probing = False
        self.slots = Slots()
        self.blocked = False  # the credential was refused: nothing is sent until a task is resumed
        self.daemons = 1  # of this user, that use it now: they divide its limits
        self._probe_interval = PROBE_FIRST_S
        self._control = Control()
        self._limits = Limits(1, 1)
        self._rates, self._tokens, self._bytes = Shares(), Shares(), Shares()
        self._starts, self._charges = Starts(), Charges()
        self._requests_told, self._tokens_told = Quota("requests"), Quota("tokens")
        self._word = 0  # numbers what the workers are told
        self._backlogs: dict[str, int] = {}  # worker -> records that it could send, by its last report

    def set_limits(self, limits: Iterable[Limits]) -> None:
        """The limits of the tasks that run: the strictest of each holds, divided by the daemons."""
        strictest = Limits.strictest(limits)
        if strictest is None:
            return
        divided = strictest.divided(self.daemons)
        if divided[:2] != self._limits[:2]:
            self._control.set_bounds(divided.concurrency, divided.most)
        self._limits = divided

    @property
    def limits(self) -> Limits:
        """What holds now, of this daemon's share."""
        return self._limits

    def restart(self, concurrency: int) -> None:
        """A person says how many calls may be in flight: the window begins anew from there."""
        self._control.restart(concurrency)

    @property
    def window(self) -> int:
        """Calls that may be in flight: none while it is refused, one while the credit is probed."""
        if self.blocked or self.probe_at is not None:
            return 0
        return 1 if self.probing else self._control.window

    def rate(self, monotonic: float) -> float | None:
        """Calls a second: the lowest of the task's limit, what the service told, and what was learnt."""
        told = self._requests_told.limit(monotonic)
        pace = self._control.pace
        return _least(self._limits.rpm, told and told / self.daemons, pace and pace * MINUTE_S)

    def tokens(self, monotonic: float) -> float | None:
        """Tokens a second, as far as there is a limit."""
        told = self._tokens_told.limit(monotonic)
        return _least(self._limits.tpm, told and told / self.daemons)

    def divide(self, workers: list[str], weights: Mapping[str, float], monotonic: float) -> dict[str, Word]:
        """What each worker is to be told, with `weights` by what it has to send."""
        self._word += 1
        waiting = [name for name in workers if self._backlogs.get(name)]
        demand = {name: weights.get(name, 0.0) for name in workers}
        demand = with_late(demand, waiting)
        rate, tokens = self.rate(monotonic), self.tokens(monotonic)
        rates = self._rates.divide(rate, demand, self._word) if rate is not None else {}
        waits = self._starts.waits(rates, rate, monotonic)
        token_rates = self._tokens.divide(tokens, demand, self._word) if tokens is not None else {}
        charged = self._charges.divide(token_rates, tokens, monotonic)
        if any(demand.values()):
            self._control.begin(monotonic)
        else:
            demand = dict.fromkeys(workers, 1.0)  # of slots and bytes: the next record need not wait for them
        window = min(self.window, self._control.bound(self._control.window, monotonic))
        slots = self.slots.divide(window, workers, demand, self._word)
        sends = {name: float(demand[name] > 0) for name in workers}
        room = self._bytes.divide(self._limits.bytes, sends, self._word)
        return {
            name: Word(
                slots[name].due,
                slots[name].now,
                rates.get(name),
                token_rates.get(name),
                int(room[name]),
                waits.get(name, 0.0),
                charged.get(name, 0.0),
                self._control.cuts,
                self._word,
            )
            for name in workers
        }

    def farewell(self, worker: str) -> Word | None:
        """What a worker that ends is told: its calls in flight may finish. None when it knows."""
        self._word += 1
        shares = (self.slots, self._rates, self._tokens, self._bytes)
        news = [share.leave(worker, self._word) for share in shares]
        if not any(news):
            return None
        return Word(0, 0, 0.0, 0.0, 0, 0.0, 0.0, cut=self._control.cuts, word=self._word)

    def gone(self, worker: str, monotonic: float) -> None:
        """A worker has ended: its calls are over, its shares are free, its debt is everybody's."""
        self.slots.gone(worker)
        for shares in (self._rates, self._tokens, self._bytes):
            shares.gone(worker)
        self._charges.gone(worker, monotonic)
        self._control.gone(worker)
        self._backlogs.pop(worker, None)

    def observe(self, worker: str, seen: Mapping[str, Any], wall: float, monotonic: float) -> None:
        """A worker's report on the account (deltas): see the worker's `Gate.report`."""
        word = int(seen.get("word", 0))
        self.slots.reported(worker, word, int(seen["in_flight"]))
        self._rates.reported(worker, word)
        self._tokens.reported(worker, word)
        self._bytes.reported(worker, word, float(seen.get("bytes_in_flight", 0)))
        self._charges.owe(float(seen.get("owed", 0.0)))
        self._charges.reported(worker, float(seen.get("owing", 0.0)), monotonic)
        self._backlogs[worker] = int(seen.get("backlog", 0))
        quota: dict[str, str] = seen.get("quota") or {}
        holds = [float(seen.get("retry_after") or 0.0)]
        if quota:
            self.quota.update(quota)
            told = (self._requests_told, self._tokens_told)
            holds += [one.update(quota, wall, monotonic) for one in told]
        if monotonic + max(holds) > max(self._hold, monotonic):
            self._hold = monotonic + max(holds)
            self.hold_until = wall + max(holds)
        self._control.observe(worker, seen, monotonic, held=self.is_held(monotonic))
        self.waiting = seen.get("waiting")
        if seen.get("ok"):
            self.credit_back()

    def is_held(self, monotonic: float) -> bool:
        """Whether the service asked to wait still."""
        return self._hold > monotonic

    def credit_gone(self, monotonic: float) -> float:
        """The service says that the credit is spent; returns the seconds until the next probe."""
        if self.probing:
            self._probe_interval = min(self._probe_interval * 2, PROBE_MAX_S)
        self.probing = False
        self.probe_at = monotonic + self._probe_interval
        return self._probe_interval

    def credit_back(self) -> None:
        """Something was paid for: if the credit was in doubt, it no longer is."""
        if self.probing:
            self.probing = False
            self._probe_interval = PROBE_FIRST_S

    def probe_soon(self, monotonic: float) -> None:
        """A task was found that waits for credit: try it without much delay."""
        if self.probe_at is None and not self.probing:
            self.probe_at = monotonic

    def unblock(self) -> None:
        """A person submits or resumes a task on it: try at once."""
        self.blocked = False
        self.probe_at = None

    def start_probe(self) -> None:
        """Let one call through at a time, until one is answered."""
        self.probe_at = None
        self.probing = True

    def waiting_text(self, monotonic: float) -> dict[str, Any] | None:
        """What calls on it wait for, in the shape of a summary's `waiting`."""
        if self.waiting and self.waiting.get("code") == "network":
            text = Text(
                "the network is down: {detail}; waiting, and going on by itself when it returns",
                {"detail": Text.from_wire(self.waiting.get("text"))},
            )
            return self.waiting | {"text": text.to_wire()}
        if self.waiting:
            return self.waiting
        if self.is_held(monotonic):
            return {
                "code": "rate_limit",
                "text": Text("the service asked to wait (rate limit)").to_wire(),
                "since": None,
                "next_try": self.hold_until,
            }
        return None


def _least(*a_minute: float | None) -> float | None:
    """The lowest of some rates a minute that there are, a second."""
    least = min((rate for rate in a_minute if rate is not None), default=None)
    return None if least is None else least / MINUTE_S
