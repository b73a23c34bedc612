"""A newer config for another round of a task that has ended: `-retry ID -config F`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import TaskConflict
from batch_infer.protocol.text import Text
from batch_inferd.config.snapshot import identity
from batch_inferd.tasks import submitting

if TYPE_CHECKING:
    from batch_inferd.tasks.submitting import Prepared
    from batch_inferd.tasks.task import Task

IDENTITY = "identity_of_task"


def most_tokens(config: dict[str, Any]) -> int:
    """The bound of an answer's tokens in a config snapshot."""
    return int(config["config"]["model"]["max_tokens"])


async def mend_for_retry(task: Task, prepared: Prepared) -> None:
    """As `-resume -config`; beside that, answers may be allowed more or fewer tokens from now on.

    Raises TaskConflict: the config describes another task. OSError, sqlite3.Error.
    """
    tokens = (most_tokens(prepared.config), most_tokens(task.config))
    known = task.facts.get(IDENTITY)
    if known not in [_identity(prepared, n) for n in tokens]:
        raise TaskConflict(
            Text(
                "this config describes a different task: -retry may change what -resume may, "
                "and max_tokens, only"
            ),
            hints=(Text("submit it under a new task-id"),),
        )
    if prepared.identity != known:  # first: after a crash the same command is taken again
        await task.db.set_facts(**{IDENTITY: prepared.identity})
        task.facts[IDENTITY] = prepared.identity
    await submitting.mend(task, prepared)


def _identity(prepared: Prepared, max_tokens: int) -> str:
    """The identity that the config would have with another bound."""
    config = prepared.config["config"]
    other = config | {"model": config["model"] | {"max_tokens": max_tokens}}
    return identity(prepared.config | {"config": other}, *prepared.entry.identity())
