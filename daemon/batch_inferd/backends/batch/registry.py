"""From a plan to the adapter that speaks its service's Batch API.

The adapters are imported when one is made: a process without batches does without their HTTP client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batch_inferd.backends.batch.provider import BatchProvider
    from batch_inferd.backends.plan import RequestPlan
    from batch_inferd.seams.clock import Clock

ADAPTERS = {"openai": ("batch_inferd.backends.batch.openai", "OpenAIBatches")}


def make_provider(plan: RequestPlan, clock: Clock) -> BatchProvider:
    """The adapter that `plan.batch` names. Make it inside the loop that uses it, and close it.

    Raises ValueError for a plan without batches, or with an adapter that this version lacks.
    """
    if plan.batch is None:
        raise ValueError("the plan makes no batches")
    if plan.batch.api.adapter not in ADAPTERS:
        raise ValueError(f"there is no adapter {plan.batch.api.adapter!r}")
    module, name = ADAPTERS[plan.batch.api.adapter]
    provider: BatchProvider = getattr(import_module(module), name)(plan, plan.batch.api, clock)
    return provider
