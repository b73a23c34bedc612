"""What one task costs: its price, what is spent, and where that leads to."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from typing import TYPE_CHECKING, Any

from batch_inferd.batches import submission as submissions
from batch_inferd.batches.charging import billed_without
from batch_inferd.money.cost import amount, cost_json, spent
from batch_inferd.money.forecast import forecast
from batch_inferd.money.prices import FACT, Price, query_of, stored_price
from batch_inferd.money.survey import Survey, survey
from batch_inferd.money.under_way import under_way
from batch_inferd.money.used import Used
from batch_inferd.tasks import states
from batch_inferd.tasks.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_inferd.store.taskdb import ChunkRow
    from batch_inferd.tasks.task import Task


class TaskMoney:
    """The money of a task. Nothing of it is on the way of a record: it reads sums that are kept anyway."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._looking: asyncio.Task[None] | None = None
        self._surveying: asyncio.Task[None] | None = None
        self._survey: Survey | None = None

    @property
    def price(self) -> Price | None:
        """What its tokens cost; None where that is not known, or not yet."""
        return stored_price(self._task.config, self._task.facts.get(FACT))

    @property
    def used(self) -> Used:
        """What all answers so far were billed for."""
        return Used.of(self._task.progress.total)

    def start(self) -> None:
        """Look its price up, if that was not done."""
        if self._looking is None and FACT not in self._task.facts and query_of(self._task.config):
            self._looking = asyncio.create_task(self._look_up(), name=f"price-{self._task.id}")

    async def settled(self) -> None:
        """Wait until its price was looked up."""
        self.start()
        if self._looking is not None:
            await asyncio.wait([self._looking])

    async def stop(self) -> None:
        """Look nothing up any more."""
        jobs = [job for job in (self._looking, self._surveying) if job is not None and not job.done()]
        self._looking = self._surveying = None
        for job in jobs:
            job.cancel()
        if jobs:
            await asyncio.wait(jobs)

    async def _look_up(self) -> None:
        query = query_of(self._task.config)
        if query is None:
            return
        found = await self._task.context.prices.find(query)
        if found is None:
            return  # it is looked up again
        self._task.facts[FACT] = found
        with contextlib.suppress(sqlite3.Error):  # the next daemon looks it up again
            await self._task.db.set_facts(**{FACT: found})
        self._task.changed()

    def cost(self) -> dict[str, Any] | None:
        """The `cost` of its summary."""
        price = self.price
        if price is None:
            return None
        forecast = self._forecast(price)
        return cost_json(self.used, price, forecast, self._task.budget.to_json(), self._under_way(price))

    def _under_way(self, price: Price) -> float | None:
        task = self._task
        batched = 0
        if task.batch is not None:
            open_ones = task.batch.open.values()
            batched = sum(one.requests for one in open_ones if one.state not in submissions.UNCREATED)
        return under_way(
            price,
            self.used,
            self._survey,
            calls=task.progress.total("in_flight"),
            batched=batched,
            max_tokens=int(task.config["config"]["model"]["max_tokens"]),
        )

    def of_chunk(self, row: ChunkRow, live: Mapping[str, int]) -> float | None:
        """What a chunk has cost; `live` are the newest counters of its lease."""
        price = self.price
        if price is None:
            return None
        return amount(spent(Used.of(lambda name: int(live.get(name, getattr(row, name)))), price))

    def of_batch(self, detail: submissions.Detail) -> float | None:
        """What a batch has cost, by its results; None where none of its answers told.

        Answers that did not tell are not in it: see `tokens_unknown` of its results.
        """
        price, results = self.price, detail.results
        if price is None or not results or "tokens_in" not in results or detail.unsure:
            return None
        answered = results.get("answered", 0)
        silent = answered <= results["tokens_unknown"]
        if silent and (answered or billed_without(detail, detail.requests, results)):
            return None
        tokens = [results[name] for name in ("tokens_in", "tokens_cached", "tokens_out")]
        return amount(spent(Used(0, 0, *tokens, *tokens), price))

    def _forecast(self, price: Price) -> float | None:
        task = self._task
        done = task.progress.terminal
        if task.state in (states.MERGING, *states.ENDED):
            return None
        if self._survey is None and self._surveying is None and not task.forgotten:
            self._surveying = asyncio.create_task(self._look_through(), name=f"survey-{task.id}")
        if self._survey is None or not done:
            return None
        return forecast(self.used, price, self._survey, done, self._expected(self._survey))

    def _expected(self, found: Survey) -> float:
        """The records of the whole task."""
        task = self._task
        if task.input_complete:
            return float(task.progress.records)
        most = float(task.test_lines) or found.records
        return max(float(task.progress.records), min(most, found.records))

    async def _look_through(self) -> None:
        task = self._task
        key = str(task.config["messages_key"])
        stop, pin = threading.Event(), task.pin
        with contextlib.suppress(OSError):  # without its input there is no forecast; its reading says why
            self._survey = await in_thread(lambda: survey(pin.path, pin.size, key, stop.is_set), stop)
            task.changed()
