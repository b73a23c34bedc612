"""-export: the records of ended tasks in one file, in the format that is asked for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from batch_infer.cli.arguments import closest
from batch_infer.protocol import rpc
from batch_infer.protocol.errors import EXIT_DONE, UsageError
from batch_infer.protocol.exports import ENCODINGS, FORMATS, PICTURE, file_name, format_of
from batch_infer.protocol.text import Text
from batch_infer.render import numbers
from batch_infer.render.public import SCHEMA
from batch_infer.render.working import Bar

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from batch_infer.cli.context import Context
    from batch_infer.cli.request import Request

_WHAT = Text("export")


def run(context: Context, request: Request) -> int:
    """Ask the daemon to write the file, show how far it is, and print where it stands."""
    params = export_params(request, context.workspace.merged)
    ids = params["tasks"]
    for task_id in ids:
        context.check_known(task_id)
    console = context.console
    with context.daemon_of_tasks() as peer, Bar(console, _WHAT, context.monotonic) as bar:
        if peer is None:
            raise context.not_found(ids[0])
        answer = peer.call_long(rpc.EXPORT, params, bar.show)
    if request.as_json:
        console.json({"schema": SCHEMA, **answer})
    else:
        values = {"n": numbers.count(answer["records"]), "size": numbers.size(answer["bytes"])}
        console.tell(Text("{n} records, {size}, are in", values))
        console.data(answer["path"])
    return EXIT_DONE


def export_params(request: Request, merged: Path) -> dict[str, Any]:
    """The request's parameters; a picture without a file stands in `merged`, beside the task's report.

    Raises UsageError: no file, or a format or an encoding that there is none.
    """
    out = request.out
    if not out and request.format == PICTURE and len(set(request.ids)) == 1:
        out = str(merged / request.ids[0] / file_name(PICTURE))
    if not out:
        raise UsageError(
            Text("-export needs a file to write"),
            hints=(
                Text("name it: batch_infer -export {ids} -out answers.csv", {"ids": " ".join(request.ids)}),
            ),
        )
    form = request.format or format_of(out)
    if form is None:
        names = {"path": out, "formats": ", ".join(FORMATS)}
        raise UsageError(
            Text("the name {path} does not say which format is meant", names),
            hints=(Text("name it with -format: {formats}", names),),
        )
    params = {"tasks": list(dict.fromkeys(request.ids)), "out": os.path.abspath(out)}
    params["format"] = _known("-format", form, FORMATS)
    if request.encoding is not None:
        params["encoding"] = _known("-encoding", request.encoding, ENCODINGS)
    return params


def _known(flag: str, word: str, allowed: Iterable[str]) -> str:
    names = tuple(allowed)
    if word in names:
        return word
    near = closest(word, names)
    hint = Text("did you mean {flag}?", {"flag": f"{flag} {near}"})
    if near is None:
        hint = Text("write: {usage}", {"usage": f"{flag} {'|'.join(names)}"})
    raise UsageError(Text("{flag} knows no {word!r}", {"flag": flag, "word": word}), hints=(hint,))
