"""`retry`: the failed and missing records of a completed task, or of some chunks, get another round."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import ProtocolError, TaskConflict
from batch_infer.protocol.text import Text
from batch_inferd.checks.content import Tick
from batch_inferd.requests.long import accompany
from batch_inferd.requests.params import absolute, ranges, string
from batch_inferd.tasks import opening, states
from batch_inferd.tasks.chosen_rows import read_rows
from batch_inferd.tasks.retrying import KINDS, Choice, retry_chosen

if TYPE_CHECKING:
    from batch_inferd.app import App
    from batch_inferd.server.peer import Peer


async def handle(app: App, params: dict[str, Any], peer: Peer) -> dict[str, Any]:
    """`{state, round, records}`; records 0: nothing to do. Raises TaskNotFound, TaskConflict, InputError.

    With `only` or `rows` it may take long, and pushes `working`; `unmatched` says how many entries of the
    file name no failed or missing record.
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
        broken = task.state == states.FAILED and task.reason is not None and task.reason.code == "identity"
        if task.state != states.COMPLETED and not broken:
            hint = Text(
                "submit its missing_records.jsonl and what was not read under a new task-id; see {path}",
                {"path": str(app.context.workspace.merged / task_id)},
            )
            raise TaskConflict(
                Text(
                    "-retry takes a completed task; {id} is {state}",
                    {"id": task_id, "state": Text(task.state)},
                ),
                hints=(hint,) if task.state == states.CANCELLED else (),
            )
        async with task.opened():
            opening.open_log(task)
            if not await opening.ensure_plan(task):
                reason = task.plan_problem or Text("its credential is missing")
                raise TaskConflict(
                    Text("the task {id} cannot be tried again: {reason}", {"id": task_id, "reason": reason})
                )
            if broken and (only is not None or rows is not None):
                values = {"id": task_id}
                raise TaskConflict(
                    Text("the accounting of task {id} does not hold: -only and -rows cannot choose", values),
                    hints=(Text("mend it first: batch_infer -retry {id}", values),),
                )
            if broken:
                await task.mend_journals()
                return {
                    "state": task.state,
                    "round": task.round,
                    "records": task.progress.counts()["pending"],
                }
            if only is None and rows is None:
                records = await task.retry(chunks)
                return {"state": task.state, "round": task.round, "records": records}
            choice = Choice(None if only is None else KINDS[only], rows, chunks)
            tick = Tick(total=sum(task.progress.chunks.values()))
            chosen = retry_chosen(task, choice, tick.add)
            try:
                records = await accompany(app, peer, chosen, tick, tick.stop)
            except OSError as error:
                values = {"id": task_id, "reason": error.strerror or str(error)}
                raise TaskConflict(Text("the task {id} cannot be tried again: {reason}", values)) from error
            unmatched = 0 if rows is None else rows.unmatched
            return {"state": task.state, "round": task.round, "records": records, "unmatched": unmatched}
