"""Decides what happens to a request: let in or refused, how long it takes, and how it ends."""

from __future__ import annotations

import random
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from batch_inferd.testing.batch_faults import BatchFaults
from batch_inferd.testing.controls import SLOW, Controls, Rule
from batch_inferd.testing.errors import (
    ApiError,
    bad_key,
    forbidden,
    invalid,
    no_balance,
    no_key,
    no_quota,
    no_such_model,
    not_found,
    overloaded,
    rate_limited,
    server_error,
    too_large,
)
from batch_inferd.testing.limiter import Limiter

if TYPE_CHECKING:
    from collections.abc import Iterator

Ending = Literal["answer", "drop", "hang", "truncate", "garbage", "slow_loris"]


class Fate(NamedTuple):
    """How a request that was let in ends."""

    ending: Ending = "answer"
    delay_s: float = 0.0
    error: ApiError | None = None  # the answer is this error


class Faults:
    """The controls in force, with what they remember: the dice, the storm, the rules' counts, the buckets.

    What a control remembers starts anew when that control is set.
    """

    def __init__(self, controls: Controls) -> None:
        self.controls = Controls()
        self.batches = BatchFaults()
        self._working = 0
        self._rule_lock = Lock()  # batches are worked on in a thread of their own
        self._set(controls, set(controls.__struct_fields__))

    def update(self, patch: Any) -> Controls:
        """Replace the keys of a JSON object. Raises ControlsError; then nothing has changed."""
        self._set(self.controls.merged(patch), set(patch))
        return self.controls

    def _set(self, controls: Controls, changed: set[str]) -> None:
        with self._rule_lock:
            self.controls = controls
            if "rules" in changed:
                self._rule_calls = [0] * len(controls.rules)
        if "seed" in changed:
            self._dice = random.Random(controls.seed)  # noqa: S311  repeatable is what is wanted
        if "storm_429" in changed:
            self._storm_left = controls.storm_429
        if "rpm" in changed:
            self._limiter = Limiter(controls.rpm) if controls.rpm else None
        self.batches.set(controls, changed)

    def check_key(self, key: str | None) -> str:
        """The key, if it is accepted. Raises ApiError (401, 403)."""
        if not key:
            raise no_key()
        if key in self.controls.bad_keys or self.controls.auth == "401":
            raise bad_key()
        if self.controls.auth == "403":
            raise forbidden()
        return key

    def check_account(self, model: str) -> None:
        """Whether the account may use the model and can pay. Raises ApiError (404, 429, 402)."""
        if model in self.controls.unknown_models:
            raise no_such_model(model)
        self.check_credit()

    def check_credit(self) -> None:
        """Whether the account can pay. Raises ApiError (429, 402)."""
        if self.controls.credit == "insufficient_quota":
            raise no_quota()
        if self.controls.credit == "402":
            raise no_balance()

    @contextmanager
    def work(self, key: str) -> Iterator[dict[str, str]]:
        """Hold one place among the requests being worked on; gives the rate limit's headers.

        Raises ApiError (429) when the storm, the dice or a limit refuses it.
        """
        controls = self.controls
        if self._storm_left:
            self._storm_left -= 1
            raise rate_limited("Rate limit reached: too many requests.", controls.retry_after)
        if self._hit(controls.rate_429):
            raise rate_limited("Rate limit reached: too many requests.", controls.retry_after)
        if controls.max_concurrency is not None and self._working >= controls.max_concurrency:
            raise rate_limited(
                f"Too many concurrent requests: at most {controls.max_concurrency}.", controls.retry_after
            )
        headers = self._limiter.take(key) if self._limiter else {}
        self._working += 1
        try:
            yield headers
        finally:
            self._working -= 1

    def fate(self, text: str) -> Fate:
        """How the request whose content is `text` ends. What a rule refuses outright takes no time."""
        low, high = self.controls.latency_range
        delay_s = (low if low == high else self._dice.uniform(low, high)) / 1000
        if (rule := self._rule(text)) is not None:
            return self._ruled(rule, delay_s)
        controls = self.controls
        if self._hit(controls.error_rate):
            return Fate(delay_s=delay_s, error=server_error())
        endings: tuple[tuple[Ending, float], ...] = (
            ("drop", controls.drop_rate),
            ("truncate", controls.truncate_rate),
            ("garbage", controls.garbage_rate),
            ("slow_loris", controls.slow_loris_rate),
        )
        for ending, rate in endings:
            if self._hit(rate):
                return Fate(ending, delay_s)
        return Fate(delay_s=delay_s)

    def line_error(self, text: str) -> ApiError | None:
        """What a rule does to the line of a batch whose content is `text`; any thread may ask."""
        if not self.controls.rules or (rule := self._rule(text)) is None or rule.do.startswith(SLOW):
            return None
        return self._ruled(rule, 0.0).error or server_error()  # what breaks a connection breaks a line

    def _hit(self, rate: float) -> bool:
        return rate > 0 and self._dice.random() < rate

    def _rule(self, text: str) -> Rule | None:
        with self._rule_lock:
            for index, rule in enumerate(self.controls.rules):
                if rule.contains in text and (rule.times is None or self._rule_calls[index] < rule.times):
                    self._rule_calls[index] += 1
                    return rule
        return None

    def _ruled(self, rule: Rule, delay_s: float) -> Fate:
        retry_after = self.controls.retry_after
        match rule.do:
            case "drop" | "hang" | "truncate" | "garbage" as ending:
                return Fate(ending, delay_s)
            case "500":
                return Fate(delay_s=delay_s, error=server_error())
            case "503":
                return Fate(delay_s=delay_s, error=overloaded(retry_after))
            case "400":
                message = "This record is refused: a rule of the test service says so."
                return Fate(error=invalid(message, param="messages"))
            case "401":
                return Fate(error=bad_key())
            case "403":
                return Fate(error=forbidden())
            case "404":
                return Fate(error=not_found("This record asks for something that does not exist."))
            case "422":
                message = "This record cannot be processed."
                return Fate(error=invalid(message, code="unprocessable_entity", status=422))
            case "429":
                return Fate(error=rate_limited("Rate limit reached: too many requests.", retry_after))
            case "429_too_large":
                return Fate(error=too_large())
            case slow:
                return Fate(delay_s=float(slow.removeprefix(SLOW)))
