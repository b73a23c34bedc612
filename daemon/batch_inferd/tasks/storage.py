"""A task's way to object storage: its keys lie beside the other credentials, by their fingerprint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from batch_infer.protocol.text import Text
from batch_inferd.config.expand import expand, names_in
from batch_inferd.config.problems import Problems
from batch_inferd.config.schema import S3
from batch_inferd.logs.redact import register_secret
from batch_inferd.services.credentials import Credential
from batch_inferd.sources.s3 import S3Access, access_from

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_inferd.config.schema import Config
    from batch_inferd.services.credentials import CredentialStore
    from batch_inferd.sources.spec import SourceSpec
    from batch_inferd.tasks.submitting import Submission

_SCOPE = "s3"  # stands where a service's address stands in the fingerprint of an account


def access_of(config: Config, sent: Submission) -> S3Access:
    """What the config's `input.s3` says, else the submitting shell. Raises ConfigError, InputError."""
    proxies = {f"{name}_proxy": value for name, value in sent.proxy.items()}
    return access_from(_values(config, sent.env), sent.env | proxies)


def needed(config: Config, spec: SourceSpec | None) -> bool:
    """Whether records may refer to object storage."""
    if config.input.s3 != S3() or config.images is not None:
        return True
    return spec is not None and (spec.kind in ("s3", "chat_images") or bool(spec.image_columns))


def save(store: CredentialStore, access: S3Access) -> str:
    """Keep the keys; the fingerprint by which `load` finds them. Blocks. Raises ConfigError."""
    fields: dict[str, Any] = msgspec.structs.asdict(access)
    credential = Credential(headers={name: str(value) for name, value in fields.items() if value})
    fingerprint = store.fingerprint(_SCOPE, credential)
    store.save(fingerprint, credential)
    hide(access)
    return fingerprint


def load(store: CredentialStore, fingerprint: str | None) -> S3Access | None:
    """What was saved; None where nothing was, or where it is not on this machine. Blocks."""
    credential = store.load(fingerprint) if fingerprint else None
    if credential is None:
        return None
    fields: dict[str, Any] = dict(credential.headers)
    access = S3Access(**(fields | {"anonymous": "anonymous" in fields}))
    hide(access)
    return access


def hide(access: S3Access) -> None:
    """Keep its secrets out of the logs."""
    for secret in (access.secret_access_key, access.session_token):
        if secret:
            register_secret(secret)


def _values(config: Config, env: Mapping[str, str]) -> dict[str, Any]:
    problems = Problems(config.source.file)
    values: dict[str, Any] = msgspec.structs.asdict(config.input.s3)
    for key, text in values.items():
        if not isinstance(text, str):
            continue
        missing = [name for name in names_in(text) if not env.get(name)]
        for name in missing:
            problems.add(
                config.source.position(f"input.s3.{key}"),
                Text(
                    "the variable {name} is not set; set it in this shell or in .env: {name}=…",
                    {"name": name},
                ),
            )
        if not missing:
            values[key] = expand(text, env)
    problems.check()
    return values
