"""A task's budget: it rests before what is spent, or may be spent, could pass it, whatever crashes.

Workers are granted amounts, batches are held to what they may cost at most. Each amount stands in task.db
before it can be spent: a grant as a fact, a batch with its intent. What a later daemon finds there without
knowing better counts as spent.
"""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import ConfigError
from batch_infer.protocol.text import Text
from batch_inferd.batches import submission as submissions
from batch_inferd.batches.charging import charge
from batch_inferd.config.schema import Budget
from batch_inferd.money.budget import BudgetPlan, NanoRates, nano, units
from batch_inferd.money.cost import spent
from batch_inferd.money.estimate import no_price
from batch_inferd.money.image_tokens import most_tokens
from batch_inferd.money.ledger import Ledger
from batch_inferd.store.taskdb import disk_errno
from batch_inferd.tasks import states
from batch_inferd.tasks.states import Reason

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from batch_inferd.batches.submission import MostTokens, Submission
    from batch_inferd.money.prices import Price
    from batch_inferd.scheduling.seat import Seat
    from batch_inferd.tasks.task import Task

FACT = "budget"  # of a task: what stands of its ledger on the disk
_PLACES = 4


class TaskBudget:
    """One task's; without a budget in its config it does nothing, and is asked for nothing."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._ledger = Ledger()
        self._open = False  # everything that was spent before is in the ledger
        self._standing = False  # and on the disk
        self._unbounded: set[int] = set()  # batches that an earlier daemon created without a budget
        self._lost = 0  # of an earlier budget: what no answer tells
        self._currency = ""  # of what was counted
        self._dirty = False
        self._again = False
        self._serving: asyncio.Task[None] | None = None
        self._resting: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    # what it is

    @property
    def config(self) -> Budget | None:
        """The config's."""
        return _budget_of(self._task.config)

    @property
    def _limit(self) -> int | None:
        budget = self.config
        return None if budget is None else nano(budget.amount)

    @property
    def used_up(self) -> bool:
        """Whether nothing more can be begun, and nothing is under way that may cost less than it might."""
        ledger, limit = self._ledger, self._limit
        return (
            limit is not None
            and self._open
            and not ledger.held
            and not ledger.batches
            and ledger.total >= limit
        )

    def terms(self) -> BudgetPlan | None:
        """What its plan tells the workers; None without a budget. Raises ConfigError: no price is known."""
        if self.config is None:
            return None
        price, task = self._price(), self._task
        return BudgetPlan(
            NanoRates.of(price.online),
            int(task.config["config"]["model"]["max_tokens"]),
            most_tokens(task.model),
            str(task.config["profile"]["rename"].get("max_tokens", "max_tokens")),
        )

    def to_json(self) -> dict[str, float] | None:
        """What the `cost` of a summary says of it; None without a budget."""
        budget = self.config
        if budget is None:
            return None
        total = self._ledger.total if self._open else self._told_by_answers() + self._lost
        return {"budget": budget.amount, "committed": units(total)}

    def reason(self, needed: int | None = None) -> Reason:
        """Why the task rests; `needed`: what the next call or batch costs at most."""
        budget = self.config or Budget(0.0)
        values = {
            "committed": _money(self._ledger.total, budget.currency),
            "budget": _money(nano(budget.amount), budget.currency),
            "next": None if needed is None else _money(needed, budget.currency),
            "id": self._task.id,
        }
        if needed is None:
            text = Text(
                "the budget is used up: {committed} of {budget} are spent, or may be; to raise it: "
                "batch_infer -set {id} budget=AMOUNT, then batch_infer -resume {id}",
                values,
            )
        else:
            text = Text(
                "the budget does not allow more: {committed} of {budget} are spent, or may be, and what "
                "comes next may cost {next}; to raise it: batch_infer -set {id} budget=AMOUNT, then "
                "batch_infer -resume {id}",
                values,
            )
        return Reason("budget", text)

    def _price(self) -> Price:
        price = self._task.money.price
        if price is None:
            raise ConfigError(no_price(self._task.model))
        return price

    # life

    async def load(self) -> None:
        """Go on with what stands in task.db. No worker lives. Raises sqlite3.Error."""
        task = self._task
        stored: dict[str, Any] = task.facts.get(FACT) or {}
        self._currency = str(stored.get("currency", ""))
        self._lost = int(stored.get("lost", 0))
        if task.batch is not None and (stored or self.config or task.state not in states.ENDED):
            self._ledger.charged = await task.batch.store.charged()
            for row, lines in await task.batch.store.open():
                one = submissions.Submission.from_row(row, lines)
                self.adopt(one)
                if _is_unbounded(one):
                    self._unbounded.add(one.id)
        if "grants" in stored:
            self._ledger.load(stored)
            self._open = self._standing = self._dirty = True
            if self.config is None:
                self._retire()
                await self._save()

    async def mended(self) -> None:
        """The task has another config. Raises sqlite3.Error."""
        if self.config is None and self._open:
            self._retire()
            await self._save()
        self.wake()

    def _retire(self) -> None:
        """The budget was taken away: keep what its answers do not tell, for another one that may come."""
        self._lost = max(0, self._ledger.total - self._told_by_answers())
        self._ledger.held.clear()
        self._ledger.batches.clear()
        self._open, self._standing, self._dirty = False, False, True

    def _told_by_answers(self) -> int:
        price = self._task.money.price
        money = None if price is None else spent(self._task.money.used, price)
        return 0 if money is None else nano(money.total, up=True)

    async def written(self) -> None:
        """Return once what workers have said so far stands in task.db, as far as that goes."""
        jobs = [job for job in (self._serving, self._resting) if job is not None]
        if jobs:
            await asyncio.wait(jobs)

    # workers

    def hear(self, seat: Seat, said: dict[str, Any]) -> None:
        """A worker's purse has something to say."""
        if self.config is None:
            return
        key = f"{seat.name}/{said['purse']}"
        if self._ledger.is_stale(key, said):
            seat.send("grant", {"task": self._task.uuid, "purse": said["purse"], "granted": 0, "void": True})
            return
        self._dirty |= self._ledger.hear(key, seat.name, said)
        self.wake()

    def seat_gone(self, seat: Seat) -> None:
        """Whatever its purses could have spent counts as spent."""
        lost = self._ledger.lose(seat.name)
        if lost:
            self._task.log(30, f"budget: {units(lost):.6f} are counted as spent with a worker that ended")
            self._dirty = True
            self.wake()

    def lease_ended(self) -> None:
        """What was sent under it has come back."""
        if self.config is not None:
            self.wake()

    def wake(self) -> None:
        """Something changed: look soon what can be granted, and whether the task has to rest."""
        self._notify()
        self._look()

    def _look(self) -> None:
        self._again = True
        if (self._serving is None or self._serving.done()) and not self._task.forgotten:
            self._serving = asyncio.create_task(self._serve(), name=f"budget-{self._task.id}")

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def changed(self) -> Coroutine[Any, Any, bool]:
        """What ends once there may be more to spend, counted from this call."""
        return self._changed.wait()

    def agrees(self, currency: str) -> bool:
        """Whether what was counted so far, if anything was, is in this currency."""
        counted = self._open or self._lost
        return not counted or self._currency in ("", currency)

    async def _serve(self) -> None:
        task, ledger = self._task, self._ledger
        try:
            while self._again:
                self._again = False
                limit = self._limit
                promised = False
                if limit is not None and self._is_open() and task.running:
                    seats = {lease.seat.name for lease in task.leases.values()}
                    promised = ledger.decide(limit, len(seats))
                if promised or self._dirty:
                    await self._save()
                self._tell()
                if limit is not None and not promised:
                    await self._rest_if_used_up(limit)
        except (OSError, sqlite3.Error) as error:
            ledger.break_promises()
            if task.state not in states.ENDED:
                await task.fault(disk_errno(error), str(error))
        except Exception as error:
            # Nobody waits for this: without a word the task would stand still.
            ledger.break_promises()
            task.context.logs.exception(task.id, "a bug in the task's budget")
            await task.bug(repr(error))

    def _tell(self) -> None:
        seats = {lease.seat.name: lease.seat for lease in self._task.leases.values()}
        for key, granted in self._ledger.told():
            seat = seats.get(self._ledger.held[key].seat)
            if seat is not None:  # else its purse is closed, and will say so
                number = int(key.rpartition("/")[2])
                seat.send("grant", {"task": self._task.uuid, "purse": number, "granted": granted})

    async def _save(self) -> None:
        budget = self.config
        self._dirty, opened = False, self._open and budget is not None
        if budget is not None and opened:
            self._currency = budget.currency
            stored = self._ledger.to_json() | {"currency": self._currency}
        else:
            stored = {"lost": self._lost, "currency": self._currency}
        try:
            await self._task.db.set_facts(**{FACT: stored})
        except BaseException:
            self._dirty = True
            raise
        if opened and self._open and not self._standing:
            self._standing = True
            self._notify()

    def _is_open(self) -> bool:
        """Whether all that was sent without a budget has come back; then its sum is known."""
        task = self._task
        if not self._open:
            if any(lease.unbounded for lease in task.leases.values()):
                return False
            if self._unbounded:
                return False
            if task.batch is not None and any(map(_is_unbounded, task.batch.open.values())):
                return False
            self._ledger.begin(self._told_by_answers() + self._lost)
            self._open = self._dirty = True
        return True

    async def _rest_if_used_up(self, limit: int) -> None:
        task, ledger = self._task, self._ledger
        needed = ledger.next_call()
        starving = {one.seat for one in ledger.held.values()}
        if (
            needed is not None
            and self._open
            and needed > limit - ledger.total
            and not ledger.batches
            and task.running
            and all(lease.seat.name in starving for lease in task.leases.values())
        ):
            await task.pause(self.reason(needed))

    # batches

    def _worst(self, most: MostTokens) -> int:
        """What a batch of these tokens costs at most."""
        return self._batch_rates().most(most.input, most.output)

    def _batch_rates(self) -> NanoRates:
        price = self._price()
        return NanoRates.of(price.batch or price.online)

    def adopt(self, one: Submission) -> None:
        """A submission that is, or may be, at the provider."""
        if self.config is not None and one.detail.most is not None and one.state in _BEGUN:
            self._ledger.batches[one.id] = self._worst(one.detail.most)

    def hold(self, one: Submission) -> bool:
        """Whether the batch may be created: what it costs at most is held then, until `settled`.

        It is called again whenever something has `changed`; once held, it stays so.
        """
        limit = self._limit
        if limit is None or one.id in self._ledger.batches:
            return True
        if one.detail.most is None or not self._is_open():
            return False
        if not self._standing:
            self._look()
            return False
        worst = self._worst(one.detail.most)
        if worst > limit - self._ledger.total:
            return False
        self._ledger.batches[one.id] = worst
        return True

    def short_of(self, one: Submission) -> int | None:
        """What a batch that cannot be held costs at most, where nothing under way may make room for it."""
        ledger, limit = self._ledger, self._limit
        if one.detail.most is None or limit is None or not self._standing or ledger.batches:
            return None
        if self._task.leases and ledger.next_call() is None:
            return None
        return self._worst(one.detail.most)

    def rest(self, needed: int) -> None:
        """Pause the task soon: whoever asks for it may be ended by the pause."""
        if self._resting is None or self._resting.done():
            pause = self._task.pause(self.reason(needed))
            self._resting = asyncio.create_task(pause, name=f"rest-{self._task.id}")

    def release(self, one: Submission) -> None:
        """The batch is not created for now."""
        if self._ledger.batches.pop(one.id, None) is not None:
            self.wake()

    def charge(self, one: Submission, *, collected: bool) -> int | None:
        """What a batch that has ended has cost; None where no budget is told."""
        if self.config is None or one.detail.most is None:
            return None
        return charge(one, self._batch_rates(), collected=collected)

    def settled(self, one: Submission) -> None:
        """The end of a submission is committed, with what it was charged."""
        self._ledger.batches.pop(one.id, None)
        self._unbounded.discard(one.id)
        self._ledger.charged += one.detail.charged or 0
        if self.config is not None:
            self.wake()


_BEGUN = frozenset({*submissions.MAYBE_CREATED, submissions.LIVE, submissions.ENDED})


def _is_unbounded(one: Submission) -> bool:
    """Whether it is at the provider, or may be, and costs what it does."""
    return one.detail.most is None and one.state not in submissions.UNCREATED


def _budget_of(snapshot: Mapping[str, Any]) -> Budget | None:
    found = snapshot["config"].get("budget")
    return None if found is None else Budget(**found)


def _money(amount: int, currency: str) -> str:
    """`12.3457 USD`; small amounts with as many digits as tell something."""
    value = units(amount)
    shown = f"{value:,.{_PLACES}f}" if value >= 0.01 or not value else f"{value:.3g}"
    return f"{shown} {currency}"
