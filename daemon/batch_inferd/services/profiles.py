"""From `model.domain` to a profile: a built-in name, a base URL, or a name of `services.yaml`."""

from __future__ import annotations

import difflib

import msgspec

from batch_infer.protocol.text import Text
from batch_inferd.config.problems import Source, problem_at, shown
from batch_inferd.services.builtin import GENERIC, PROFILES
from batch_inferd.services.catalogue import load_services, services_path
from batch_inferd.services.profile import Profile
from batch_inferd.services.urls import UrlError, parse_url

__all__ = ["Profile", "find_profile"]


def find_profile(domain: str, source: Source = Source()) -> Profile:  # noqa: B008  it is frozen
    """The profile of a service; `domain` has no variables left in it.

    Raises ConfigError with the place of `model.domain` in `source`: no such service (with a
    suggestion), a URL that is none, a service that this version cannot call, or errors in services.yaml.
    """
    name = domain.lower()
    profile = PROFILES.get(name)
    if profile is None and "://" in domain:
        profile = _by_url(domain, source)
    if profile is None:
        profile = _by_name(domain, source)
    if not profile.backends:
        params = {"service": profile.name}
        later = Text(
            "the service {service} is known, but this version cannot call it; choose another one", params
        )
        raise problem_at(source, "model.domain", later)
    return profile


def _by_url(domain: str, source: Source) -> Profile:
    try:
        url = parse_url(domain)
    except UrlError as error:
        raise problem_at(source, "model.domain", error.text) from error
    known = next((profile for profile in PROFILES.values() if _has_host(profile, url.host)), GENERIC)
    return msgspec.structs.replace(known, base_url=domain)


def _by_name(domain: str, source: Source) -> Profile:
    services = load_services(services_path())
    if domain in services:
        return services[domain]
    names = [*PROFILES, *services]
    near = difflib.get_close_matches(domain.lower(), names, n=1, cutoff=0.6)
    params = {"domain": shown(domain.rpartition("@")[2]), "names": ", ".join(names)}
    if near:
        text = Text('there is no service "{domain}"; did you mean "{near}"?', {**params, "near": near[0]})
    elif any(character in domain for character in "./:"):
        text = Text('there is no service "{domain}"; write an address with http:// or https://', params)
    else:
        text = Text('there is no service "{domain}"; known are {names}, or write a base URL', params)
    raise problem_at(source, "model.domain", text)


def _has_host(profile: Profile, host: str) -> bool:
    return any(host == own or (own.startswith(".") and host.endswith(own)) for own in profile.hosts)
