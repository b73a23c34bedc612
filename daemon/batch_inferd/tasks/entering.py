"""How an input enters a task: cut where it lies, spooled from a source, or taken over from a pipe."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from batch_infer.protocol.text import Text
from batch_inferd.intake.analysis import about
from batch_inferd.intake.choose import choose, found_note, from_config
from batch_inferd.intake.source import Pin, pin
from batch_inferd.intake.spool import unreadable
from batch_inferd.sources.done import done_ids
from batch_inferd.sources.open import open_source
from batch_inferd.tasks import storage
from batch_inferd.tasks.spooling import SPOOL, STDIN, STDIN_NAME, Origin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_inferd.services.resolve import Resolved
    from batch_inferd.sources.s3 import S3Access
    from batch_inferd.tasks.submitting import Submission
    from batch_inferd.tasks.task import Task


class Entry(NamedTuple):
    """What a submit knows of its input.

    `pin` is there for a file that is cut where it lies, `origin` for what is spooled; `piped` is the file
    of what came through a pipe, and its name in the task's folder. `about` says for the log what a source is.
    """

    name: str = ""
    pin: Pin | None = None
    origin: Origin | None = None
    piped: tuple[str, str] | None = None
    digest: str | None = None
    s3: S3Access | None = None
    overrides: Mapping[str, Any] = {}
    warnings: tuple[Text, ...] = ()
    notes: tuple[Text, ...] = ()
    about: str = ""

    @property
    def spooled(self) -> bool:
        """Whether the task's records come out of a spool."""
        return self.origin is not None

    def facts(self) -> dict[str, Any]:
        """What the task keeps of it."""
        facts: dict[str, Any] = {"overrides": dict(self.overrides), "input_name": self.name}
        if self.digest is not None:
            facts["digest"] = self.digest
        if self.origin is not None:
            facts |= {"source": self.origin.to_json(), "spooled": False}
        elif self.piped is not None:
            facts["spooled"] = True
        return facts

    def identity(self) -> tuple[str, dict[str, Any] | None]:
        """What of it makes the task the same one."""
        parts: dict[str, Any] = {}
        if self.origin is not None:
            parts |= {"spec": msgspec.to_builtins(self.origin.spec), "done": self.origin.done}
        if self.digest is not None:
            parts["digest"] = self.digest
        if self.origin is not None and self.origin.spec.kind == "s3" and self.s3 is not None:
            parts["endpoint"] = self.s3.endpoint
        return self.name, parts or None


def enter(path: str, stdin: str | None, resolved: Resolved, sent: Submission) -> Entry:
    """Look at the input of a new submit. `stdin`: the digest of what came through a pipe into `path`.

    Blocks. Raises InputError, ConfigError.
    """
    config = resolved.config
    base = os.path.dirname(sent.config_path)
    done = from_config(config.input.done, base)
    spec = choose(path, config.input, resolved.messages_key, base)
    s3 = storage.access_of(config, sent) if storage.needed(config, spec) else None
    name = path if stdin is None else STDIN_NAME
    entry = Entry(name, digest=stdin, s3=s3, overrides=sent.overrides)
    if spec is None:
        piped = (path, SPOOL) if stdin is not None else None
        return entry._replace(pin=pin(path), piped=piped)
    notes = () if stdin is not None else found_note(path, spec)
    try:
        source = open_source(spec, s3, config.input.max_line_bytes)
        pinned = source.pin()
        count = source.count()
        entry = entry._replace(about=about(spec.kind, count, source.columns))
        warnings = _left_out(count, config.test_lines)
        if next(iter(source.records()), None) is None:  # a wrong bucket or key is told now, too
            warnings += (Text("the input is empty"),)
        if done is not None:
            ids, said = done_ids(done)
            warnings += tuple(said)
            notes += (Text("{n} records are left out: {path} answers them", {"n": len(ids), "path": done}),)
    except OSError as error:
        raise unreadable(error) from error
    if stdin is None:
        return entry._replace(origin=Origin(spec, pinned, done), warnings=warnings, notes=notes)
    origin = Origin(msgspec.structs.replace(spec, path=STDIN_NAME), {}, done)
    return entry._replace(origin=origin, piped=(path, STDIN), warnings=warnings, notes=notes)


def again(task: Task, resolved: Resolved, sent: Submission) -> Entry:
    """The input of a task that is there, with a config that may be another one. Blocks. Raises ConfigError.

    Where the config would make other records, the entry has another identity.
    """
    config, origin = resolved.config, task.spooling.origin
    spec = origin.spec if origin is not None else None
    s3 = storage.access_of(config, sent) if storage.needed(config, spec) else None
    name = task.input_name
    if origin is not None and _decisive(msgspec.to_builtins(config.input)) != _decisive(
        task.config["config"]["input"]
    ):
        name = ""
    return Entry(name, origin=origin, digest=task.facts.get("digest"), s3=s3, overrides=sent.overrides)


def _decisive(section: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key not in ("max_line_bytes", "s3")}


def _left_out(count: int | None, test_lines: int) -> tuple[Text, ...]:
    if not test_lines or (count is not None and count <= test_lines):
        return ()
    if count is None:
        return (
            Text(
                "test_lines is {n}: at most the first {n} records are processed; "
                "set test_lines: 0 for the whole input",
                {"n": test_lines},
            ),
        )
    return (
        Text(
            "test_lines is {n}: only the first {n} records are processed, {left} more are left out; "
            "set test_lines: 0 for the whole input",
            {"n": test_lines, "left": count - test_lines},
        ),
    )
