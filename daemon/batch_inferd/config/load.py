"""From a config file's bytes to a checked `Config`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from batch_infer.protocol.text import Text
from batch_inferd.config import nodes
from batch_inferd.config.check import check
from batch_inferd.config.encoding import to_text
from batch_inferd.config.keys import CONFIG
from batch_inferd.config.kinds import absent
from batch_inferd.config.overrides import lay_over
from batch_inferd.config.problems import TOP, Problems, Source
from batch_inferd.config.scalars import found, is_empty
from batch_inferd.config.schema import Config
from batch_inferd.config.settings import overlay

if TYPE_CHECKING:
    from collections.abc import Mapping

EMPTY = {
    "domain": Text("domain must not be empty in the config file"),
    "password": Text("password must not be empty in the config file"),
    "max_tokens": Text("max_tokens must not be empty in the config file"),
}


def parse_config(
    data: bytes,
    path: str,
    settings: Mapping[str, str] | None = None,
    overrides: Mapping[str, str | list[str]] | None = None,
) -> Config:
    """The config in `data`, with `settings` and `overrides` as if they stood there.

    `path` gives the name for messages.

    Raises ConfigError with every problem of the file, each with line and column, in the file's order.
    Only what the file itself and the known services tell is checked: variables are for `resolve`.
    """
    problems = Problems(path)
    root = nodes.parse(to_text(data, problems), problems) or nodes.Mapping(TOP)
    if not isinstance(root, nodes.Mapping):
        shape = {"found": found(root, secret=True)}
        problems.add(
            root.position, Text("a config is made of sections, found {found}; begin with model:", shape)
        )
        raise problems.error()
    root.keys.setdefault("model", TOP)
    if absent(root.values.setdefault("model", nodes.Mapping(TOP))):
        root.values["model"] = nodes.Mapping(TOP)
    overlay(root, settings or {}, problems)
    lay_over(root, overrides or {}, problems)
    source = Source(problems.file, dict(CONFIG.positions(root)))
    empty = _take_empty(root.values["model"])
    values: dict[str, Any] = CONFIG.read(root, "", problems)
    if isinstance(root.values["model"], nodes.Mapping):
        missing = check(values, root.values["model"], source, problems) | empty
        for key in (key for key in EMPTY if key in missing):
            problems.add(source.position(f"model.{key}"), EMPTY[key])
    problems.check()
    return msgspec.structs.replace(msgspec.convert(values, Config), source=source)


def _take_empty(model: nodes.Node) -> set[str]:
    """The required keys that stand there without a value; taken out, they are reported once."""
    if not isinstance(model, nodes.Mapping):
        return set()
    empty = {key for key in EMPTY if key in model.values and is_empty(model.values[key])}
    for key in empty:
        del model.values[key]
    return empty
