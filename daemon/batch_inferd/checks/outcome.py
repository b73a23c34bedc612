"""What comes of a check, as it is sent to a client."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from batch_inferd.checks.content import Content, answers_that_fail

if TYPE_CHECKING:
    from batch_inferd.checks.findings import Finding
    from batch_inferd.merge.outputs import FileFacts

INTACT, DAMAGED, MISSING, REBUILT = "intact", "damaged", "missing", "rebuilt"


@dataclass(slots=True)
class FileCheck:
    """A file: what it should be (None: nobody knows), what it is, and what is wrong with it.

    `earlier`: it belongs to an earlier round, and is only looked at. Not `is_file`: a folder, a link or the
    like stands in its place.
    """

    name: str
    expected: FileFacts | None = None
    state: str = INTACT
    bytes: int = 0
    findings: list[Finding] = field(default_factory=list)
    backup: str | None = None  # what stood there is kept under this name
    earlier: bool = False
    is_file: bool = True

    def to_wire(self) -> dict[str, Any]:
        """For the client."""
        return {
            "name": self.name,
            "state": self.state,
            "bytes": self.bytes,
            "expected": self.expected,
            "findings": [finding.to_wire() for finding in self.findings],
            "backup": self.backup,
        }


def outcome(
    path: str, checks: list[FileCheck], content: Content | None, *more: Finding, task_id: str | None = None
) -> dict[str, Any]:
    """The answer about a file, or about a task's folder; `more` is wrong with the whole.

    `ok`: nothing is wrong, or not any more.
    """
    findings = [*more, *(answers_that_fail(content) if content is not None else ())]
    return {
        "task_id": task_id,
        "path": path,
        "ok": not findings and all(check.state in (INTACT, REBUILT) for check in checks),
        "files": [check.to_wire() for check in checks],
        "content": content.to_wire() if content is not None else None,
        "findings": [finding.to_wire() for finding in findings],
    }
