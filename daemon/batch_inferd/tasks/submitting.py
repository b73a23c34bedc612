"""From a submit's parameters to a durable task."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from batch_infer.protocol.text import Text
from batch_inferd.config import answer_schema
from batch_inferd.config.load import parse_config
from batch_inferd.config.permissions import permission_warnings
from batch_inferd.config.snapshot import identity, snapshot
from batch_inferd.intake.choose import from_config
from batch_inferd.intake.source import Pin, count_records, input_warning
from batch_inferd.lifecycle.filesystem import network_warning
from batch_inferd.logs.folder import log_folder
from batch_inferd.money.prices import FACT as PRICE
from batch_inferd.seams.failpoint import failpoint
from batch_inferd.services.resolve import Resolved, resolve, wants_test_service
from batch_inferd.tasks import entering, folder, opening, states, storage
from batch_inferd.tasks.entering import Entry
from batch_inferd.tasks.owner import owner_of
from batch_inferd.tasks.priced import priced
from batch_inferd.tasks.spooling import empty_pin
from batch_inferd.testing.adopt import ensure_running

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_inferd.tasks.context import Context
    from batch_inferd.tasks.registry import Registry
    from batch_inferd.tasks.task import Task

_PEEK = 64 * 1024 * 1024  # bytes read at submit to say how many records test_lines leaves out


class Submission(NamedTuple):
    """What a client sends: the config's bytes and path, its shell's variables and proxies, the input.

    `settings` and `overrides` of the command line win over the config. `stdin`: the input came through a
    pipe and lies in a file, which becomes the task's; this is the digest of its content.
    """

    config: bytes
    config_path: str
    env: dict[str, str]
    proxy: dict[str, str]
    input: str = ""
    settings: Mapping[str, str] = MappingProxyType({})
    overrides: Mapping[str, str | list[str]] = MappingProxyType({})
    stdin: str | None = None


class Prepared(NamedTuple):
    """What a submit or a resume with a config comes to, before anything is stored."""

    resolved: Resolved
    account: str
    config: dict[str, Any]  # the snapshot, without secrets
    identity: str
    pin: Pin
    warnings: tuple[Text, ...]
    notes: tuple[Text, ...]
    entry: Entry = Entry()
    s3: str | None = None  # the fingerprint of the keys of object storage
    price: dict[str, Any] | None = None  # what was looked up for its budget


async def prepare(context: Context, sent: Submission, *, task: Task | None = None) -> Prepared:
    """Read and resolve everything that a submit carries; the input of a `task` is not looked at again.

    Raises ConfigError, InputError.
    """
    if task is not None:
        sent = sent._replace(overrides=dict(task.facts.get("overrides") or {}) | dict(sent.overrides))
    config = await asyncio.to_thread(
        parse_config, sent.config, sent.config_path, sent.settings, sent.overrides
    )
    if config.logging.dir is not None:
        base = os.path.dirname(sent.config_path)
        found = await asyncio.to_thread(log_folder, config.logging.dir, base)
        config = msgspec.structs.replace(config, logging=msgspec.structs.replace(config.logging, dir=found))
    schema = None
    if config.output.schema is not None:
        path = from_config(config.output.schema, os.path.dirname(sent.config_path)) or ""
        schema = await asyncio.to_thread(answer_schema.read_schema, path)
    warnings: list[Text] = []
    network = await asyncio.to_thread(network_warning, context.workspace.root)
    if network is not None:
        warnings.append(network)
    service = None
    if wants_test_service(config, sent.env):
        service = await ensure_running(context.workspace.test_service, context.clock)
    resolved = resolve(config, sent.env, sent.proxy, test_base_url=service)
    if task is None:
        entry = await asyncio.to_thread(entering.enter, sent.input, sent.stdin, resolved, sent)
    else:
        entry = await asyncio.to_thread(entering.again, task, resolved, sent)
    pinned = entry.pin or (task.pin if task is not None else Pin(sent.input, 0, 0, 0, 0))
    warnings += entry.warnings
    if task is None and entry.pin is not None:
        warnings += await asyncio.to_thread(_input_warnings, context, entry.pin, config.test_lines)
    s3 = None
    if entry.s3 is not None:
        s3 = await asyncio.to_thread(storage.save, context.credentials, entry.s3)
    resolved = replace(resolved, s3=entry.s3, from_source=entry.spooled)
    account = await asyncio.to_thread(opening.save_credential, context, resolved)
    stored = snapshot(resolved, account)
    if schema is not None:  # its content: what is done to the file later is no matter
        stored[answer_schema.FACT] = schema
    price = await priced(context, resolved, stored, task)
    warnings += permission_warnings(config, sent.config_path, None)  # the client looks after its .env
    return Prepared(
        resolved,
        account,
        stored,
        identity(stored, *entry.identity()),
        pinned,
        (*warnings, *resolved.warnings),
        (*resolved.notes, *entry.notes),
        entry,
        s3,
        price,
    )


async def create(registry: Registry, task_id: str, nonce: str, prepared: Prepared) -> Task:
    """Make the task; durable when this returns. Raises TaskExists, OSError, sqlite3.Error."""
    context = registry.context
    task_uuid = str(uuid.uuid4())
    now = context.clock.now()
    day = time.strftime("%y%m%d", time.localtime(now))
    facts = {
        "uuid": task_uuid,
        "owner": owner_of(context.workspace, task_id),
        "nonce": nonce,
        "created": now,
        "started": now,
        "ended": None,
        "state": states.PREPARING,
        "reason": None,
        "round": 0,
        "generation": 0,
        "pin": prepared.pin.to_json(),
        "s3": prepared.s3,
        **prepared.entry.facts(),
        "position": None,
        "plan_version": 1,
        "identity_of_task": prepared.identity,
        "identity": None,
        "batch_id": f"batch_{day}{task_uuid.replace('-', '')[:16]}",
    }
    if prepared.price is not None:
        facts[PRICE] = prepared.price
    spool = empty_pin(context.workspace.chunks / task_id)
    if prepared.entry.spooled:
        facts["pin"] = spool.to_json()
    elif prepared.entry.piped is not None:
        facts["pin"] = prepared.pin._replace(path=spool.path).to_json()
    facts["acceptance"] = acceptance(context, task_id, task_uuid, prepared)
    registry.creating.add(task_id)
    try:
        taken = [prepared.entry.piped] if prepared.entry.piped is not None else []
        await folder.create(
            context.store, context.workspace, task_id, task_uuid, prepared.config, facts, taken
        )
        task = await opening.load(context, task_id)
        registry.tasks[task_id] = task
    finally:
        registry.creating.discard(task_id)
    context.dispatcher.account(prepared.account).unblock()
    opening.set_plan(task, prepared.resolved)
    await opening.log_start(task, prepared.warnings, prepared.notes, prepared.entry.about)
    task.start()
    task.changed()
    return task


async def mend(task: Task, prepared: Prepared) -> None:
    """Take over credentials, limits, execution and logging of a newer config of the same task."""
    if prepared.s3 != task.facts.get("s3"):
        await task.db.set_facts(s3=prepared.s3)
        task.facts["s3"] = prepared.s3
    elif prepared.config == task.config and prepared.account == task.account and task.plan is not None:
        return  # nothing is new: its chunks may stay where they are
    version = int(task.facts.get("plan_version", 1)) + 1
    task.facts["plan_version"] = version  # before anything is awaited: no other plan may have this number
    await asyncio.to_thread(folder.write_config, task.directory, prepared.config)
    failpoint("mend.config_written")
    news = {"plan_version": version} | ({} if prepared.price is None else {PRICE: prepared.price})
    await task.db.set_facts(**news)
    task.facts |= news
    if task.config.get(answer_schema.FACT) != prepared.config.get(answer_schema.FACT):
        task.log(20, "the schema of the answers was changed")
    task.config = prepared.config
    await task.budget.mended()  # before anything is sent without a budget
    opening.set_plan(task, prepared.resolved)
    opening.open_log(task)
    task.log(20, "the config was mended")
    if task.running:
        task.context.dispatcher.end_task(task, "drain")  # its chunks come back and go out under the new plan
        if task.batch is not None:
            await task.batch.replan()
        task.start()


def acceptance(context: Context, task_id: str, task_uuid: str, prepared: Prepared) -> dict[str, Any]:
    """The answer to a submit; stored with the task, so that a repeated submit gets the very same."""
    resolved = prepared.resolved
    return {
        "task_id": task_id,
        "uuid": task_uuid,
        "state": states.PREPARING,
        "went_on": False,
        "backend": resolved.backend,
        "backend_reason": resolved.backend_reason.to_wire(),
        "service": resolved.base_url,
        "model": resolved.model,
        "warnings": [text.to_wire() for text in prepared.warnings],
        "notes": [text.to_wire() for text in prepared.notes],
        "outputs": str(context.workspace.merged / task_id),
    }


def _input_warnings(context: Context, pinned: Pin, test_lines: int) -> list[Text]:
    warnings: list[Text] = []
    odd = input_warning(pinned.path)
    if odd is not None:
        warnings.append(odd)
    if test_lines:
        count, exact = count_records(pinned.path, 0, pinned.size, lambda: False, _PEEK)
        left = count - test_lines
        if left > 0:
            warnings.append(
                Text(
                    "test_lines is {n}: only the first {n} records are processed, {left} more are left out; "
                    "set test_lines: 0 for the whole input",
                    {"n": test_lines, "left": left if exact else Text("at least {n}", {"n": left})},
                )
            )
    free = folder.free_bytes(context.workspace.root)
    if not test_lines and free < 3 * pinned.size:
        warnings.append(
            Text(
                "the disk has {free} MB left; "
                "this task may need about {needed} MB (chunks, journals, outputs)",
                {"free": free // 1_000_000, "needed": 3 * pinned.size // 1_000_000},
            )
        )
    return warnings
