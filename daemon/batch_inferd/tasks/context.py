"""What all tasks of a daemon share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batch_inferd.money.prices import PriceBook

if TYPE_CHECKING:
    from batch_infer.protocol.workspace import Workspace
    from batch_inferd.batches.upstream import Upstreams
    from batch_inferd.logs.tasklogs import TaskLogs
    from batch_inferd.scheduling.dispatcher import Dispatcher
    from batch_inferd.seams.clock import Clock
    from batch_inferd.seams.events import Events
    from batch_inferd.services.credentials import CredentialStore
    from batch_inferd.store.writer import StoreWriter


@dataclass(frozen=True)
class Context:
    """The daemon's parts, as a task uses them."""

    workspace: Workspace
    clock: Clock
    events: Events
    store: StoreWriter
    credentials: CredentialStore
    logs: TaskLogs
    dispatcher: Dispatcher
    upstreams: Upstreams
    prices: PriceBook = field(default_factory=PriceBook)
    merging: set[str] = field(default_factory=set)  # uuids of tasks that merge while they run
