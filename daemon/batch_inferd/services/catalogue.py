"""`services.yaml`: the user's own services, in the platform's config directory."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import platformdirs
from msgspec import UNSET

from batch_infer.protocol.regular import open_regular
from batch_infer.protocol.text import Text
from batch_inferd.config import nodes
from batch_inferd.config.encoding import to_text
from batch_inferd.config.kinds import Choice, Kind, Number, String, absent, wrong
from batch_inferd.config.problems import TOP, Problems, shown
from batch_inferd.config.scalars import found
from batch_inferd.config.sections import Section
from batch_inferd.services.builtin import GENERIC, PROFILES
from batch_inferd.services.profile import AUTHS, THINKINGS, Profile
from batch_inferd.services.urls import UrlError, parse_url

if TYPE_CHECKING:
    from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LIKE = tuple(name for name, profile in PROFILES.items() if profile.backends and not profile.embedded)


@dataclass(frozen=True)
class Words:
    """A list of strings."""

    def read(self, node: nodes.Node, key: str, problems: Problems) -> Any:
        """A list of str."""
        if absent(node):
            return UNSET
        if not isinstance(node, nodes.Sequence):
            problem = wrong(key, Text("a list"), found(node), Text("write it like [one, two]"))
            problems.add(node.position, problem)
            return UNSET
        words = [String().read(item, key, problems) for item in node.items]
        return [word for word in words if word is not UNSET]


@dataclass(frozen=True)
class Names:
    """A mapping from strings to strings."""

    def read(self, node: nodes.Node, key: str, problems: Problems) -> Any:
        """A dict of str."""
        if absent(node):
            return UNSET
        if not isinstance(node, nodes.Mapping):
            fix = Text("write it like {example}", {"example": "{max_tokens: max_completion_tokens}"})
            problems.add(node.position, wrong(key, Text("a mapping"), found(node), fix))
            return UNSET
        names = {name: String().read(value, key, problems) for name, value in node.values.items()}
        return {name: value for name, value in names.items() if value is not UNSET}


_KINDS: dict[str, Kind] = {
    "base_url": String(references=True),
    "like": Choice(_LIKE),
    "auth": Choice(AUTHS),
    "variable": String(),
    "model": String(),
    "thinking": Choice(THINKINGS),
    "rename": Names(),
    "omit": Words(),
    "credit_codes": Words(),
    "model_codes": Words(),
    "max_concurrency": Number(1, 65_536, "64", whole=True),
}
ENTRY = Section(_KINDS)


def services_path() -> Path:
    """Where `services.yaml` is looked for."""
    return platformdirs.user_config_path("batch_infer") / "services.yaml"


def load_services(path: Path) -> dict[str, Profile]:
    """The user's services by name; none when there is no file.

    Raises ConfigError with all problems of the file, or when it cannot be read.
    """
    problems = Problems(str(path))
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return {}
    except OSError as error:
        params = {"path": str(path), "error": error.strerror or type(error).__name__}
        problems.add(TOP, Text("{path} cannot be read: {error}; check its permissions", params))
        raise problems.error() from error
    root = nodes.parse(to_text(data, problems), problems) or nodes.Mapping(TOP)
    if not isinstance(root, nodes.Mapping):
        problems.add(
            root.position, Text('services.yaml must be a mapping of names; begin with "my-service:"')
        )
        raise problems.error()
    services = {}
    for name, node in root.values.items():
        profile = _read(name, root.keys[name], node, problems)
        if profile:
            services[name] = profile
    problems.check()
    return services


def _read(name: str, position: tuple[int, int], node: nodes.Node, problems: Problems) -> Profile | None:
    params = {"name": shown(name)}
    if not _NAME.fullmatch(name):
        problems.add(
            position, Text('"{name}" cannot be a service\'s name; use letters, digits, . _ -', params)
        )
    elif name.lower() in PROFILES:
        problems.add(position, Text('"{name}" is the name of a built-in service; choose another one', params))
    values = ENTRY.read(node, shown(name), problems)
    if values is UNSET or "base_url" not in values:
        if not isinstance(node, nodes.Mapping) or "base_url" not in node.values:
            problems.add(position, Text('the service "{name}" has no base_url; add one', params))
        return None
    if "${" not in values["base_url"]:
        try:
            parse_url(values["base_url"])
        except UrlError as error:
            assert isinstance(node, nodes.Mapping)  # noqa: S101  it had a base_url
            problems.add(node.values["base_url"].position, error.text)
    like = PROFILES[values.pop("like")] if "like" in values else GENERIC
    values["keyless"] = like.keyless or values.get("auth") == "none"
    known = msgspec.to_builtins(like) | {"hosts": [], "variable": None, "default_path": ""}
    known["prices"] = None  # those of a gateway are its own
    # Nobody vouches for the Batch API of a gateway: it is used where the config says `backend: batch`.
    known["backends"] = ["online"]
    if like.batch is None and not like.batch_later:
        known["batch"] = msgspec.to_builtins(GENERIC.batch)
    return msgspec.convert(known | values | {"name": name}, Profile)
