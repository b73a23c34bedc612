"""What a task's folder keeps of its config: everything but the secrets, which are references there."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec

from batch_infer.protocol.errors import ConfigError
from batch_infer.protocol.text import Text
from batch_inferd.backends.batch.api import BatchApi
from batch_inferd.config.expand import is_reference
from batch_inferd.config.schema import Config, Model
from batch_inferd.services.batch_settings import window_hours
from batch_inferd.services.credentials import NO_PASSWORD, Credential, proxy_key
from batch_inferd.services.profile import Profile
from batch_inferd.services.proxies import has_password
from batch_inferd.services.resolve import Resolved

SCHEMA = 1
S3_SECRETS = ("access_key_id", "secret_access_key", "session_token")
LITERAL = {"literal": True}  # the value stood in the config itself: it is in the user's credentials file


def snapshot(resolved: Resolved, account: str) -> dict[str, Any]:
    """A JSON object for the task's folder; `account` is the fingerprint that finds the credential again."""
    config: dict[str, Any] = _plain(resolved.config)
    del config["source"]
    model = config["model"]
    model["password"] = _hidden(model["password"])
    model["headers"] = {name: _hidden(value) for name, value in model["headers"].items()}
    s3 = config["input"]["s3"]
    s3 |= {name: _hidden(s3[name]) for name in S3_SECRETS}
    proxy = resolved.proxy
    return {
        "schema": SCHEMA,
        "account": account,
        "config": config,
        "profile": _plain(resolved.profile),
        "service": resolved.service,
        "base_url": resolved.base_url,
        "query": resolved.query,
        "model": resolved.model,
        "messages_key": resolved.messages_key,
        "backend": resolved.backend,
        "backend_reason": resolved.backend_reason.to_wire(),
        "proxy": {**LITERAL, "key": proxy_key(resolved.credential)}
        if proxy and has_password(proxy)
        else proxy,
        "max_concurrency": resolved.max_concurrency,
        "batch": _plain(resolved.batch),
        "window": resolved.window,
        "notes": [note.to_wire() for note in resolved.notes],
        "warnings": [warning.to_wire() for warning in resolved.warnings],
    }


def completed(stored: dict[str, Any]) -> dict[str, Any]:
    """A snapshot of an earlier version, with the keys that were added since at their defaults.

    Raises KeyError, TypeError for what is no snapshot.
    """
    defaults: dict[str, Any] = _plain(Config(model=Model(domain="", max_tokens=1)))
    del defaults["model"], defaults["source"]
    return stored | {"config": _filled(stored["config"], defaults)}


def _filled(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    filled = defaults | values
    for name, default in defaults.items():
        if isinstance(default, dict) and isinstance(values.get(name), dict):
            filled[name] = _filled(values[name], default)
    return filled


def restore(stored: dict[str, Any], credential: Credential, *, test_base_url: str | None = None) -> Resolved:
    """The `Resolved` that `stored` was taken of, with its secrets back from `credential`.

    `test_base_url` is where the embedded test service listens now, when the task uses it.
    Raises ValueError for what is no snapshot, and ConfigError when the credential lacks the proxy: the
    calls must not go another way.
    """
    try:
        return _restore(stored, credential, test_base_url)
    except (msgspec.ValidationError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the stored config is damaged: {error}") from error


def _restore(stored: dict[str, Any], credential: Credential, test_base_url: str | None) -> Resolved:
    config = dict(stored["config"])
    model = dict(config["model"])
    if model.get("password") == LITERAL:
        model["password"] = credential.password
    model["headers"] = {
        name: credential.headers.get(name, "") if value == LITERAL else value
        for name, value in model.get("headers", {}).items()
    }
    config["model"] = msgspec.convert(model, Model)
    s3 = config["input"].get("s3")
    if s3 is not None:  # its secrets are not among the service's: see `tasks.storage`
        s3 = {name: None if value == LITERAL else value for name, value in s3.items()}
        config["input"] = config["input"] | {"s3": s3}
    profile = msgspec.convert(stored["profile"], Profile)
    proxy, secret_proxy = _proxy(stored["proxy"], credential)
    return Resolved(
        config=msgspec.convert(config, Config),
        profile=profile,
        service=stored["service"],
        base_url=test_base_url if profile.embedded and test_base_url else stored["base_url"],
        query=stored["query"],
        model=stored["model"],
        messages_key=stored["messages_key"],
        backend=stored["backend"],
        backend_reason=Text.from_wire(stored["backend_reason"]),
        credential=msgspec.structs.replace(credential, proxy=secret_proxy, proxies={}),
        proxy=proxy,
        max_concurrency=stored["max_concurrency"],
        batch=msgspec.convert(stored["batch"], BatchApi | None),
        window=stored["window"],
        notes=tuple(Text.from_wire(note) for note in stored["notes"]),
        warnings=tuple(Text.from_wire(warning) for warning in stored["warnings"]),
    )


def _proxy(stored: Any, credential: Credential) -> tuple[str | None, str | None]:
    """The proxy, and once more if it has a password. Older snapshots have no key: they had one proxy."""
    if not isinstance(stored, dict):
        return stored, None
    known: dict[str | None, str | None] = {proxy_key(credential): credential.proxy}
    known.update(credential.proxies)
    found = known.get(stored["key"]) if "key" in stored else credential.proxy
    if found is None:
        raise ConfigError(
            Text(
                "the login for this task's proxy is not on this machine; "
                "resume the task with its config to send it again"
            )
        )
    return found, found


def identity(stored: dict[str, Any], input_path: str, source: dict[str, Any] | None = None) -> str:
    """A digest of what makes a task the same one: 64 hex digits.

    The service, the model and what goes into each body, the input's absolute path, what records are made
    of where it is no plain file (`source`), which lines are
    taken and how they are cut, the backend asked for and the one taken, the completion window of its
    batches. Not the credential, headers, limits, the rest of `batch`, execution, retries, logging or
    durability: those may be mended in an unfinished task.
    """
    config = stored["config"]
    model = config["model"]
    parts = {
        "service": stored["service"],
        "query": stored["query"],
        "model": stored["model"],
        "messages_key": stored["messages_key"],
        "max_tokens": model["max_tokens"],
        "temperature": model["temperature"],
        "enable_thinking": model["enable_thinking"],
        "extra_body": model["extra_body"],
        "test_lines": config["test_lines"],
        "lines_per_chunk": config["lines_per_chunk"],
        "backend": [config["backend"], stored["backend"]],
        "window": stored["window"] and window_hours(stored["window"]),
        "input": input_path,
    }
    if source is not None:
        parts["source"] = source
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """As it is read back (a list for a tuple): an unchanged config is equal to the stored one."""
    return msgspec.json.decode(msgspec.json.encode(value))


def _hidden(value: str | None) -> Any:
    """A reference or `none` as it is; everything else only as a sign that it was there."""
    if value is None or value.lower() == NO_PASSWORD or is_reference(value):
        return value
    return dict(LITERAL)
