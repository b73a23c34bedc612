"""What -pipeline and -resume send: the input's path, the config's bytes, and the values it names."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch_infer.cli.environment import collect, proxies
from batch_infer.protocol import rpc
from batch_infer.protocol.errors import ConfigError, InputError
from batch_infer.protocol.text import Text
from batch_infer.protocol.workspace import CONFIG_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_infer.cli.context import Context, Peer

CONFIG_MAX_BYTES = 256 * 1024
_EXAMPLE = "config.yaml.example"
MINIMAL_CONFIG = """\
model:
  domain: test
  password: YOUR_PASSWORD
  max_tokens: 1024
test_lines: 300"""


def check_input(name: str) -> Path:
    """The absolute path of the input. Raises InputError: no name, no such file, or not a file to read."""
    if not name:
        raise InputError(
            Text("the name of the input file is empty"),
            hints=(Text("name the file: batch_infer -pipeline FILE -task-id ID"),),
        )
    path = Path(os.path.abspath(name))
    values = {"path": str(path)}
    if path.is_dir():
        raise InputError(
            Text("the input {path} is a folder", values),
            hints=(Text("name a file of JSON lines in it"),),
        )
    if not path.exists():
        raise InputError(
            Text("the input {path} does not exist", values),
            hints=(Text("check the path after -pipeline"),),
        )
    if not path.is_file():
        raise InputError(
            Text("the input {path} is not a regular file", values),
            hints=(Text("write its lines into a file first, and name that"),),
        )
    if not os.access(path, os.R_OK):
        raise InputError(
            Text("the input {path} cannot be read: permission denied", values),
            hints=(Text("make it readable: chmod u+r {path}", values),),
        )
    return path


def find_config(context: Context, option: str | None) -> Path:
    """The absolute path of `-config F`, else of config.yaml in the workspace."""
    return Path(os.path.abspath(option)) if option else context.workspace.root / CONFIG_NAME


def read_config(path: Path, *, named: bool) -> bytes:
    """The bytes of a config of at most 256 KiB. `named`: by -config. Raises ConfigError."""
    values = {"path": str(path)}
    try:
        with path.open("rb") as file:
            data = file.read(CONFIG_MAX_BYTES + 1)
    except FileNotFoundError as error:
        hints = (
            (Text("check the path after -config"),)
            if named
            else (_how_to_make(path), Text("or name one: -config FILE"))
        )
        raise ConfigError(Text("the config file {path} does not exist", values), hints=hints) from error
    except IsADirectoryError as error:
        raise ConfigError(
            Text("the config file {path} is a folder", values),
            hints=(Text("name a file in it: -config {path}", {"path": str(path / CONFIG_NAME)}),),
        ) from error
    except OSError as error:
        raise ConfigError(
            Text("the config file {path} cannot be read: {reason}", values | {"reason": error.strerror}),
            hints=(Text("check who may read it: ls -l {path}", values),),
        ) from error
    if len(data) > CONFIG_MAX_BYTES:
        raise ConfigError(
            Text("the config file {path} is larger than {n} KiB", values | {"n": CONFIG_MAX_BYTES // 1024}),
            hints=(Text("check that it is the config, and not the input"),),
        )
    return data


def _how_to_make(path: Path) -> Text:
    """How to come by a first config: from the example beside it, or by a few lines to copy."""
    if (path.parent / _EXAMPLE).is_file():
        return Text("make one from the example: cp config.yaml.example config.yaml")
    return Text("put these lines into it for a first try:\n{lines}", {"lines": MINIMAL_CONFIG})


def config_params(
    context: Context, peer: Peer, path: Path, data: bytes | None, asked: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The part of a request that carries a config: its bytes, and the values of the variables it names.

    Asks the daemon which those are, and prints warnings about where they were found. `asked` are the
    `input` and the `overrides` of the request, where it has some. Without `data` there is no config.
    """
    encoded = None if data is None else base64.b64encode(data).decode("ascii")
    answer = peer.call(rpc.CONFIG_VARIABLES, {"config": encoded, "path": str(path), **(asked or {})})
    for warning in answer.get("warnings", ()):
        context.console.warning(Text.from_wire(warning))
    folders = (path.parent, context.workspace.root)
    values, warnings = collect(answer["variables"], context.environ, folders)
    for warning in warnings:
        context.console.warning(warning)
    return {
        "config": encoded,
        "config_path": str(path),
        "env": values,
        "proxy": proxies(context.environ),
    }
