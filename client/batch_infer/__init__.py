"""batch_infer: answer very large files of LLM requests, offline. This package is the thin client.

    import batch_infer

    task = batch_infer.submit("questions.jsonl", "my_task")
    task.wait()
    for result in task.results():
        print(result.custom_id, result.answer)

docs/python.md describes what can be imported from here. The package never imports `batch_inferd`: whatever
needs sources, backends or YAML is a request to the daemon. Names are loaded when they are used, so that
`import batch_infer` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from batch_infer.version import __version__

if TYPE_CHECKING:
    from batch_infer.api import Status, Task, submit
    from batch_infer.api_async import AsyncTask, submit_async
    from batch_infer.manager import BatchInferenceManager
    from batch_infer.protocol.errors import (
        BatchInferError,
        ConfigError,
        DaemonUnavailable,
        InputError,
        TaskConflict,
        TaskExists,
        TaskNotFound,
        UsageError,
    )
    from batch_infer.results import Result

_ERRORS = "batch_infer.protocol.errors"
_HOMES = {
    "AsyncTask": "batch_infer.api_async",
    "BatchInferError": _ERRORS,
    "BatchInferenceManager": "batch_infer.manager",
    "ConfigError": _ERRORS,
    "DaemonUnavailable": _ERRORS,
    "InputError": _ERRORS,
    "Result": "batch_infer.results",
    "Status": "batch_infer.api",
    "Task": "batch_infer.api",
    "TaskConflict": _ERRORS,
    "TaskExists": _ERRORS,
    "TaskNotFound": _ERRORS,
    "UsageError": _ERRORS,
    "submit": "batch_infer.api",
    "submit_async": "batch_infer.api_async",
}

__all__ = [
    "AsyncTask",
    "BatchInferError",
    "BatchInferenceManager",
    "ConfigError",
    "DaemonUnavailable",
    "InputError",
    "Result",
    "Status",
    "Task",
    "TaskConflict",
    "TaskExists",
    "TaskNotFound",
    "UsageError",
    "__version__",
    "submit",
    "submit_async",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
