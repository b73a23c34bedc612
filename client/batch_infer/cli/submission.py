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
    from batch_infer.cli.context import Context, Peer

CONFIG_MAX_BYTES = 256 * 1024


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
        raise InputError(Text("the input {path} does not exist", values))
    if not path.is_file():
        raise InputError(Text("the input {path} is not a regular file", values))
    if not os.access(path, os.R_OK):
        raise InputError(Text("the input {path} cannot be read: permission denied", values))
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
        copy = Text("make one from the example: cp config.yaml.example config.yaml")
        hints = (
            (Text("check the path after -config"),) if named else (copy, Text("or name one: -config FILE"))
        )
        raise ConfigError(Text("the config file {path} does not exist", values), hints=hints) from error
    except IsADirectoryError as error:
        raise ConfigError(Text("the config file {path} is a folder", values)) from error
    except OSError as error:
        raise ConfigError(
            Text("the config file {path} cannot be read: {reason}", values | {"reason": error.strerror})
        ) from error
    if len(data) > CONFIG_MAX_BYTES:
        raise ConfigError(
            Text("the config file {path} is larger than {n} KiB", values | {"n": CONFIG_MAX_BYTES // 1024})
        )
    return data


def config_params(context: Context, peer: Peer, path: Path, data: bytes) -> dict[str, Any]:
    """The part of a request that carries a config: its bytes, and the values of the variables it names.

    Asks the daemon which those are, and prints warnings about where they were found.
    """
    encoded = base64.b64encode(data).decode("ascii")
    answer = peer.call(rpc.CONFIG_VARIABLES, {"config": encoded, "path": str(path)})
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
