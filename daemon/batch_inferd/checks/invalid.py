"""What is wrong with an answer, in a word: `-validate` tells it, `-retry -only invalid` asks again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_inferd.backends.rawjson import InvalidJson
from batch_inferd.checks.answers import ANSWER, judge
from batch_inferd.checks.judge import judge_of
from batch_inferd.config.answer_schema import FACT

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_inferd.tasks.task import Task

CUT, EMPTY, SCHEMA = "cut", "empty", "schema"


def schema_of(task: Task) -> Callable[[str], str | None] | None:
    """What judges the texts of a task's answers, by the schema of its config; None without one.

    Raises InputError: the library is not installed any more.
    """
    schema: Any = task.config.get(FACT)
    if schema is None:
        return None
    return judge_of(schema, str(task.config["config"]["output"]["schema"]))


def fault(line: bytes, accepts: Callable[[str], str | None] | None) -> str | None:
    """What is wrong with a line of output.jsonl; None for a good answer.

    An answer that ended at the limit of tokens is `CUT`, whatever else is wrong with it: that may be why.
    """
    try:
        judged = judge(line)
    except InvalidJson:  # our own writers checked it: a journal that was edited by hand may hold anything
        return None
    if judged.kind != ANSWER:
        return None
    if judged.cut:
        return CUT
    if judged.empty:
        return EMPTY
    if accepts is not None and accepts(judged.text) is not None:
        return SCHEMA
    return None
