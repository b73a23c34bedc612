"""What a batch that failed without having run means, and what is done about its lines."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from batch_inferd import failures
from batch_inferd.backends.batch.provider import BatchState

if TYPE_CHECKING:
    from batch_inferd.backends.batch.provider import BatchProblem
    from batch_inferd.backends.plan import RequestPlan
    from batch_inferd.batches.submission import Submission
    from batch_inferd.store.submissions import Lines

# What a service says when it is its own fault: no line is to blame, the batch is sent again.
_INTERNAL = frozenset({"server_error", "internal_error", "internal_server_error", "service_unavailable"})
HALVINGS_MAX = 40  # refusals of one family of halves, before its lines end as errors


class Refusal(enum.Enum):
    """What follows."""

    FULL = "full"  # the account's queue: the same file again, later
    BLOCKED = "blocked"  # model or credit: a person, or time
    LINES = "lines"  # some lines are named: they end, the others are packed again
    HALVE = "halve"  # no line is named: look for it in the halves
    RAN = "ran"  # it was not refused, it failed on the way


def judge(submission: Submission, plan: RequestPlan) -> tuple[Refusal, str]:
    """What a batch in state failed means; with BLOCKED the class, `model` or `credit`."""
    detail, problems = submission.detail, submission.problems
    if detail.end_state != BatchState.FAILED.value:
        return Refusal.RAN, ""
    ran = bool(detail.completed) or (detail.completed is None and "output" in dict(detail.outputs))
    if not ran and any(is_full(problem, plan) for problem in problems):
        return Refusal.FULL, ""
    if detail.outputs or detail.ran or (problems and {one.code.lower() for one in problems} <= _INTERNAL):
        return Refusal.RAN, ""
    blocked = {failures.batch_problem_class(problem.code, problem.message, plan) for problem in problems}
    if len(blocked) == 1 and (cls := blocked.pop()):
        return Refusal.BLOCKED, cls
    if any(problem.line is not None and problem.line <= detail.requests for problem in problems):
        return Refusal.LINES, ""
    return Refusal.HALVE, ""


def is_full(problem: BatchProblem, plan: RequestPlan) -> bool:
    """Whether a problem says that the account's queue is full."""
    codes = plan.batch.api.wait_codes if plan.batch is not None else ()
    return problem.code.lower() in {code.lower() for code in codes}


def halves(lines: Lines) -> list[Lines]:
    """The lines in two halves, in order."""
    total = sum(last - first + 1 for ranges in lines.values() for first, last in ranges)
    left = total // 2
    first_half: Lines = {}
    second_half: Lines = {}
    for chunk, ranges in sorted(lines.items()):
        for first, last in ranges:
            size = last - first + 1
            taken = min(size, left)
            left -= taken
            if taken:
                first_half.setdefault(chunk, []).append((first, first + taken - 1))
            if taken < size:
                second_half.setdefault(chunk, []).append((first + taken, last))
    return [half for half in (first_half, second_half) if half]
