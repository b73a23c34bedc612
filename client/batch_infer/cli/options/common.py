"""What goes with other options."""

from __future__ import annotations

from batch_infer.cli.options.flag import FOLDER, modifier
from batch_infer.protocol.text import Text

FLAGS = (
    modifier(
        "workspace",
        Text("the folder of the tasks; BATCH_INFER_WORKSPACE or the current one when absent"),
        takes=FOLDER,
    ),
    modifier(
        "json",
        Text("print JSON on the standard output"),
        "pipeline",
        "monitor",
        "list",
        "status",
        "logs",
        "cancel",
        "pause",
        "resume",
        "set",
        "retry",
        "clean",
        "validate",
        "prepare",
        "export",
        "estimate",
        "cost",
        "daemon",
        "doctor",
        "version",
    ),
)
