"""What keys must fulfil together, and with the service that the config names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import ConfigError
from batch_infer.protocol.text import Text
from batch_inferd.config.expand import expand, names_in
from batch_inferd.config.kinds import absent
from batch_inferd.exports.extra import missing_pyarrow
from batch_inferd.images import pixels
from batch_inferd.services.batch_settings import batch_problems
from batch_inferd.services.credentials import NO_PASSWORD, PLACEHOLDER, header_safe
from batch_inferd.services.profiles import Profile, find_profile

if TYPE_CHECKING:
    from batch_inferd.config import nodes
    from batch_inferd.config.problems import Problems, Source

_CURRENCY = re.compile("[A-Z]{3}")
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
    _check_prices(values.get("prices", {}), source, problems)
    _check_input(values.get("input", {}), source, problems)
    _check_images(values.get("images", {}), source, problems)
    missing_extra = missing_pyarrow() if "parquet" in values.get("output", {}).get("formats", ()) else None
    if missing_extra is not None:
        problems.add(source.position("output.formats"), missing_extra)
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


def _check_input(given: dict[str, Any], source: Source, problems: Problems) -> None:
    if "end_row" in given and given["end_row"] <= given.get("start_row", 0):
        params = {"start": given.get("start_row", 0), "end": given["end_row"]}
        none = Text("no row lies between start_row {start} and end_row {end}, which is not included", params)
        problems.add(source.position("input.end_row"), none)
    if given.get("topics") and "topics_file" in given:
        both = Text("topics and topics_file do not go together; remove one")
        problems.add(source.position("input.topics_file"), both)


def _check_prices(prices: dict[str, Any], source: Source, problems: Problems) -> None:
    both = "input" in prices and "output" in prices
    for key in ("input", "output", "cached_input", "currency"):
        if key in prices and not both:
            pair = Text("prices.input and prices.output stand together; add both")
            problems.add(source.position(f"prices.{key}"), pair)
            break
    currency = prices.get("currency")
    if currency is not None and not _CURRENCY.fullmatch(currency):
        code = Text("currency must be a code of three capital letters, such as USD or CNY")
        problems.add(source.position("prices.currency"), code)


def _check_images(given: dict[str, Any], source: Source, problems: Problems) -> None:
    if given.get("formats") == []:
        none = Text("formats must not be empty; write those that the service takes, such as [jpeg, png]")
        problems.add(source.position("images.formats"), none)
    if "max_side" in given and not pixels.available():
        needed = Text("max_side needs Pillow, which is not installed; pip install 'batch_infer[images]'")
        problems.add(source.position("images.max_side"), needed)


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
