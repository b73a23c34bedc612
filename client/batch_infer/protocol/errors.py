"""The errors of batch_infer, each with its code on the wire and its documented exit code.

    BatchInferError
      ├─ UsageError             2   the command line asks for something that cannot be
      │    └─ TaskIdError       2   the task-id is no folder name
      ├─ ConfigError            2   problems of a config file, all at once
      ├─ InputError             2   the input cannot be read
      ├─ TaskNotFound           3   no such task
      ├─ TaskExists             3   the task-id is taken
      ├─ TaskConflict           3   the task's state does not allow it
      ├─ DaemonUnavailable      4   nothing answers, or it could not be started
      ├─ Incompatible           4   daemon and client speak different protocols
      ├─ ProtocolError          4   a frame or a message breaks the rules
      ├─ InternalError          4   a bug on the other side
      └─ TaskEnded              5   the task was cancelled, failed or paused

Exit code 0 is done, 1 is done with failed or missing records, 130 is interrupted.
"""

from __future__ import annotations

from typing import Any, ClassVar

from batch_infer.protocol.text import Text

EXIT_DONE = 0
EXIT_DONE_WITH_ERRORS = 1
EXIT_INTERRUPTED = 130


class BatchInferError(Exception):
    """The root. `text` says what happened, `hints` what to do next (one line each)."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 4

    def __init__(
        self, text: Text, *, hints: tuple[Text, ...] = (), data: dict[str, Any] | None = None
    ) -> None:
        super().__init__(str(text))
        self.text = text
        self.hints = hints
        self.data = data or {}

    def to_wire(self) -> dict[str, Any]:
        """The JSON-RPC error object: number, English message, and `data` for `from_wire`."""
        return {
            "code": -32000,
            "message": str(self.text),
            "data": {
                "error": self.code,
                "text": self.text.to_wire(),
                "hints": [hint.to_wire() for hint in self.hints],
                "data": self.data,
            },
        }


class UsageError(BatchInferError):
    """The command line asks for something that cannot be."""

    code = "usage"
    exit_code = 2


class TaskIdError(UsageError):
    """The task-id is not allowed as a folder name."""

    code = "task_id"


class ConfigError(BatchInferError):
    """Problems of a config, all at once: `problems` is a list of one-line texts in file order."""

    code = "config"
    exit_code = 2

    def __init__(
        self,
        text: Text,
        *,
        problems: tuple[Text, ...] = (),
        hints: tuple[Text, ...] = (),
        data: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(text, hints=hints, data=data)
        self.problems = problems or tuple(Text.from_wire(p) for p in self.data.get("problems", ()))
        self.data["problems"] = [p.to_wire() for p in self.problems]


class InputError(BatchInferError):
    """The input cannot be read, or is not what it should be."""

    code = "input"
    exit_code = 2


class TaskNotFound(BatchInferError):  # noqa: N818  named as users say it
    """There is no task of that id in this workspace."""

    code = "task_not_found"
    exit_code = 3


class TaskExists(BatchInferError):  # noqa: N818
    """The task-id is taken by a finished, cancelled or different task."""

    code = "task_exists"
    exit_code = 3


class TaskConflict(BatchInferError):  # noqa: N818
    """The task's state does not allow what was asked."""

    code = "task_conflict"
    exit_code = 3


class DaemonUnavailable(BatchInferError):  # noqa: N818
    """No daemon answers, or it could not be started."""

    code = "daemon_unavailable"
    exit_code = 4


class Incompatible(BatchInferError):  # noqa: N818
    """Client and daemon have no protocol version in common."""

    code = "incompatible"
    exit_code = 4


class ProtocolError(BatchInferError):
    """A frame or a message breaks the protocol."""

    code = "protocol"
    exit_code = 4


class InternalError(BatchInferError):
    """A bug on the other side; its log has the stack trace."""

    code = "internal"
    exit_code = 4


class TaskEnded(BatchInferError):  # noqa: N818
    """A task that was waited for ended cancelled, failed or paused."""

    code = "task_ended"
    exit_code = 5


_CLASSES: dict[str, type[BatchInferError]] = {
    cls.code: cls
    for cls in (
        UsageError,
        TaskIdError,
        ConfigError,
        InputError,
        TaskNotFound,
        TaskExists,
        TaskConflict,
        DaemonUnavailable,
        Incompatible,
        ProtocolError,
        InternalError,
        TaskEnded,
    )
}


def from_wire(error: dict[str, Any]) -> BatchInferError:
    """The exception for a JSON-RPC error object; `InternalError` where its class is unknown."""
    outer = error.get("data")
    data: dict[str, Any] = outer if isinstance(outer, dict) else {}
    cls = _CLASSES.get(str(data.get("error")), InternalError)
    text = Text.from_wire(data.get("text", error.get("message", "unknown error")))
    hints = tuple(Text.from_wire(hint) for hint in data.get("hints", ()))
    inner = data.get("data")
    return cls(text, hints=hints, data=dict(inner) if isinstance(inner, dict) else {})
