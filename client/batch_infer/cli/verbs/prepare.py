"""-prepare: an input as one file of requests, images and all. Interrupted, the same command goes on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from batch_infer.cli.arguments import closest
from batch_infer.cli.sources import overrides_params, taken_input
from batch_infer.cli.submission import config_params, find_config, read_config
from batch_infer.protocol import rpc
from batch_infer.protocol.errors import (
    EXIT_DONE,
    EXIT_DONE_WITH_ERRORS,
    EXIT_INTERRUPTED,
    DaemonUnavailable,
    UsageError,
)
from batch_infer.protocol.shapes import SHAPES
from batch_infer.protocol.text import Text
from batch_infer.render import numbers
from batch_infer.render.public import SCHEMA
from batch_infer.render.working import Bar

if TYPE_CHECKING:
    from batch_infer.cli.context import Context
    from batch_infer.cli.request import Request
    from batch_infer.render.console import Console

_WHAT = Text("prepare")
_AGAIN = Text("what is written stays; the same command goes on with it")


def run(context: Context, request: Request) -> int:
    """Ask the daemon to write the file, show how far it is, and print where it stands."""
    console = context.console
    params = _params(request)
    path = find_config(context, request.config)
    named = request.config is not None
    config = read_config(path, named=named) if named or os.path.lexists(path) else None
    try:
        with (
            taken_input(context, request.input) as given,
            context.daemon() as peer,
            Bar(console, _WHAT, context.monotonic) as bar,
        ):
            params |= {"source": given["input"], "stdin": given.get("stdin")}
            asked = {"input": given["input"], "overrides": params.get("overrides", {})}
            params |= config_params(context, peer, path, config, asked)
            answer = peer.call_long(rpc.PREPARE, params, bar.show)
    except KeyboardInterrupt:
        console.tell(_AGAIN)
        return EXIT_INTERRUPTED
    except DaemonUnavailable as error:
        raise DaemonUnavailable(error.text, hints=(*error.hints, _AGAIN)) from error
    _tell(context, answer, as_json=request.as_json)
    return EXIT_DONE_WITH_ERRORS if answer["failed"] else EXIT_DONE


def _params(request: Request) -> dict[str, Any]:
    """What can be checked here. Raises UsageError."""
    if not request.out:
        raise UsageError(
            Text("-prepare needs a file to write"),
            hints=(Text("name it: batch_infer -prepare photos -out requests.jsonl"),),
        )
    shape = request.shape or SHAPES[0]
    if shape not in SHAPES:
        near = closest(shape, SHAPES)
        hint = Text("write: {usage}", {"usage": f"-shape {'|'.join(SHAPES)}"})
        if near is not None:
            hint = Text("did you mean {flag}?", {"flag": f"-shape {near}"})
        raise UsageError(Text("{flag} knows no {word!r}", {"flag": "-shape", "word": shape}), hints=(hint,))
    return {"out": os.path.abspath(request.out), "shape": shape, **overrides_params(request.overrides)}


def _tell_pace(console: Console, pace: dict[str, Any]) -> None:
    """How long the writing took this time, and how fast it was."""
    if not pace["records"]:
        return
    seconds = pace["seconds"]
    values = {
        "n": numbers.count(pace["records"]),
        "time": f"{seconds:.1f}s" if seconds < 60 else numbers.span(seconds),
        "rate": numbers.rate(pace["records_per_s"]),
        "speed": numbers.size(pace["bytes_per_s"]),
    }
    console.tell(Text("{n} records were written in {time}: {rate}, {speed}/s", values))


def _tell(context: Context, answer: dict[str, Any], *, as_json: bool) -> None:
    console = context.console
    warnings = [Text.from_wire(warning) for warning in answer.pop("warnings", ())]
    notes = [Text.from_wire(note) for note in answer.pop("notes", ())]
    for warning in warnings:
        console.warning(warning)
    for note in notes:
        console.note(note)
    if as_json:
        words = {"notes": notes, "warnings": warnings}
        shown = {key: [console.text(text) for text in texts] for key, texts in words.items()}
        console.json({"schema": SCHEMA, **answer, **shown})
        return
    if answer["skipped"]:
        skipped = {"n": numbers.count(answer["skipped"])}
        console.note(Text("{n} records are answered already, and left out", skipped))
    if answer["failed"]:
        failed = {"n": numbers.count(answer["failed"]), "path": answer["errors"]}
        console.warning(Text("{n} records cannot be sent; {path} says why", failed))
    values = {"n": numbers.count(answer["count"]), "size": numbers.size(answer["bytes"])}
    _tell_pace(console, answer["this_time"])
    console.tell(Text("{n} records, {size}, are in", values))
    console.data(answer["path"])
