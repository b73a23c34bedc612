"""All options as data: parser, help and shell completion read this one table.

A command line has one verb, and modifiers that go with it. Nothing here imports click, so that a
shell's completion is quick.
"""

from __future__ import annotations

from batch_infer.cli.options import common, data, program, steering, submitting, watching
from batch_infer.cli.options.flag import Completes, Flag, Value
from batch_infer.protocol.text import Text

__all__ = ["BY_NAME", "FLAGS", "GROUPS", "VERBS", "Completes", "Flag", "Value", "find_flag"]

GROUPS: tuple[tuple[Text, tuple[Flag, ...]], ...] = (  # as help shows them
    (Text("Submit a task"), submitting.FLAGS),
    (Text("Watch"), watching.FLAGS),
    (Text("Steer"), steering.FLAGS),
    (Text("Inputs, outputs and money"), data.FLAGS),
    (Text("The daemon and the program"), program.FLAGS),
    (Text("With other options"), common.FLAGS),
)
FLAGS = tuple(flag for _, flags in GROUPS for flag in flags)
BY_NAME = {flag.name: flag for flag in FLAGS}
VERBS = tuple(flag.name for flag in FLAGS if flag.is_verb)


def find_flag(argument: str) -> Flag | None:
    """The flag that `argument` (`-name` or `--name`, without `=value`) spells; None if there is none."""
    if argument == "-h":
        return BY_NAME["help"]
    dashes = len(argument) - len(argument.lstrip("-"))
    return BY_NAME.get(argument[dashes:]) if 1 <= dashes <= 2 else None
