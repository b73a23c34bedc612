"""A batch whose images changed before it was sent: packed again, but not for ever."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from worker_kit import ManualClock

from batch_infer.protocol.text import Text
from batch_inferd.backends.batch.errors import IMAGE_CHANGED, BatchProblem, Refused
from batch_inferd.batches import submission as states
from batch_inferd.batches.creating import Creation
from batch_inferd.batches.submission import Detail, Submission

LINES = {2: [(11, 12), (15, 15)], 1: [(3, 4)]}  # in the file: 3, 4, 11, 12, 15


class Run:
    """What the step asks of the engine: uploads that are refused, at a line of the file."""

    def __init__(self, line: int) -> None:
        self.clock = ManualClock()
        self.task = SimpleNamespace(log=lambda *_: None)
        self.cancelling, self.deadline_s = False, None
        self.image_changes: Counter[int] = Counter()
        self.reach = self
        self.sent: list[dict[str, Any]] = []
        self.closed: list[str] = []
        self._line = line

    def key(self, one: Submission) -> str:
        return str(one.id)

    async def call(self, work: Any) -> Any:
        return await work()

    async def job(self, _: str, params: dict[str, Any]) -> Any:
        self.sent.append(params)
        problem = BatchProblem("image_missing", "the image a.png does not exist", self._line)
        raise Refused(Text("an image is gone"), IMAGE_CHANGED, problems=[problem])

    async def close(self, one: Submission, state: str, _: Any) -> None:
        one.state = state
        self.closed.append(state)

    async def save(self, _: Submission) -> None:
        pass


def packed(number: int) -> Submission:
    detail = Detail("batches/p.1.jsonl", 1000, 5, 10, "/v1/chat/completions", "m", 0, holed=True)
    return Submission(number, "t", states.PACKED, None, None, 0.0, detail, LINES)


@pytest.mark.parametrize(("line", "number"), [(1, 3), (3, 11), (5, 15)])
async def test_a_record_whose_image_changes_time_and_again_ends(line: int, number: int) -> None:
    run: Any = Run(line)
    for tries in range(1, 4):
        one = packed(tries)
        await Creation(run, one).upload()
        assert one.closed
        assert run.image_changes == {number: tries}
    assert run.closed == [states.REFUSED] * 3
    assert run.sent[0] == {
        "file": "batches/p.1.jsonl",
        "filename": "t.jsonl",
        "size": 1000,
        "holed": True,
        "reuse": False,
    }
    last = packed(4)
    await Creation(run, last).upload()
    assert (last.state, last.detail.end_state) == (states.ENDED, "failed")  # as if the service named the line
    assert [(one.line, one.code) for one in last.problems] == [(line, "image_missing")]
