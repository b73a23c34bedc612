"""Which backend a task gets, and its service's Batch API with what the config changes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from batch_infer.protocol.text import Text

if TYPE_CHECKING:
    from batch_inferd.backends.batch.api import BatchApi
    from batch_inferd.config.schema import Batch, Config, Limits
    from batch_inferd.services.profile import Profile

# What has no meaning for online calls.
_BATCH_KEYS = ("batch", "limits.max_batches", "limits.enqueued_tokens")


def choose_backend(asked: str, profile: Profile, service: str) -> tuple[str, Text]:
    """The backend ("batch" or "online") for what the config asks for, and why it is this one."""
    named = {"service": service}
    if asked != "auto":
        return asked, Text("the config says so")
    if "batch" in profile.backends and profile.batch is not None:
        return "batch", Text("{service} has a Batch API; backend: online makes calls instead", named)
    if profile.batch_later:
        return "online", Text("{service} has a Batch API, but this version cannot speak it", named)
    if profile.batch is not None:
        return "online", Text(
            "no Batch API is known of {service}; backend: batch uses one that speaks like OpenAI's", named
        )
    return "online", Text("no Batch API is known of {service}", named)


def batch_problems(
    asked: str, profile: Profile, window: str | None, max_requests: int | None
) -> list[tuple[str, Text]]:
    """What a service cannot do of what the config wants, each with its key.

    `asked` is `backend`, `window` and `max_requests` are those of `batch`, None where they do not stand.
    """
    if choose_backend(asked, profile, profile.name)[0] != "batch":
        return []
    named = {"service": profile.name}
    if profile.batch is None:
        why = Text("no Batch API is known of {service}; write online or auto", named)
        if profile.batch_later:
            why = Text(
                "{service} has a Batch API that this version cannot speak; write online or auto", named
            )
        return [("backend", why)]
    problems = []
    wrong = window and _window_problem(window, profile.batch, profile.name)
    if wrong:
        problems.append(("batch.completion_window", wrong))
    least = profile.batch.min_requests
    if max_requests is not None and max_requests < least:
        few = Text(
            "{service} takes no batch of less than {least} requests; write more", named | {"least": least}
        )
        problems.append(("batch.max_requests", few))
    return problems


def _window_problem(window: str, api: BatchApi, service: str) -> Text | None:
    if _same_window(window, api) is not None:
        return None
    params: dict[str, Any] = {"service": service, "found": window, "first": api.windows[0]}
    if len(api.windows) == 1:
        return Text(
            "completion_window {found} is not possible: {service} takes {first} only; write {first}", params
        )
    params["most"] = f"{api.window_max_h}h"
    if window_hours(api.windows[0]) <= window_hours(window) <= api.window_max_h:
        return None
    return Text(
        "completion_window {found} is not possible: {service} takes {first} to {most}; "
        "write a value in this range",
        params,
    )


def window_of(batch: Batch, api: BatchApi) -> str:
    """The completion window that is asked for, as the service writes it where it names this one itself."""
    if batch.completion_window is None:
        return api.windows[0]
    return _same_window(batch.completion_window, api) or batch.completion_window


def window_hours(window: str) -> int:
    """The hours of "24h" or "7d"."""
    return int(window[:-1]) * (24 if window.endswith("d") else 1)


def with_settings(api: BatchApi, batch: Batch, limits: Limits) -> BatchApi:
    """The Batch API as a task uses it: the config's numbers in the place of the service's."""
    asked = {
        "max_in_flight": limits.max_batches,
        "enqueued_tokens": limits.enqueued_tokens,
        "settle_s": batch.settle,
        "cancel_s": batch.cancel_wait,
        "poll_first_s": batch.poll.first,
        "poll_max_s": batch.poll.max,
        "max_requests": batch.max_requests,
        "max_bytes": batch.max_bytes,
        "max_line_bytes": batch.max_line_bytes,
    }
    made = msgspec.structs.replace(api, **{key: value for key, value in asked.items() if value is not None})
    most = max(made.poll_max_s, api.poll_min_s)
    if batch.poll.max is None and batch.poll.first is not None:
        most = max(most, batch.poll.first)  # the one that was asked for moves the other one
    return msgspec.structs.replace(
        made,
        poll_first_s=min(max(made.poll_first_s, api.poll_min_s), most),
        poll_max_s=most,
        max_requests_of={name: min(n, made.max_requests) for name, n in made.max_requests_of.items()},
        max_line_bytes=min(made.max_line_bytes, made.max_bytes),
    )


def settings_notes(config: Config, backend: str) -> list[Text]:
    """What the config says of batches, and has no effect on this task."""
    if backend == "batch":
        return []
    found = [key for key in _BATCH_KEYS if config.source.has(key)]
    return [Text("{key} has no effect: the records go out as online calls", {"key": key}) for key in found]


def settings_warnings(config: Config, api: BatchApi, service: str) -> list[Text]:
    """What the config says of batches, and cannot hold as it stands."""
    batch, warnings = config.batch, []
    least = {"service": service, "least": f"{api.poll_min_s:g}"}
    for key, value in (("poll.first", batch.poll.first), ("poll.max", batch.poll.max)):
        if value is not None and value < api.poll_min_s:
            params = {"key": f"batch.{key}", **least}
            warnings.append(
                Text("{key} is taken as {least} s: {service} may not be asked more often", params)
            )
    window = window_of(batch, api)
    if batch.fallback == "online" and batch.deadline >= window_hours(window) * 3600:
        late = {"deadline": f"{batch.deadline / 3600:g}", "window": window}
        warnings.append(
            Text("batch.deadline, {deadline} hours, is not before the end of the window of {window}", late)
        )
    return warnings


def _same_window(window: str, api: BatchApi) -> str | None:
    """The service's own word for a window of this length."""
    hours = window_hours(window)
    return next((own for own in api.windows if window_hours(own) == hours), None)
