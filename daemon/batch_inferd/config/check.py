"""What keys must fulfil together, and with the service that the config names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import ConfigError
from batch_infer.protocol.text import Text
from batch_inferd.config.expand import expand, names_in
from batch_inferd.config.kinds import absent
from batch_inferd.services.batch_settings import batch_problems
from batch_inferd.services.credentials import NO_PASSWORD, PLACEHOLDER, header_safe
from batch_inferd.services.profiles import Profile, find_profile

if TYPE_CHECKING:
    from batch_inferd.config import nodes
    from batch_inferd.config.problems import Problems, Source

STILL_PLACEHOLDER = Text(
    'password is still the placeholder "YOUR_PASSWORD"; write the real one, or ${{NAME}}'
)


def not_ascii(key: str) -> Text:
    """A value that goes into an HTTP header, and cannot; it is not repeated."""
    return Text(
        "{key} has characters that an HTTP header cannot carry; only ASCII can stand in it", {"key": key}
    )


def unnamed(profile: Profile) -> Text:
    """No model's name in the config, and none that the service falls back on."""
    params = {"service": profile.name}
    return Text("name is missing, and {service} has no default model; add the model's name", params)


def check(values: dict[str, Any], node: nodes.Mapping, source: Source, problems: Problems) -> set[str]:
    """Add what is wrong to `problems`; returns the required keys of `model` that are missing.

    `values` may lack keys that were wrong by themselves; `node` has every key that stands in `model`.
    """
    model: dict[str, Any] = values.get("model", {})
    missing = {key for key in ("domain", "max_tokens") if key not in node.values}
    profile = _profile(model, source, problems)
    if "password" not in node.values and _needs_password(model, profile):
        missing.add("password")
    password = model.get("password")
    if password is not None:
        _check_password(password, profile, source, problems)
    unset = "name" not in node.values or absent(node.values["name"])
    if profile and not profile.model and unset:
        problems.add(source.position("model"), unnamed(profile))
    for name, value in model.get("headers", {}).items():
        if not header_safe(value):
            key = f"model.headers.{name}"
            problems.add(source.position(key), not_ascii(f"headers.{name}"))
    _check_batch(values, profile, source, problems)
    execution: dict[str, Any] = values.get("execution", {})
    if execution.get("mode", "asyncio") == "asyncio" and execution.get("processes", 1) > 1:
        single = Text("processes must be 1 in mode asyncio; write mode: multiprocessing for more")
        problems.add(source.position("execution.processes"), single)
    return missing


def _profile(model: dict[str, Any], source: Source, problems: Problems) -> Profile | None:
    """The service's profile; None when the domain is wrong, missing, or known only with its variables."""
    domain = model.get("domain")
    if domain is None or names_in(domain):
        return None
    try:
        return find_profile(expand(domain, {}), source)
    except ConfigError as error:
        problems.adopt(source.position("model.domain"), error)
        return None


def _check_batch(values: dict[str, Any], profile: Profile | None, source: Source, problems: Problems) -> None:
    batch: dict[str, Any] = values.get("batch", {})
    line, file = batch.get("max_line_bytes"), batch.get("max_bytes")
    if line is not None and file is not None and line > file:
        above = Text("max_line_bytes must not be above max_bytes; write a smaller one")
        problems.add(source.position("batch.max_line_bytes"), above)
    poll: dict[str, Any] = batch.get("poll", {})
    if "first" in poll and "max" in poll and poll["first"] > poll["max"]:
        above = Text("poll.first must not be above poll.max; write a smaller one")
        problems.add(source.position("batch.poll.first"), above)
    if profile is None:
        return  # `resolve` sees to the rest
    asked = values.get("backend", "auto")
    wanted = (batch.get("completion_window"), batch.get("max_requests"))
    for key, problem in batch_problems(asked, profile, *wanted):
        problems.add(source.position(key), problem)


def _needs_password(model: dict[str, Any], profile: Profile | None) -> bool:
    if profile is None:  # with a domain that only its variables tell, `resolve` decides
        return "domain" not in model
    return not (profile.variable or profile.keyless)


def _check_password(password: str, profile: Profile | None, source: Source, problems: Problems) -> None:
    position = source.position("model.password")
    if password == PLACEHOLDER and profile and not profile.embedded:
        problems.add(position, STILL_PLACEHOLDER)
    elif password.lower() != NO_PASSWORD and not header_safe(password):
        problems.add(position, not_ascii("password"))
