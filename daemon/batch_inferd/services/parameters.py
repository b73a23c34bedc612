"""How a config's parameters become body fields: renamed, moved or left out as the profile says.

Chat bodies get model, temperature, max_tokens and enable_thinking, then `extra_body` over them.
Responses get model, temperature and max_output_tokens, then `extra_body`. Embeddings get the model
alone: what the config says of generating means nothing to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from batch_infer.protocol.text import Text

if TYPE_CHECKING:
    from batch_inferd.config.schema import Model
    from batch_inferd.services.profile import Profile

# Answers are read whole: a streamed one could not be recorded.
ALWAYS_OMITTED = ("stream", "stream_options")

# How a profile takes enable_thinking -> where it goes.
_THINKING_FIELD = {
    "template": "chat_template_kwargs.enable_thinking",
    "type": "thinking.type",
    "reasoning": "reasoning.enabled",
    "effort": "reasoning_effort",
}


class Mapped(NamedTuple):
    """Default body fields by endpoint, and what was changed on the way."""

    defaults: dict[str, dict[str, Any]]
    notes: tuple[Text, ...]


def map_parameters(model: Model, name: str, profile: Profile, service: str) -> Mapped:
    """The body fields of a config for each endpoint of a profile.

    `name` is the model's name, resolved; `service` is what notes call the service.
    """
    notes: list[Text] = []
    common: dict[str, Any] = {"model": name}
    if model.temperature is not None:
        common["temperature"] = model.temperature
    limit = profile.rename.get("max_tokens", "max_tokens")
    if limit != "max_tokens":
        params = {"key": "max_tokens", "field": limit}
        notes.append(Text("{key} is sent as {field}", params))
    extra = _extra(model.extra_body, profile, service, notes)
    chat = common | {limit: model.max_tokens} | _thinking(model, profile, service, extra, notes) | extra
    bodies = {
        "chat": chat,
        "embeddings": {"model": name},
        "responses": common | {"max_output_tokens": model.max_tokens} | extra,
    }
    return Mapped({endpoint: bodies[endpoint] for endpoint in profile.paths}, tuple(notes))


def _thinking(
    model: Model, profile: Profile, service: str, extra: dict[str, Any], notes: list[Text]
) -> dict[str, Any]:
    on = model.enable_thinking
    if on is None:
        return {}
    if profile.thinking == "omit":
        params = {"key": "enable_thinking", "service": service}
        notes.append(Text("{key} is left out: {service} does not take it", params))
        return {}
    if profile.thinking == "field":
        return {"enable_thinking": on}
    field = _THINKING_FIELD[profile.thinking]
    notes.append(Text("{key} is sent as {field}", {"key": "enable_thinking", "field": field}))
    if profile.thinking == "template":
        # Two keys of one mapping from two places of the config: merged, so that neither gets lost.
        own = extra.pop("chat_template_kwargs", {})
        return {"chat_template_kwargs": {"enable_thinking": on} | (own if isinstance(own, dict) else {})}
    if profile.thinking == "type":
        return {"thinking": {"type": "enabled" if on else "disabled"}}
    if profile.thinking == "reasoning":
        return {"reasoning": {"enabled": on}}
    return {"reasoning_effort": "medium" if on else "none"}


def _extra(body: dict[str, Any], profile: Profile, service: str, notes: list[Text]) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    for key, value in body.items():
        params = {"key": f"extra_body.{key}", "service": service}
        if key in ALWAYS_OMITTED:
            continue
        if key in profile.omit:
            notes.append(Text("{key} is left out: {service} does not take it", params))
        elif value == [] and key in profile.omit_empty:
            notes.append(Text("{key} is left out: {service} does not take an empty list", params))
        else:
            field = profile.rename.get(key, key)
            if field != key:
                notes.append(Text("{key} is sent as {field}", {**params, "field": field}))
            extra[field] = value
    return extra
