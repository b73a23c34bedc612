"""The whole examination, in the order in which things depend on each other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from batch_infer.protocol.errors import BatchInferError, ConfigError
from batch_infer.protocol.text import Text
from batch_inferd.config.load import parse_config
from batch_inferd.config.permissions import permission_warnings
from batch_inferd.doctor.check import Check
from batch_inferd.doctor.environment import environment
from batch_inferd.doctor.facts import facts
from batch_inferd.doctor.network import network
from batch_inferd.doctor.service import service
from batch_inferd.logs.redact import register_secret
from batch_inferd.services.credentials import PLACEHOLDER
from batch_inferd.services.resolve import Resolved, resolve, wants_test_service
from batch_inferd.testing.adopt import TestServiceUnavailable, ensure_running

if TYPE_CHECKING:
    from batch_infer.protocol.workspace import Workspace
    from batch_inferd.seams.clock import Clock
    from batch_inferd.tasks.submitting import Submission


async def examine(workspace: Workspace, clock: Clock, sent: Submission | None) -> list[Check]:
    """All checks; of a config and its service only when one was sent. What cannot go on ends the list."""
    checks = await asyncio.to_thread(environment, workspace)
    if sent is None:
        return checks
    resolved, found = await config(workspace, clock, sent)
    checks += found
    if resolved is None:
        return checks
    credential = resolved.credential
    for secret in (credential.password, credential.proxy, *credential.headers.values()):
        if secret and secret != PLACEHOLDER:
            register_secret(secret)
    checks += facts(resolved)
    way = await network(resolved)
    checks += way
    if all(check.ok for check in way):
        checks += await service(resolved, clock)
    return checks


async def config(workspace: Workspace, clock: Clock, sent: Submission) -> tuple[Resolved | None, list[Check]]:
    """`config`, a check a problem; and what it resolves to, unless it does not. Starts the test service."""
    try:
        parsed = await asyncio.to_thread(parse_config, sent.config, sent.config_path)
        url = None
        if wants_test_service(parsed, sent.env):
            url = await ensure_running(workspace.test_service, clock)
        resolved = resolve(parsed, sent.env, sent.proxy, test_base_url=url)
    except TestServiceUnavailable as error:
        return None, [Check("test_service", False, error.text, _first(error))]
    except ConfigError as error:
        problems = error.problems or (error.text,)
        return None, [Check("config", False, problem, _first(error)) for problem in problems]
    params = {"service": resolved.service, "model": resolved.model}
    checks = [Check("config", True, Text("it is complete: service {service}, model {model}", params))]
    warnings = [*permission_warnings(parsed, sent.config_path, None), *resolved.warnings]
    checks += [Check("config", None, warning) for warning in warnings]
    return resolved, checks + [Check("config", True, note) for note in resolved.notes]


def _first(error: BatchInferError) -> Text | None:
    return error.hints[0] if error.hints else None
