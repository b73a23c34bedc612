"""Settings: the keys of a config that a command line may set, over a config or while a task runs.

They are read by the config's own kinds. Mode and processes go together: more processes than one want
another mode than asyncio, and mode asyncio has one; of the two, what was not given follows.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import ConfigError
from batch_infer.protocol.text import Text
from batch_inferd.config.keys import CONFIG
from batch_inferd.config.nodes import Mapping as MappingNode
from batch_inferd.config.nodes import Scalar
from batch_inferd.config.problems import TOP, Position, Problems
from batch_inferd.config.scalars import plain_value
from batch_inferd.config.sections import Section

if TYPE_CHECKING:
    from collections.abc import Mapping

# Key -> the section of the config that it stands in.
SECTION_OF = {
    "concurrency": "execution",
    "max_concurrency": "limits",
    "rpm": "limits",
    "tpm": "limits",
    "bytes_in_flight": "limits",
    "processes": "execution",
    "mode": "execution",
    "priority": "",
    "budget": "budget",
    "log_dir": "logging",
    "log_level": "logging",
}
# In their section, where they have another name there.
_NAMES = {"log_dir": "dir", "log_level": "level", "budget": "amount"}
_CLEARABLE = frozenset({"rpm", "tpm"})
_CLEARED = frozenset({"null", "none"})


class _Given(Problems):
    """Problems of a command line: it has no lines and columns."""

    def add(self, position: Position, problem: Text) -> None:
        self._found.append((position, problem))

    def error(self) -> ConfigError:
        return ConfigError(
            Text("the settings have errors"), problems=tuple(problem for _, problem in self._found)
        )


def _kinds() -> Section:
    return Section({key: _section(home).kinds[_name(key)] for key, home in SECTION_OF.items()})


def _name(key: str) -> str:
    """What the key is called in its section."""
    return _NAMES.get(key, key)


def _section(name: str) -> Section:
    section = CONFIG.kinds[name] if name else CONFIG
    assert isinstance(section, Section)  # noqa: S101  as SECTION_OF says
    return section


_SETTINGS = _kinds()


def read_settings(given: Mapping[str, str]) -> dict[str, Any]:
    """The values of the keys; None for a limit that is taken away.

    Raises ConfigError with all problems: unknown keys, values that are wrong or missing.
    """
    problems = _Given("")
    cleared = {key: None for key, text in given.items() if key in _CLEARABLE and text.lower() in _CLEARED}
    rest = {key: text for key, text in given.items() if key not in cleared}
    for key, text in rest.items():
        if key in SECTION_OF and plain_value(text.strip()) is None:
            problems.add(TOP, Text("{key} needs a value", {"key": key}))
    node = MappingNode(
        TOP,
        {key: Scalar(TOP, text.strip(), quoted=False) for key, text in rest.items()},
        dict.fromkeys(rest, TOP),
    )
    values: dict[str, Any] = _SETTINGS.read(node, "", problems)
    if values.get("mode") == "asyncio" and values.get("processes", 1) > 1:
        problems.add(TOP, Text("processes must be 1 in mode asyncio; take another mode for more"))
    problems.check()
    return values | cleared


def _following(values: Mapping[str, Any], mode: object, processes: object) -> dict[str, Any]:
    """What follows from `values` for that of mode and processes that they do not have."""
    if values.get("mode") == "asyncio" and processes != 1:
        return {"processes": 1}
    if (
        values.get("processes", 1) > 1
        and "mode" not in values
        and mode not in ("threading", "multiprocessing")
    ):
        return {"mode": "multiprocessing"}
    return {}


def overlay(root: MappingNode, given: Mapping[str, str], problems: Problems) -> None:
    """Put settings into a config's tree as if they stood there; what is wrong with them is a problem."""
    try:
        values = read_settings(given)
    except ConfigError as error:
        problems.adopt(TOP, error)
        return
    execution = root.values.get("execution")
    texts = {
        key: node.text
        for key, node in (execution.values if isinstance(execution, MappingNode) else {}).items()
        if isinstance(node, Scalar)
    }
    values |= _following(values, texts.get("mode"), plain_value(texts.get("processes", "1")))
    for key, value in values.items():
        home = SECTION_OF[key]
        section = root.values.get(home) if home else root
        if section is None or (isinstance(section, Scalar) and plain_value(section.text) is None):
            section = root.values[home] = MappingNode(TOP)
            root.keys.setdefault(home, TOP)
        if isinstance(section, MappingNode):  # else the section itself is a problem
            text = "null" if value is None else str(value)
            section.values[_name(key)] = Scalar(TOP, text, quoted=False)
            section.keys.setdefault(_name(key), TOP)


def with_settings(config: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The `config` of a snapshot with `values` of `read_settings`, and what follows from them."""
    execution = config["execution"]
    values = {**values, **_following(values, execution["mode"], execution["processes"])}
    config = copy.deepcopy(config)
    for key, value in values.items():
        home = SECTION_OF[key]
        section = config[home] if home else config
        if section is not None:  # a budget that is not there: `tasks.settings` refuses it
            section[_name(key)] = value
    return config


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """(key, old value, new value) of the settings in two configs that are not the same."""
    found = []
    for key, home in SECTION_OF.items():
        old, new = (_value(config[home] if home else config, key) for config in (before, after))
        if old != new:
            found.append((key, old, new))
    return found


def _value(section: dict[str, Any] | None, key: str) -> Any:
    return None if section is None else section[_name(key)]
