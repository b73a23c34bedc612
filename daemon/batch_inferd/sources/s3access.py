"""Whose S3: from the config, the submitting shell's AWS variables, or the files of `aws configure`."""

from __future__ import annotations

import configparser
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from batch_infer.protocol.errors import InputError
from batch_infer.protocol.text import Text
from batch_inferd.services.proxies import ProxyError, proxy_for

if TYPE_CHECKING:
    from collections.abc import Mapping

_PAIR = ("access_key_id", "secret_access_key")
_KEYS = (*_PAIR, "session_token")


class S3Access(msgspec.Struct, frozen=True, kw_only=True):
    """Where and as whom; see `access_from`. Secrets are never in its repr.

    Attributes:
        endpoint: the URL of an S3-compatible service, with `{bucket}` in it where the bucket is part of
            the host's name; None is AWS.
        region: None is us-east-1; AWS says so itself when a bucket lies elsewhere.
        anonymous: send no signature (public buckets).
        proxy: the URL of an HTTP proxy, None for a direct connection.
    """

    endpoint: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
    anonymous: bool = False
    proxy: str | None = None

    def __repr__(self) -> str:
        who = "anonymous" if self.anonymous else "with keys" if self.access_key_id else "without keys"
        return f"S3Access({self.endpoint or 'AWS'}, {self.region}, {who})"


def access_from(config_values: Mapping[str, Any], env: Mapping[str, str]) -> S3Access:
    """The access that `input.s3` gives, else the variables, else the profile's files; keys as a whole.

    `config_values` has names of S3Access, its `${VAR}` already replaced. Raises InputError for half a
    pair of keys, and for an endpoint or proxy that is no URL.
    """
    own = {name: value for name, value in config_values.items() if value not in (None, "")}
    anonymous = bool(own.get("anonymous", False))
    profile = _profile(env)
    shell = {name: env.get(f"AWS_{name.upper()}") for name in _KEYS}
    keys: Mapping[str, Any] = {}
    if not anonymous:
        keys = next((place for place in (own, shell, profile) if any(place.get(n) for n in _PAIR)), {})
        if bool(keys.get(_PAIR[0])) != bool(keys.get(_PAIR[1])):
            raise InputError(
                Text("access_key_id and secret_access_key of S3 belong together: one of them is missing"),
                hints=(Text("set both in input.s3, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),),
            )
    endpoint = own.get("endpoint") or env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or None
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise InputError(
            Text("the S3 endpoint {endpoint} is no URL", {"endpoint": endpoint}),
            hints=(Text("write it with https:// (or http://)"),),
        )
    region = (
        own.get("region") or env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or profile.get("region")
    )
    return S3Access(
        endpoint=endpoint.rstrip("/") if endpoint else None,
        region=region or None,
        access_key_id=keys.get("access_key_id") or None,
        secret_access_key=keys.get("secret_access_key") or None,
        session_token=keys.get("session_token") or None,
        anonymous=anonymous,
        proxy=_proxy(endpoint or "https://s3.amazonaws.com", env),
    )


def _profile(env: Mapping[str, str]) -> dict[str, str]:
    """What `aws configure` wrote for the profile; nothing where it cannot be read."""
    name = env.get("AWS_PROFILE") or "default"
    folder = Path(env.get("HOME") or os.path.expanduser("~"), ".aws")
    found: dict[str, str] = {}
    for path, section in (
        (env.get("AWS_CONFIG_FILE") or folder / "config", name if name == "default" else f"profile {name}"),
        (env.get("AWS_SHARED_CREDENTIALS_FILE") or folder / "credentials", name),
    ):
        parser = configparser.RawConfigParser(default_section="", strict=False)
        try:
            parser.read(path, encoding="utf-8")
        except (OSError, configparser.Error, UnicodeDecodeError):
            continue
        if parser.has_section(section):
            found |= {key.removeprefix("aws_"): value for key, value in parser.items(section)}
    return found


def _proxy(url: str, env: Mapping[str, str]) -> str | None:
    """The shell's proxy for an endpoint."""
    settings = {
        name: value
        for name in ("http", "https", "all", "no")
        if (value := env.get(f"{name}_proxy") or env.get(f"{name.upper()}_PROXY"))
    }
    try:
        return proxy_for(url.replace("{bucket}.", ""), settings)
    except ProxyError as error:
        raise InputError(error.text) from error
