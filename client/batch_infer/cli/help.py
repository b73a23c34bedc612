"""The help text, made from the table of options; docs/cli.md holds the English one."""

from __future__ import annotations

from batch_infer.cli.options import FLAGS, GROUPS
from batch_infer.protocol.text import Text
from batch_infer.render.columns import pad, width, wrap

_GAP = 2
_INDENT = "  "


def help_text(lang: str, cells: int) -> str:
    """The whole help in `lang`, in lines of about `cells`."""
    lines = [
        *wrap(_ABOUT.render(lang), cells),
        "",
        _USAGE.render(lang),
        _INDENT + "batch_infer -pipeline INPUT -task-id ID [-config FILE] [-wait | -follow]",
        _INDENT + "batch_infer -monitor [ID] | -status [ID] | -list | -cancel ID… | …",
    ]
    usages = {flag.name: flag.usage for flag in FLAGS}
    usages |= {f.name: f"-{f.name} {'|'.join(f.choices)}" for f in FLAGS if f.choices and f.is_verb}
    left = max(width(usage) for usage in usages.values())
    for group, flags in GROUPS:
        lines += ["", Text("{group}:", {"group": group}).render(lang)]
        for flag in flags:
            lines += _entry(usages[flag.name], flag.help.render(lang), left, cells)
    lines += ["", _EXIT.render(lang)]
    for code, meaning in _CODES:
        lines += _entry(code, meaning.render(lang), 3, cells)
    lines += ["", _ENVIRONMENT.render(lang)]
    for name, meaning in _VARIABLES:
        lines += _entry(name, meaning.render(lang), max(len(name) for name, _ in _VARIABLES), cells)
    lines += ["", *wrap(_DASHES.render(lang), cells)]
    return "\n".join(lines)


def _entry(name: str, meaning: str, left: int, cells: int) -> list[str]:
    start = len(_INDENT) + left + _GAP
    first, *rest = wrap(meaning, max(cells - start, 20))
    head = _INDENT + pad(name, left) + " " * _GAP + first
    return [head, *(" " * start + line for line in rest)]


_ABOUT = Text(
    "batch_infer runs very large files of LLM requests to the end, offline. A daemon does the work; "
    "every line of the input is accounted for."
)
_USAGE = Text("Usage:")
_EXIT = Text("Exit codes:")
_ENVIRONMENT = Text("Environment:")
_DASHES = Text("Two dashes and -option=value work too.")
_CODES = (
    ("0", Text("done")),
    ("1", Text("done, with failed or missing records")),
    ("2", Text("the command line, the config or the input is wrong")),
    ("3", Text("no such task, or it already exists")),
    ("4", Text("the daemon is unavailable or incompatible")),
    ("5", Text("the task is cancelled, failed or paused")),
    ("130", Text("interrupted")),
)
_VARIABLES = (
    ("BATCH_INFER_WORKSPACE", Text("the workspace, where -workspace is absent")),
    ("BATCH_INFER_LANG", Text("en or zh; the locale decides when absent")),
    ("NO_COLOR", Text("no colours")),
)
