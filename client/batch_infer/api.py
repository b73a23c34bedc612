"""The Python API: submit a task, wait for it, go through its results. The daemon does the work, as always.

Errors are those of `batch_infer.protocol.errors`; most are importable from `batch_infer`. Each method
connects anew, so a `Task` may be used by several threads, and outlives the daemon's restarts.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from batch_infer.protocol import rpc
from batch_infer.protocol.errors import (
    DaemonUnavailable,
    ProtocolError,
    TaskConflict,
    TaskNotFound,
    UsageError,
)
from batch_infer.protocol.exports import FORMATS, format_of
from batch_infer.protocol.regular import NotRegularError, open_regular
from batch_infer.protocol.text import Text
from batch_infer.protocol.workspace import check_task_id
from batch_infer.results import NoResultError, Result, read_results

if TYPE_CHECKING:
    from collections.abc import Generator

    from batch_infer.connection import Connection
    from batch_infer.render.shapes import Summary

StrPath = str | os.PathLike[str]
Config = StrPath | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Status:
    """A task as it is now.

    `state` is preparing, running, merging, paused, completed, failed or cancelled; `reason` is the code of
    why it is paused or failed, `reason_text` says it in words. `counts` are records: input, output, error,
    missing, pending, blank. `fields` has all that `-status ID -json` prints, see docs/cli.md.
    """

    state: str
    reason: str | None
    reason_text: str | None
    counts: dict[str, int]
    share: float
    fields: dict[str, Any] = field(repr=False)

    @property
    def ended(self) -> bool:
        """Whether the task is at its end: completed, failed or cancelled."""
        return self.state in ("completed", "failed", "cancelled")

    @property
    def ok(self) -> bool:
        """Whether every record was answered."""
        unanswered = self.counts.get("error", 0) + self.counts.get("missing", 0)
        return self.state == "completed" and not unanswered


def submit(
    input: StrPath,  # noqa: A002  as the command line names it
    task_id: str,
    *,
    config: Config | None = None,
    workspace: StrPath | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Task:
    """Submit an input as a task, durably, or go on with the unfinished task that it is.

    Args:
        input: what `-pipeline` takes.
        task_id: the task's name.
        config: a file, or its content as a mapping; config.yaml of the workspace when absent.
        workspace: the folder of the tasks; BATCH_INFER_WORKSPACE or the current one when absent.
        settings: keys that win over the config: mode, processes, concurrency, priority, rpm …

    Raises ConfigError, InputError, TaskIdError, TaskExists, DaemonUnavailable. What the daemon has to say
    beside is in the task's `notes`.
    """
    from batch_infer.api_submit import send

    task = Task(check_task_id(task_id), workspace=workspace)
    task.notes = send(task.root, os.fspath(input), task_id, config, settings or {}, uuid.uuid4().hex)
    return task


class Task:
    """A task of a workspace, whether it was submitted here or by a command."""

    def __init__(self, task_id: str, *, workspace: StrPath | None = None) -> None:
        """Nothing is asked yet. Raises TaskIdError, and UsageError for a workspace that is no folder."""
        from batch_infer.protocol.workspace import find_workspace

        self._workspace = find_workspace(None if workspace is None else os.fspath(workspace))
        self.id = check_task_id(task_id)
        self.notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Task({self.id!r}, workspace={str(self.root)!r})"

    @property
    def root(self) -> Path:
        """The workspace."""
        return self._workspace.root

    @property
    def outputs(self) -> Path:
        """The folder of output.jsonl, the error files, missing_records.jsonl and report.json."""
        return self._workspace.merged / self.id

    def status(self) -> Status:
        """The task as it is now. Raises TaskNotFound, DaemonUnavailable."""
        with self._connect() as connection:
            return _status(connection.call(rpc.STATUS, {"task_id": self.id, "limit": 1}))

    def wait(self, timeout: float | None = None) -> Status:
        """Wait for the task's end, or until it pauses for something that a person must mend.

        Args:
            timeout: seconds; None waits as long as it takes.

        Raises TimeoutError, TaskNotFound, and DaemonUnavailable when the daemon keeps ending.
        """
        from batch_infer.api_submit import quiet_context
        from batch_infer.cli.watch import again
        from batch_infer.render.lines import Quiet

        deadline = None if timeout is None else time.monotonic() + timeout
        context, console = quiet_context(self.root)
        losses: list[float] = []
        connection = self._connect()
        while True:
            try:
                return self._watch(connection, deadline)
            except (DaemonUnavailable, ProtocolError):
                pass  # lost; it is made anew below
            finally:
                connection.close()
            connection = cast("Connection", again(context, Quiet(console, context.now), losses))

    def results(self) -> Generator[Result]:
        """All records in the order of the input, one at a time, answered or not.

        Raises TaskConflict while the task has not ended, when the first one is asked for, and where
        output.jsonl is found to be damaged: then some results may have come.
        """
        status = self.status()
        if not status.ended:
            raise TaskConflict(
                Text(
                    "the task {id} has no results yet: it is {state}",
                    {"id": self.id, "state": Text(status.state)},
                )
            )
        if status.state == "completed" and status.ok:
            yield from self._answers(status.counts["output"])
            return
        # The errors stand in files of their own: the daemon puts all of them into one order.
        path = self.outputs / f".results-{uuid.uuid4().hex[:12]}.jsonl"
        self.export(path)
        try:
            with path.open("rb") as lines:
                with contextlib.suppress(OSError):
                    path.unlink()  # gone with this process, whatever ends it; Windows waits for the end
                yield from read_results(lines)
        finally:
            path.unlink(missing_ok=True)

    def _answers(self, expected: int) -> Generator[Result]:
        """What stands in output.jsonl, which has so many lines."""
        path = self.outputs / "output.jsonl"
        values: dict[str, Any] = {"path": str(path)}
        count = 0
        try:
            with os.fdopen(open_regular(path, follow=False), "rb") as lines:
                for result in read_results(lines):
                    count += 1
                    yield result
        except NotRegularError as error:
            raise self._damaged(error.what, values) from error
        except NoResultError as error:
            raise self._damaged(Text("line {line} is no result", {"line": error.line}), values) from error
        except FileNotFoundError as error:
            raise self._damaged(Text("it is not there"), values) from error
        if count != expected:
            lines_there = {"n": count, "expected": expected}
            raise self._damaged(Text("it has {n} lines instead of {expected}", lines_there), values)

    def _damaged(self, why: Text, values: dict[str, Any]) -> TaskConflict:
        return TaskConflict(
            Text("{path} is damaged: {why}", values | {"why": why}),
            hints=(
                Text(
                    "rebuild it from the journals, with a backup of what is there: "
                    "batch_infer -validate {id} -repair",
                    {"id": self.id},
                ),
            ),
        )

    def export(self, path: StrPath, format: str | None = None, encoding: str | None = None) -> Path:  # noqa: A002
        """Write the task's records to a file, as `-export` does; its absolute path.

        Args:
            path: an existing file is replaced when the new one is whole.
            format: jsonl, qa, csv, tsv, parquet, json, html or svg; by the path's end when absent.
            encoding: of csv and tsv: utf-8-sig, utf-8 or gb18030.

        Raises TaskNotFound, UsageError, InputError, and TaskConflict while the task has not ended.
        """
        out = os.path.abspath(os.fspath(path))
        form = format or format_of(out)
        if form is None:
            values = {"path": out, "formats": ", ".join(FORMATS)}
            raise UsageError(Text("the name {path} does not say which format is meant", values))
        params = {"tasks": [self.id], "format": form, "out": out, "encoding": encoding or ""}
        with self._connect() as connection:
            connection.call_long(rpc.EXPORT, params)
        return Path(out)

    def cancel(self) -> None:
        """End the task; what was answered is kept and merged. Raises TaskNotFound, TaskConflict."""
        self._ask(rpc.CANCEL)

    def pause(self) -> None:
        """Stop sending requests until `resume`. Raises TaskNotFound, TaskConflict."""
        self._ask(rpc.PAUSE)

    def resume(self) -> None:
        """Go on with a paused task. Raises TaskNotFound, TaskConflict."""
        self._ask(rpc.RESUME)

    def retry(self) -> int:
        """Try the failed and missing records of a finished task again; how many there are.

        Raises TaskNotFound, TaskConflict.
        """
        return int(self._ask(rpc.RETRY)["records"])

    def _ask(self, method: str) -> dict[str, Any]:
        with self._connect() as connection:
            return connection.call(method, {"task_id": self.id})

    def _connect(self) -> Connection:
        from batch_infer.launch import connect_or_start

        return connect_or_start(self._workspace)

    def _watch(self, connection: Connection, deadline: float | None) -> Status:
        """Subscribe, and look at each change until the task is at an end."""
        from batch_infer.render.states import has_ended, needs_person

        pushed = connection.call(rpc.SUBSCRIBE, {"tasks": [self.id]})
        while True:
            for task in pushed.get("tasks", ()):
                if task["task_id"] != self.id:
                    continue
                if task.get("gone"):
                    gone = Text("the task {id} is gone: its folder was removed", {"id": self.id})
                    raise TaskNotFound(gone)
                if has_ended(task) or needs_person(task):
                    return _status(task)
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            message = connection.wait(left)
            if message is None:
                raise TimeoutError(f"the task {self.id} has not ended")
            pushed = message.get("params") or {} if message.get("method") == rpc.PROGRESS else {}


def _status(task: Mapping[str, Any]) -> Status:
    from batch_infer.protocol.text import language
    from batch_infer.render.public import public_task

    fields = public_task(cast("Summary", task), language())
    for of_a_page in ("chunks", "next", "submissions"):
        fields.pop(of_a_page, None)
    return Status(
        state=fields["state"],
        reason=fields["reason"],
        reason_text=fields["reason_text"],
        counts=dict(fields["counts"]),
        share=float(fields.get("share") or 0.0),
        fields=fields,
    )
