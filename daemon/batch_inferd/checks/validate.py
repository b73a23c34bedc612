"""Checking outputs: those of an ended task against what was published, and any other file by itself."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from batch_infer.protocol.errors import TaskConflict
from batch_infer.protocol.regular import NotRegularError, open_regular
from batch_infer.protocol.text import Text
from batch_inferd.checks import earlier
from batch_inferd.checks.compare import compare
from batch_inferd.checks.content import Content, Tick, damage, read_content
from batch_inferd.checks.findings import Finding
from batch_inferd.checks.outcome import DAMAGED, INTACT, MISSING, REBUILT, FileCheck, outcome
from batch_inferd.checks.rebuild import Rebuilt, put_in_place, rebuilt
from batch_inferd.lines import BLOCK
from batch_inferd.merge.publish import OUTPUT, REPORT
from batch_inferd.seams.files import Directory
from batch_inferd.tasks import merging, states
from batch_inferd.tasks.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_inferd.merge.outputs import FileFacts
    from batch_inferd.tasks.task import Task


class Asked(NamedTuple):
    """What is wanted beside a look. `accepts` says what is wrong with an answer's text (None: nothing)."""

    repair: bool = False
    accepts: Callable[[str], str | None] | None = None


def check_file(path: str, asked: Asked, tick: Tick) -> dict[str, Any]:
    """Look through a file of which nothing is known. Blocks. Raises OSError, sqlite3.Error, Stopped."""
    check = FileCheck(path)
    fd = open_regular(path)
    try:
        tick.total = os.fstat(fd).st_size
        content = read_content(fd, tick, asked.accepts)
    finally:
        os.close(fd)
    check.bytes = content.bytes
    check.findings = damage(content)
    check.state = DAMAGED if check.findings else INTACT
    return outcome(path, [check], content)


async def check_task(task: Task, asked: Asked, tick: Tick) -> dict[str, Any]:
    """Look through the files of the newest publication; rebuild those that are damaged, if asked.

    The caller sees to it that nothing else is done to the task meanwhile. Raises TaskConflict, OSError,
    sqlite3.Error, Stopped.
    """
    async with task.opened():
        published = await task.db.last_publication()
        if task.state not in states.ENDED or published is None:
            raise TaskConflict(
                Text(
                    "the outputs of task {id} are checked when it has ended; it is {state}",
                    {"id": task.id, "state": Text(task.state)},
                )
            )
        history = await earlier.earlier_files(task, published[1]["files"])
        merged = await in_thread(lambda: _open(task, make=asked.repair), tick.stop)
        check = TaskCheck(task, merged, *published, history, asked, tick)
        try:
            await check.run()
        finally:
            if merged is not None:
                merged.close()
    more = []
    if task.state == states.FAILED:
        more.append(Finding("identity", Text("the accounting of the task does not hold; see report.json")))
    path = str(task.context.workspace.merged / task.id)
    return outcome(path, check.files, check.content, *more, task_id=task.id)


