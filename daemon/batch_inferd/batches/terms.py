"""What a task's batch engine goes by: its plan, its settings, and what it shares with its account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_inferd.backends.batch.registry import make_provider
from batch_inferd.store.submissions import SubmissionStore

if TYPE_CHECKING:
    from batch_inferd.backends.batch.api import BatchApi
    from batch_inferd.backends.batch.provider import BatchProvider
    from batch_inferd.backends.plan import RequestPlan
    from batch_inferd.batches.capacity import Capacity
    from batch_inferd.batches.poller import Poller
    from batch_inferd.batches.reach import Reach
    from batch_inferd.tasks.task import Task


class Terms:
    """One task's."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.clock = task.context.clock
        self._provider: BatchProvider | None = None
        self._provider_version = 0

    @property
    def store(self) -> SubmissionStore:
        """Its rows in task.db."""
        return SubmissionStore(self.task.db)

    @property
    def plan(self) -> RequestPlan:
        """The task's plan; the engine runs only while there is one."""
        plan = self.task.plan
        if plan is None or plan.batch is None:
            raise RuntimeError("the batch engine runs without a plan")
        return plan

    @property
    def api(self) -> BatchApi:
        """The service's Batch API, with what the config changes."""
        plan = self.plan
        assert plan.batch is not None  # noqa: S101  looked at by `plan`
        return plan.batch.api

    @property
    def window(self) -> str:
        """The completion window that creates ask for."""
        plan = self.plan
        assert plan.batch is not None  # noqa: S101
        return plan.batch.window

    @property
    def title(self) -> str:
        """For people who look at the provider's console."""
        plan = self.plan
        assert plan.batch is not None  # noqa: S101
        return plan.batch.title

    @property
    def inline(self) -> bool:
        """Whether requests travel in the create, without an upload."""
        return False

    @property
    def fallback(self) -> bool:
        """Whether records may go on as online calls."""
        return bool(self._settings["fallback"] == "online")

    @property
    def deadline_s(self) -> float | None:
        """The age at which a batch has stalled; None: never."""
        return float(self._settings["deadline"]) if self.fallback else None

    @property
    def cancel_s(self) -> float:
        """How long a cancelled batch is waited for."""
        return self.api.cancel_s

    @property
    def _settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = self.task.config["config"]["batch"]
        return settings

    @property
    def capacity(self) -> Capacity:
        """The account's queue."""
        return self.task.context.upstreams.capacity(self.task.account)

    @property
    def reach(self) -> Reach:
        """The way to the service."""
        return self.task.context.upstreams.reach(self.plan)

    @property
    def poller(self) -> Poller:
        """The looks at the account's batches."""
        return self.task.context.upstreams.poller(self.plan)

    async def provider(self) -> BatchProvider:
        """The adapter, under the newest plan."""
        plan = self.plan
        if self._provider is None or self._provider_version != plan.version:
            old = self._provider
            self._provider, self._provider_version = make_provider(plan, self.clock), plan.version
            if old is not None:
                await old.close()
        return self._provider

    async def close_provider(self) -> None:
        """Give its connections up."""
        provider, self._provider = self._provider, None
        if provider is not None:
            await provider.close()
