"""The daemon and the program."""

from __future__ import annotations

from batch_infer.cli.options.flag import Takes, Value, verb
from batch_infer.protocol.text import Text

DAEMON_ACTIONS = ("start", "run", "stop", "status")
SHELLS = ("bash", "zsh", "fish")

FLAGS = (
    verb(
        "daemon",
        Text("the workspace's daemon: start, run (in the foreground), stop or status"),
        Takes(Value.ONE, "ACTION", choices=DAEMON_ACTIONS),
    ),
    verb("doctor", Text("check that tasks can run: with a config its service, credential and model too")),
    verb(
        "completion",
        Text("print the completion script for bash, zsh or fish"),
        Takes(Value.ONE, "SHELL", choices=SHELLS),
    ),
    verb("version", Text("print the version")),
    verb("help", Text("print this help; -h does the same")),
)