class TaskCheck:
    """The check of one publication: `files` and `content` are what was found."""

    def __init__(
        self,
        task: Task,
        merged: Directory | None,
        generation: int,
        stored: dict[str, Any],
        history: list[FileCheck],
        asked: Asked,
        tick: Tick,
    ) -> None:
        """`merged` is None where there is no folder; `stored` is what the database has of the publication.

        `history` are files of earlier rounds.
        """
        self.content: Content | None = None
        self.files = [*(FileCheck(name, facts) for name, facts in stored["files"].items()), *history]
        self._task = task
        self._merged = merged
        self._generation = generation
        self._stored = stored
        self._asked = asked
        self._tick = tick
        self._bytes = sum(check.expected["bytes"] for check in self.files if check.expected is not None)

    async def run(self) -> None:
        """Look at the files, find out what happened to those that changed, and replace them if asked."""
        self._tick.total = self._bytes
        await in_thread(self._look, self._tick.stop)
        for check in self.files:
            if check.earlier and check.state != INTACT:
                earlier.explain(check)
        wrong = [check for check in self.files if check.state != INTACT and not check.earlier]
        if self._merged is None or not wrong:
            return
        if self._asked.repair or any(check.state == DAMAGED for check in wrong):
            await self._go_deeper(self._merged, wrong)

    def _look(self) -> None:
        for check in self.files:
            try:
                fd = _open_file(self._merged, check.name)
            except NotRegularError as error:
                check.state, check.is_file = DAMAGED, False
                check.findings = [Finding("no_file", error.what)]
                continue
            if fd is None:
                check.state = MISSING
                check.findings = [Finding("missing", Text("it is not there"))]
                continue
            try:
                found = self._read(check.name, fd)
            finally:
                os.close(fd)
            check.bytes = found["bytes"]
            check.state = INTACT if found == check.expected else DAMAGED

    def _read(self, name: str, fd: int) -> FileFacts:
        if name != OUTPUT:
            return _facts(fd, self._tick)
        self.content = read_content(fd, self._tick, self._asked.accepts)
        return {"bytes": self.content.bytes, "sha256": self.content.sha256}

    async def _go_deeper(self, merged: Directory, wrong: list[FileCheck]) -> None:
        tick, chunks = self._tick, sum(self._task.progress.chunks.values())
        begun, size = tick.total, self._bytes
        tick.total += size  # rebuilding is taken to be as much work as reading

        def progress(done: int) -> None:
            tick.done = begun + size * done // max(1, chunks)
            tick.add(0)

        async with rebuilt(self._task, merged, self._generation, progress) as made:
            await in_thread(lambda: self._explain(merged, made, wrong), tick.stop)
            for check in wrong:
                if self._asked.repair and self._is_newest() and self._can_replace(made, check):
                    await self._replace(merged, made, check)

    def _is_newest(self) -> bool:
        """Whether nothing was published meanwhile: late results of batches may come at any time."""
        task = self._task
        return task.state in states.ENDED and task.facts.get("generation") == self._generation

    def _can_replace(self, made: Rebuilt, check: FileCheck) -> bool:
        """Whether the journals give the file as it was. A report may differ in what is no longer known."""
        if made.files.get(check.name) == check.expected:
            return True
        others = (name for name in self._stored["files"] if name != REPORT)
        same = all(made.files.get(name) == self._stored["files"][name] for name in others)
        return check.name == REPORT and same and made.identity == self._stored["end"].get("identity")

    def _explain(self, merged: Directory, made: Rebuilt, wrong: list[FileCheck]) -> None:
        for check in wrong:
            if not self._can_replace(made, check):
                lost = Text("the journals do not give it as it was: they are damaged, or were changed")
                check.findings.append(Finding("journals", lost))
            if check.state == DAMAGED and check.is_file:
                check.findings += self._compare(merged, made, check)

    def _compare(self, merged: Directory, made: Rebuilt, check: FileCheck) -> list[Finding]:
        found: list[Finding] = []
        if check.name == OUTPUT and check.findings and self.content is not None:
            found = damage(self.content)
        elif check.name != REPORT and not check.findings:
            self._tick.total += check.bytes + made.files[check.name]["bytes"]
            now = merged.open(check.name, os.O_RDONLY)
            try:
                good = made.open(check.name)
                try:
                    found = compare(now, good, self._tick)
                finally:
                    os.close(good)
            finally:
                os.close(now)
        return found or [Finding("edited", Text("it is not what was written"))]

    async def _replace(self, merged: Directory, made: Rebuilt, check: FileCheck) -> None:
        facts = made.files[check.name]
        if facts != check.expected:
            self._stored["files"][check.name] = check.expected = facts
            await self._task.db.mend_publication(self._generation, self._stored)

        def put() -> None:
            check.backup = put_in_place(made, merged, check.name)

        await in_thread(put)
        check.state, check.bytes = REBUILT, facts["bytes"]
        self._task.log(30, f"{check.name} was rebuilt from the journals; backup: {check.backup}")
        if check.name == OUTPUT:
            await in_thread(lambda: self._read_again(merged), self._tick.stop)

    def _read_again(self, merged: Directory) -> None:
        fd = merged.open(OUTPUT, os.O_RDONLY)
        try:
            self._tick.total += os.fstat(fd).st_size
            self._read(OUTPUT, fd)
        finally:
            os.close(fd)


def _open(task: Task, *, make: bool) -> Directory | None:
    """The folder of the outputs; None where it is not there and shall not be made."""
    if make:
        return merging.open_merged(task)
    try:
        return Directory(task.context.workspace.merged / task.id)
    except FileNotFoundError:
        return None


def _open_file(merged: Directory | None, name: str) -> int | None:
    if merged is None:
        return None
    try:
        return merged.open(name, os.O_RDONLY)
    except FileNotFoundError:
        return None


def _facts(fd: int, tick: Tick) -> FileFacts:
    digest, size = hashlib.sha256(), 0
    while data := os.read(fd, BLOCK):
        digest.update(data)
        size += len(data)
        tick.add(len(data))
    return {"bytes": size, "sha256": digest.hexdigest()}
