"""What several files of unit tests begin with; a file may have its own of the same name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from batch_jobs_kit import Desk
from batch_runner_kit import Bench, until
from worker_kit import Folder, ask

from batch_inferd.testing.process import RunningService, start_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RunningService]:
    with start_service(tmp_path / "service") as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """With a chunk of a good line, a bad one, and a good one."""
    made = Desk(tmp_path)
    made.add(ask("a"), b"bad", ask("b"))
    yield made
    made.close()


@pytest.fixture
async def bench(desk: Desk) -> AsyncIterator[Bench]:
    made = Bench(desk)
    yield made
    made.jobs.stop("abort")
    await until(lambda: made.jobs.idle)
    await made.jobs.close()
