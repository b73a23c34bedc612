"""Which environment variables a config needs from the submitting shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from batch_inferd.config.expand import expand, names_in
from batch_inferd.config.schema import S3
from batch_inferd.services.profiles import find_profile

if TYPE_CHECKING:
    from batch_inferd.config.schema import Config

# The usual variables of object storage, and what leads to its files of keys.
S3_VARIABLES = (
    "HOME",
    "AWS_PROFILE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
)


def variables(config: Config, *, storage: bool = False) -> list[str]:
    """The names that the config's strings use, then those of its service, each once.

    A service's own are that of its base URL, and its usual variable when the config has no password.
    Those of object storage are there when the input may lead to it (`storage`), or the config has one of
    the sections `images` and `input.s3`. Raises ConfigError when the domain names no service.
    """
    model = config.model
    texts = [model.domain, model.name or "", model.password or "", model.messages_key]
    texts += model.headers.values()
    texts += [text for text in msgspec.structs.astuple(config.input.s3) if isinstance(text, str)]
    names = [name for text in texts for name in names_in(text)]
    if not names_in(model.domain):
        profile = find_profile(expand(model.domain, {}), config.source)
        names += names_in(profile.base_url)
        if model.password is None and profile.variable:
            names.append(profile.variable)
    if storage or config.images is not None or config.input.s3 != S3():
        names += S3_VARIABLES
    return list(dict.fromkeys(names))
