"""From the command line to a `Request`: click parses, this module checks what goes together."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from batch_infer.cli.arguments import HELP_HINT, closest, normalise, suggest_verb
from batch_infer.cli.chunk_ranges import is_list_like, parse_ranges
from batch_infer.cli.options import BY_NAME, FLAGS, VERBS, Completes, Flag, Value
from batch_infer.cli.request import Request
from batch_infer.cli.settings import FLAGS as SETTING_FLAGS
from batch_infer.cli.sources import FLAGS as OVERRIDE_FLAGS
from batch_infer.cli.sources import TOPICS
from batch_infer.protocol.errors import TaskIdError, UsageError
from batch_infer.protocol.text import Text
from batch_infer.protocol.workspace import check_task_id

if TYPE_CHECKING:
    from collections.abc import Sequence


def parse(arguments: Sequence[str]) -> Request:
    """What the command line asks for.

    Raises UsageError: unknown flags, no verb or two, options that do not go together, words too many,
    a wrong list of chunks, and (as TaskIdError) a missing task-id.
    """
    values = _parse_by_click(normalise(arguments))
    words: list[str] = list(values.pop("words"))
    given = [flag for flag in FLAGS if values[_ident(flag)] not in (None, False, ())]
    if BY_NAME["help"] in given:
        return Request("help")
    verb = _one_verb(given, words)
    for flag in given:
        _check_goes_with(flag, verb)
    if values["wait"] and values["follow"]:
        raise _together("-wait", "-follow")
    chunks = list(values["chunks"])
    if chunks and not values[_ident(verb)] and not words and not is_list_like(chunks[-1]):
        words.append(chunks.pop())  # `-retry -chunks 3 ID`: the list takes all words that follow it
    own = _own_values(verb, values[_ident(verb)], words)
    request = Request(
        verb.name,
        workspace=_filled(values, "workspace"),
        config=_filled(values, "config"),
        out=_filled(values, "out"),
        format=_filled(values, "format"),
        encoding=_filled(values, "encoding"),
        wait=values["wait"],
        follow=values["follow"],
        once=values["once"],
        as_json=values["json"],
        settings=_settings(values),
        overrides=_overrides(values),
        shape=_filled(values, "shape"),
        only=_word(values, "only"),
        rows=_filled(values, "rows"),
        repair=values["repair"],
        schema=_filled(values, "schema"),
        keep_latest=values["keep_latest"],
        yes=values["yes"],
        cleanup=values["cleanup"],
    )
    if verb.choices:
        return request._replace(choice=_chosen(verb, own))
    if verb.name == "pipeline":
        task_id = values["task_id"] or ""
        if not task_id:
            raise _no_task_id('-task-id "my_task"')
        return request._replace(input=_input(own, values), ids=(task_id,))
    if verb.name in ("prepare", "estimate"):
        return request._replace(input=_input(own, values))
    if verb.name == "set":
        own, settings = _without_settings(own)
        request = request._replace(settings=settings)
    if verb.completes is Completes.TASKS and not verb.value.may_be_empty and not own:
        raise _no_task_id(verb.usage)
    if verb.name == "set" and not request.settings:
        raise _no_value(verb)
    if values["chunks"]:
        if not any(chunks):
            raise _no_value(BY_NAME["chunks"])
        request = request._replace(chunks=parse_ranges(chunks))
    return request._replace(ids=tuple(own))


def _ident(flag: Flag) -> str:
    return flag.name.replace("-", "_")


def _parse_by_click(arguments: list[str]) -> dict[str, Any]:
    options: list[click.Parameter] = [
        click.Option(
            [f"-{flag.name}", f"--{flag.name}", _ident(flag)],
            is_flag=True if flag.value is Value.NONE else None,
            multiple=flag.value.is_list,
            type=None if flag.value is Value.NONE else click.STRING,
        )
        for flag in FLAGS
    ]
    words = click.Argument(["words"], nargs=-1, required=False)
    command = click.Command("batch_infer", params=[*options, words], add_help_option=False)
    with command.make_context("batch_infer", arguments) as context:
        return dict(context.params)


def _one_verb(given: list[Flag], words: list[str]) -> Flag:
    verbs = [flag for flag in given if flag.is_verb]
    if len(verbs) > 1:
        raise _together(f"-{verbs[0].name}", f"-{verbs[1].name}")
    if verbs:
        return verbs[0]
    if words:
        raise UsageError(
            Text("nothing says what to do with {word!r}", {"word": words[0]}),
            hints=(*_word_hints(words[0]), HELP_HINT),
        )
    flags = " ".join(f"-{flag.name}" for flag in given)
    raise UsageError(
        Text("{flags} needs a command", {"flags": flags}),
        hints=(
            Text("to run a file: batch_infer -pipeline FILE -task-id ID"),
            HELP_HINT,
        ),
    )


def _word_hints(word: str) -> tuple[Text, ...]:
    """A word alone may be a verb without its dash, an input, or a task."""
    verb = suggest_verb(word)
    if verb is not None:
        return (verb,)
    run = Text("to run a file: batch_infer -pipeline FILE -task-id ID")
    try:
        check_task_id(word)
    except TaskIdError:
        return (run,)
    if os.path.isfile(word):
        return (run,)
    return (Text("to see it run: batch_infer -monitor {id}", {"id": word}), run)


def _together(first: str, second: str) -> UsageError:
    return UsageError(
        Text("{first} and {second} do not go together", {"first": first, "second": second}),
        hints=(HELP_HINT,),
    )


def _check_goes_with(flag: Flag, verb: Flag) -> None:
    if flag.is_verb or not flag.goes_with or verb.name in flag.goes_with:
        return
    allowed = ", ".join(f"-{name}" for name in VERBS if name in flag.goes_with)
    hint = Text("{flag} goes with {verbs}", {"flag": f"-{flag.name}", "verbs": allowed})
    if flag.name == "task-id" and verb.completes is Completes.TASKS:
        hint = Text("write: {usage}", {"usage": f"batch_infer {verb.usage}"})
    raise UsageError(
        Text(
            "{first} and {second} do not go together", {"first": f"-{flag.name}", "second": f"-{verb.name}"}
        ),
        hints=(hint,),
    )


def _own_values(verb: Flag, value: Any, words: list[str]) -> list[str]:
    """The verb's own values. A loose word goes to a verb that lacks one, or that takes many."""
    own = [v for v in (value if isinstance(value, tuple) else (value,)) if isinstance(v, str) and v]
    if verb.value.is_list:
        return own + words
    if verb.value is not Value.NONE and not own and value is not None:
        own, words = words[:1], words[1:]
    if words:
        raise UsageError(Text("unexpected argument {word!r}", {"word": words[0]}), hints=(HELP_HINT,))
    return own


