"""What a submit from Python sends: as the command line does, with a config that may be a mapping."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from batch_infer.cli.context import Context
from batch_infer.cli.sources import input_name
from batch_infer.cli.submission import config_params, find_config, read_config
from batch_infer.protocol import rpc
from batch_infer.protocol.errors import DaemonUnavailable, ProtocolError
from batch_infer.protocol.text import Text, language
from batch_infer.protocol.workspace import find_workspace
from batch_infer.render.console import Console

if TYPE_CHECKING:
    from pathlib import Path

    from batch_infer.api import Config


class Notes(Console):
    """A console that keeps what it is told, for those who want to read it."""

    def __init__(self) -> None:
        super().__init__(io.StringIO(), io.StringIO(), language(), {})
        self.notes: list[str] = []

    def warning(self, text: Text) -> None:
        """Keep it, once."""
        self._keep(text)

    def note(self, text: Text) -> None:
        """Keep it, once."""
        self._keep(text)

    def _keep(self, text: Text) -> None:
        line = self.text(text)
        if line not in self.notes:
            self.notes.append(line)


def quiet_context(root: Path) -> tuple[Context, Notes]:
    """What the verbs of the command line work with, without a terminal."""
    console = Notes()
    return Context(find_workspace(str(root)), console), console


def send(
    root: Path, given: str, task_id: str, config: Config | None, settings: Mapping[str, Any], nonce: str
) -> tuple[str, ...]:
    """Submit; what there is to know beside.

    After a lost connection it is tried once more: by the nonce it stays one task. Raises BatchInferError.
    """
    context, console = quiet_context(root)
    path, data = given_config(context, config)
    params: dict[str, Any] = {
        "nonce": nonce,
        "task_id": task_id,
        "input": input_name(given),
        "lang": context.lang,
    }
    if settings:
        params["settings"] = {key: str(value) for key, value in settings.items()}
    accepted = _submit(context, params, path, data)
    for text in (*accepted.get("warnings", ()), *accepted.get("notes", ())):
        console.note(Text.from_wire(text))
    return tuple(console.notes)


def given_config(
    context: Context, config: Config | None, *, required: bool = True
) -> tuple[Path, bytes | None]:
    """The path and the bytes of a config; no bytes where none is given, none is there, and none is required.

    Raises ConfigError.
    """
    if isinstance(config, Mapping):
        # JSON is YAML; paths in it count from the workspace, and no file of that name is looked at.
        text = json.dumps(dict(config), ensure_ascii=False, indent=2)
        return context.workspace.root / "(config)", text.encode()
    path = find_config(context, None if config is None else os.fspath(config))
    if config is None and not required and not os.path.lexists(path):
        return path, None
    return path, read_config(path, named=config is not None)


def _submit(context: Context, params: dict[str, Any], path: Path, data: bytes | None) -> dict[str, Any]:
    try:
        return _once(context, params, path, data)
    except (DaemonUnavailable, ProtocolError):
        return _once(context, params, path, data)


def _once(context: Context, params: dict[str, Any], path: Path, data: bytes | None) -> dict[str, Any]:
    with context.daemon(with_worker=True) as peer:
        carried = config_params(context, peer, path, data, {"input": params["input"]})
        return peer.call(rpc.SUBMIT, params | carried)
