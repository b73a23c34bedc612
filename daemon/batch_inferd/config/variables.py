"""Which environment variables a config needs from the submitting shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_inferd.config.expand import expand, names_in
from batch_inferd.services.profiles import find_profile

if TYPE_CHECKING:
    from batch_inferd.config.schema import Config


def variables(config: Config) -> list[str]:
    """The names that the config's strings use, then those of its service, each once.

    A service's own are that of its base URL, and its usual variable when the config has no password.
    Raises ConfigError when the domain names no service.
    """
    model = config.model
    texts = [model.domain, model.name or "", model.password or "", model.messages_key]
    texts += model.headers.values()
    names = [name for text in texts for name in names_in(text)]
    if not names_in(model.domain):
        profile = find_profile(expand(model.domain, {}), config.source)
        names += names_in(profile.base_url)
        if model.password is None and profile.variable:
            names.append(profile.variable)
    return list(dict.fromkeys(names))
