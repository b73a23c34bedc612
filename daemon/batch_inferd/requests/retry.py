"""`retry`: another round for records of a completed task that failed, are missing, or are answered badly."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import ProtocolError, TaskConflict
from batch_infer.protocol.text import Text
from batch_inferd.checks.content import Tick
from batch_inferd.checks.invalid import CUT, fault, schema_of
from batch_inferd.requests.long import accompany
from batch_inferd.requests.params import absolute, ranges, string, submission
from batch_inferd.tasks import opening, states, submitting
from batch_inferd.tasks.chosen_rows import ChosenRows, read_rows
from batch_inferd.tasks.mending import mend_for_retry, most_tokens
from batch_inferd.tasks.retrying import INVALID, KINDS, Choice, retry_chosen

if TYPE_CHECKING:
    from batch_inferd.app import App
    from batch_inferd.server.peer import Peer
    from batch_inferd.tasks.task import Task


async def handle(app: App, params: dict[str, Any], peer: Peer) -> dict[str, Any]:
    """`{state, round, records, warnings}`; records 0: nothing to do.

    With `only` or `rows` it may take long, and pushes `working`; `unmatched` says how many entries of the
    file name no record of the kind that is meant. With `only: invalid`, `invalid` counts the answers that
    were taken back by what was wrong with them, and `max_tokens` is the bound that some of them ended at,
    unless this request has changed it. With a config, the round goes by that one.

    Raises TaskNotFound, TaskConflict, InputError, ConfigError.
    """
    task_id = string(params, "task_id")
    chunks = ranges(params, "chunks")
    only = params.get("only")
    if only not in (None, *KINDS):
        allowed = {"name": "only", "allowed": ", ".join(KINDS)}
        raise ProtocolError(Text("the parameter {name} must be one of {allowed}", allowed))
    rows = None
    if params.get("rows") is not None:
        rows = await asyncio.to_thread(read_rows, absolute(params, "rows"))
    async with app.registry.lock(task_id):
        task = await app.registry.find(task_id)
        broken = _check_state(app, task)
        if broken and (only is not None or rows is not None):
            values = {"id": task_id}
            raise TaskConflict(
                Text("the accounting of task {id} does not hold: -only and -rows cannot choose", values),
                hints=(Text("mend it first: batch_infer -retry {id}", values),),
            )
        async with task.opened():
            opening.open_log(task)
            before = most_tokens(task.config)
            warnings = await _mend(app, task, params)
            if not await opening.ensure_plan(task):
                reason = task.plan_problem or Text("its credential is missing")
                raise TaskConflict(
                    Text("the task {id} cannot be tried again: {reason}", {"id": task_id, "reason": reason})
                )
            if broken:
                await task.mend_journals()
                found: dict[str, Any] = {"records": task.progress.counts()["pending"]}
            elif only is None and rows is None:
                found = {"records": await task.retry(chunks)}
            else:
                found = await _retry_some(app, peer, task, Choice(KINDS.get(str(only)), rows, chunks))
                if found.get(INVALID, {}).get(CUT) and most_tokens(task.config) == before:
                    found["max_tokens"] = before
            return {"state": task.state, "round": task.round, **found, "warnings": warnings}


def _check_state(app: App, task: Task) -> bool:
    """Whether its accounting does not hold. Raises TaskConflict where there can be no other round."""
    broken = task.state == states.FAILED and task.reason is not None and task.reason.code == "identity"
    if task.state == states.COMPLETED or broken:
        return broken
    hint = Text(
        "submit its missing_records.jsonl and what was not read under a new task-id; see {path}",
        {"path": str(app.context.workspace.merged / task.id)},
    )
    raise TaskConflict(
        Text("-retry takes a completed task; {id} is {state}", {"id": task.id, "state": Text(task.state)}),
        hints=(hint,) if task.state == states.CANCELLED else (),
    )


async def _mend(app: App, task: Task, params: dict[str, Any]) -> list[Any]:
    """Take the config over, if the request carries one; what is to be said of it."""
    if not params.get("config"):
        return []
    prepared = await submitting.prepare(app.context, submission(params), task=task)
    await mend_for_retry(task, prepared)
    return [text.to_wire() for text in (*prepared.warnings, *prepared.notes)]


async def _retry_some(app: App, peer: Peer, task: Task, choice: Choice) -> dict[str, Any]:
    invalid = choice.kind == KINDS[INVALID]
    if invalid:
        choice = choice._replace(wrong=partial(fault, accepts=schema_of(task)))
    tick = Tick(total=sum(task.progress.chunks.values()))
    chosen = retry_chosen(task, choice, tick.add, tick.stop)
    try:
        retried = await accompany(app, peer, chosen, tick, tick.stop)
    except OSError as error:
        values = {"id": task.id, "reason": error.strerror or str(error)}
        raise TaskConflict(Text("the task {id} cannot be tried again: {reason}", values)) from error
    found: dict[str, Any] = {"records": retried.records, "unmatched": _unmatched(choice.rows)}
    if invalid:
        found[INVALID] = dict(retried.wrong)
    return found


def _unmatched(rows: ChosenRows | None) -> int:
    return 0 if rows is None else rows.unmatched
