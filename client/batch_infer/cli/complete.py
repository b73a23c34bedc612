"""What a shell offers at Tab: `batch_infer -complete SHELL WORD… CURRENT`, called by its script.

Prints a candidate a line (for zsh and fish with a tab and a description), or `:files` or `:folders`,
which the shell completes itself. Task ids are the names of the folders in chunks/: no daemon is asked.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from batch_infer.cli.options import BY_NAME, FLAGS, Completes, Flag, Value, find_flag
from batch_infer.protocol.errors import TaskIdError
from batch_infer.protocol.text import language
from batch_infer.protocol.workspace import check_task_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def main(arguments: Sequence[str]) -> int:
    """Print the candidates. Wrong arguments give none: a Tab must never print an error."""
    shell, *words = [*arguments[1:], ""] if len(arguments) < 3 else arguments[1:]
    lang = language()
    lines = []
    for candidate in candidates(words[:-1], words[-1]):
        flag = find_flag(candidate) if candidate.startswith("-") else None
        lines.append(f"{candidate}\t{flag.help.render(lang)}" if flag and shell != "bash" else candidate)
    sys.stdout.buffer.write("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))
    sys.stdout.buffer.flush()
    return 0


def candidates(words: Sequence[str], current: str) -> list[str]:
    """What may stand at `current` after `words` (without the program's name)."""
    given = _joined([*words, current])
    current = given.pop()
    if current.startswith("-") and "=" in current:
        name, _, value = current.partition("=")
        flag = find_flag(name)
        return [] if flag is None else _values(flag, given, value)
    open_flag = _open_flag(given)
    if current.startswith("-"):
        return _flags(given, current)
    values = [] if open_flag is None else _values(open_flag, given, current)
    needs_value = open_flag is not None and (
        open_flag.value is Value.ONE or (open_flag.value is Value.MANY and given[-1].startswith("-"))
    )
    return values if needs_value or current else values + _flags(given, current)


def _joined(words: Sequence[str]) -> list[str]:
    """The words, with `-flag`, `=`, `value` as one: bash breaks them at the equals sign."""
    joined: list[str] = []
    for word in words:
        after_equals = joined and joined[-1].startswith("-") and joined[-1].endswith("=")
        if joined and (after_equals or (word == "=" and joined[-1].startswith("-"))):
            joined[-1] += word
        else:
            joined.append(word)
    return joined


def _open_flag(words: Sequence[str]) -> Flag | None:
    """The flag whose value may stand after `words`: the last one, else a verb that lacks its value."""
    last: Flag | None = None
    verb: Flag | None = None
    for word in words:
        if word.startswith("-"):
            flag = None if "=" in word else find_flag(word)
            last = flag if flag is not None and flag.value is not Value.NONE else None
            verb = last if last is not None and last.is_verb else verb
            continue
        taker = last or verb
        if taker is not None and not taker.value.is_list:
            last = None
            verb = None if taker is verb else verb
    return last or verb


def _flags(words: Sequence[str], current: str) -> list[str]:
    """Flags that may still be given: verbs while there is none, then what goes with the verb."""
    used = {flag.name for word in words if (flag := find_flag(word.partition("=")[0])) is not None}
    verbs = [name for name in used if BY_NAME[name].is_verb]
    dashes = "--" if current.startswith("--") else "-"
    fitting = [
        flag.name
        for flag in FLAGS
        if flag.name not in used
        and (not verbs or not flag.is_verb)
        and (not verbs or not flag.goes_with or verbs[0] in flag.goes_with)
    ]
    return [f"{dashes}{name}" for name in fitting if f"{dashes}{name}".startswith(current)]


def _values(flag: Flag, words: Sequence[str], current: str) -> list[str]:
    if flag.completes is Completes.FILES:
        return [":files"]
    if flag.completes is Completes.FOLDERS:
        return [":folders"]
    names = flag.choices
    if flag.completes is Completes.TASKS:
        names = tuple(name for name in _task_ids(_workspace(words)) if name not in words)
    used = {word.partition("=")[0] for word in words if "=" in word}
    names += tuple(f"{key}=" for key in flag.keys if key not in used)
    return [name for name in names if name.startswith(current)]


def _workspace(words: Sequence[str]) -> Path:
    chosen = os.environ.get("BATCH_INFER_WORKSPACE") or "."
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if find_flag(name) is BY_NAME["workspace"]:
            following = words[number + 1] if number + 1 < len(words) else ""
            chosen = value if equals else following
    return Path(os.path.expanduser(chosen))


def _task_ids(workspace: Path) -> Iterator[str]:
    try:
        names = sorted(entry.name for entry in os.scandir(workspace / "chunks") if entry.is_dir())
    except OSError:
        return
    for name in names:
        try:
            yield check_task_id(name)
        except TaskIdError:
            continue