def _filled(values: dict[str, Any], name: str) -> str | None:
    """A value that must not be empty where its flag stands."""
    value = values[_ident(BY_NAME[name])]
    if value == "":
        raise _no_value(BY_NAME[name])
    return None if value is None else str(value)


def _word(values: dict[str, Any], name: str) -> str | None:
    """A value that must be one of the flag's words."""
    return None if values[name] is None else _chosen(BY_NAME[name], list(filter(None, [values[name]])))


def _settings(values: dict[str, Any]) -> tuple[str, ...]:
    """The flags that stand for keys of the config, as `-set` takes them."""
    given = ((name, _filled(values, name)) for name in SETTING_FLAGS)
    return tuple(f"{name}={value}" for name, value in given if value is not None)


def _overrides(values: dict[str, Any]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The flags that stand for other keys of the config, with their values."""
    found = []
    for name in OVERRIDE_FLAGS:
        flag = BY_NAME[name]
        given = values[_ident(flag)]
        words = tuple(given) if flag.value is Value.MANY else () if given is None else (given,)
        if any(not word for word in words):
            raise _no_value(flag)
        if words:
            found.append((name, words))
    return tuple(found)


def _input(own: list[str], values: dict[str, Any]) -> str:
    """The verb's input; topics on the command line need no other."""
    return own[0] if own else TOPICS if values["topic"] else ""


def _without_settings(words: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """The task-ids among the words of -set, and the rest: no task-id has an equals sign."""
    ids = [word for word in words if "=" not in word]
    return ids, tuple(word for word in words if "=" in word)


def _chosen(flag: Flag, own: list[str]) -> str:
    command = f"-{flag.name} {'|'.join(flag.choices)}"
    if not flag.is_verb:
        command = f"{BY_NAME[flag.goes_with[0]].usage} {command}"
    usage = Text("write: {usage}", {"usage": f"batch_infer {command}"})
    if not own:
        raise _no_value(flag, usage)
    if own[0] not in flag.choices:
        near = closest(own[0], flag.choices)
        meant = (Text("did you mean {flag}?", {"flag": f"-{flag.name} {near}"}),) if near else ()
        raise UsageError(
            Text("{flag} knows no {word!r}", {"flag": f"-{flag.name}", "word": own[0]}), hints=(*meant, usage)
        )
    return own[0]


def _no_value(flag: Flag, *hints: Text) -> UsageError:
    return UsageError(
        Text("{flag} needs a value: {usage}", {"flag": f"-{flag.name}", "usage": flag.usage}), hints=hints
    )


def _no_task_id(usage: str) -> TaskIdError:
    return TaskIdError(
        Text("task-id must not be empty"), hints=(Text("name the task: {usage}", {"usage": usage}),)
    )
