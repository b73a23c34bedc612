"""The words of the command line, brought into the one shape that click then parses.

Click knows single-dash long options, but takes a misspelt one for a cluster of short ones, and an
option's list ends after a fixed count. So `-cancel A B -json` becomes `--cancel=A --cancel=B --json`,
and whatever is no flag of ours is told here, with a suggestion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_infer.cli.options import FLAGS, VERBS, Flag, Value, find_flag
from batch_infer.protocol.errors import UsageError
from batch_infer.protocol.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HELP_HINT = Text("batch_infer -help shows all options")


def normalise(arguments: Sequence[str]) -> list[str]:
    """Flags as `--name` or `--name=value`, then `--` and the words that belong to no flag.

    A missing value becomes an empty one: the verb knows best what to say about it. Raises UsageError
    for an unknown flag, for a value where none may stand, and for a flag given twice.
    """
    flags: list[str] = []
    words: list[str] = []
    seen: dict[str, str | None] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            words += rest
            break
        if not is_flag_like(argument):
            words.append(argument)
            continue
        spelt, equals, value = argument.partition("=")
        flag = find_flag(spelt)
        if flag is None:
            raise UsageError(Text("there is no option {flag}", {"flag": spelt}), hints=_suggest(spelt))
        values = _values(flag, value if equals else None, rest)
        if flag.value in (Value.ONE, Value.OPTIONAL) and seen.setdefault(flag.name, values[0]) != values[0]:
            raise UsageError(Text("{flag} is given twice", {"flag": f"-{flag.name}"}))
        flags += [f"--{flag.name}" if value is None else f"--{flag.name}={value}" for value in values]
    return [*flags, "--", *words]


def is_flag_like(argument: str) -> bool:
    """Whether an argument is meant as a flag, known or not (`-` alone and `-3` are words)."""
    return len(argument) > 1 and argument.startswith("-") and not argument[1:].isdecimal()


def closest(word: str, names: Iterable[str]) -> str | None:
    """The name that `word` may have been meant for; None where nothing is near."""
    from difflib import get_close_matches

    plain = word.lower().replace("_", "-")
    by_plain = {name.lower(): name for name in names}
    longer = [name for name in by_plain if len(plain) > 1 and name.startswith(plain)]
    found = longer or get_close_matches(plain, by_plain, n=1, cutoff=0.65)
    return by_plain[found[0]] if found else None


def suggest_verb(word: str) -> Text | None:
    """A hint for a word that looks like a verb without its dash."""
    verb = closest(word, VERBS)
    return Text("did you mean {flag}?", {"flag": f"-{verb}"}) if verb else None


def _suggest(spelt: str) -> tuple[Text, ...]:
    name = closest(spelt.lstrip("-"), [flag.name for flag in FLAGS])
    return (Text("did you mean {flag}?", {"flag": f"-{name}"}) if name else HELP_HINT,)


def _values(flag: Flag, explicit: str | None, rest: list[str]) -> list[str | None]:
    """The values of a flag; takes those that follow it out of `rest`. None stands for a bare flag."""
    if flag.value is Value.NONE:
        if explicit is not None:
            raise UsageError(Text("{flag} takes no value", {"flag": f"-{flag.name}"}))
        return [None]
    values: list[str | None] = [] if explicit is None else [explicit]
    wanted = len(values) + len(rest) if flag.value.is_list else 1
    while rest and len(values) < wanted and not is_flag_like(rest[0]):
        values.append(rest.pop(0))
    return values or [""]
