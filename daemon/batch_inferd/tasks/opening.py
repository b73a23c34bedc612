"""Opening a stored task, and giving it what it needs to run: its credential and its request plan."""

from __future__ import annotations

import asyncio
import logging
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import asdict

from batch_infer.protocol.errors import BatchInferError
from batch_infer.protocol.text import Text
from batch_inferd.config.snapshot import completed, restore
from batch_inferd.intake.analysis import analyse
from batch_inferd.journal.reader import read_chunk
from batch_inferd.logs.redact import register_secret
from batch_inferd.seams.failpoint import failpoint
from batch_inferd.seams.files import Directory
from batch_inferd.services.credentials import PLACEHOLDER, Credential
from batch_inferd.services.masking import mask
from batch_inferd.services.resolve import Resolved, build_plan
from batch_inferd.store.taskdb import TaskDB
from batch_inferd.tasks import finish, folder, retrying, states, storage
from batch_inferd.tasks.owner import owner_of
from batch_inferd.tasks.states import Reason
from batch_inferd.tasks.task import Task
from batch_inferd.testing.adopt import TestServiceUnavailable, ensure_running

if TYPE_CHECKING:
    from batch_inferd.tasks.context import Context

_log = logging.getLogger(__name__)


async def load(context: Context, name: str) -> Task:
    """Open chunks/<name>. Raises Damaged, OSError, sqlite3.Error, ValueError."""
    directory = Directory(context.workspace.chunks / name)
    db = None
    try:
        db = await TaskDB.open(context.store, directory.path)
        facts = await db.facts()
        config = await asyncio.to_thread(folder.read_config, directory)
        restore(config, Credential())  # a snapshot of another shape is refused here, with its task
        task = Task(context, name, directory, db, facts, completed(config))
        await retrying.finish_carrying(task)
        if facts["state"] not in states.ENDED:
            await _end_leases(context, directory, db, int(facts.get("round", 0)))
        task.progress.load(await db.totals())
        await task.supply.reset()
        if task.batch is not None:
            await task.batch.count()
        await task.budget.load()
        open_log(task)
    except BaseException:
        if db is not None:
            await db.close()
        directory.close()
        raise
    return task


async def _end_leases(context: Context, directory: Directory, db: TaskDB, round_number: int) -> None:
    """No worker lives: what was leased is ready again, with the counts that its journals show."""
    counts: dict[int, dict[str, int]] = {}
    for chunk in await db.leased_chunks():
        state = await asyncio.to_thread(read_chunk, directory, chunk, round_number)
        counts[chunk] = state.counts()
    await db.end_all_leases(context.clock.now(), counts)


def open_log(task: Task) -> None:
    """Log the task to its own file, where, how, and for the days that its config says."""
    logging_config = task.config["config"]["logging"]
    level = logging.getLevelNamesMapping()[str(logging_config["level"]).upper()]
    keep_days = float(logging_config["keep_days"])
    task.context.logs.open(
        task.id,
        float(task.facts["created"]),
        level=level,
        keep_days=keep_days,
        directory=Path(logging_config["dir"]) if logging_config["dir"] else None,
        as_json=logging_config["format"] == "json",
    )
    task.log_path = task.context.logs.path(task.id)


def at_home(task: Task) -> bool:
    """Whether the task belongs to this machine, workspace and name."""
    return bool(task.facts["owner"] == owner_of(task.context.workspace, task.id))


async def rest_as_moved(task: Task) -> None:
    """A copied or moved folder does not run by itself."""
    owner = task.facts["owner"]
    text = Text(
        "this folder was copied or moved here (it belongs to {name} in {workspace}); "
        "batch_infer -resume {id} takes it over",
        {"name": owner.get("name"), "workspace": owner.get("workspace"), "id": task.id},
    )
    await task.set_state(states.PAUSED, Reason("moved", text))


async def recovered(task: Task) -> None:
    """A task that was found in chunks/ goes on by itself, or rests with the reason."""
    if task.state in states.ENDED:
        if task.facts.get("late") and at_home(task) and await ensure_plan(task):
            task.look_late()
        return
    if not at_home(task):
        await rest_as_moved(task)
        return
    if task.rests_for("credit"):
        task.context.dispatcher.account(task.account).probe_soon(task.context.clock.monotonic())
    if task.state == states.PAUSED:
        return
    task.log(logging.INFO, "the daemon goes on with this task")
    if await finish.redo_publication(task):
        return
    if await ensure_plan(task) or task.cancelling:
        task.start()


async def go_on(task: Task, *, by_person: bool = False) -> None:
    """Let a task that rests go on, if it is at home here and has what it needs."""
    if task.going_on or task.state in states.ENDED:
        return
    task.going_on = True
    try:
        if by_person:
            await adopt(task)
            task.context.dispatcher.account(task.account).unblock()
        elif not at_home(task):
            return
        if await ensure_plan(task):
            await task.resume(by_person=by_person)
    finally:
        task.going_on = False


async def adopt(task: Task) -> None:
    """A person's word makes a moved or copied task one of this workspace, with a UUID of its own."""
    if not at_home(task):
        task.context.dispatcher.remove(task)
        task.uuid = str(uuid.uuid4())  # the original may run beside its copy
        changes = {"owner": owner_of(task.context.workspace, task.id), "uuid": task.uuid}
        await task.db.set_facts(**changes)
        failpoint("adopt.committed")
        task.facts |= changes


async def ensure_plan(task: Task) -> bool:
    """Give the task its request plan; where that fails, pause it with the reason and return False."""
    task.plan_problem = None
    try:
        credential = await asyncio.to_thread(task.context.credentials.load, task.account)
        if credential is None:
            text = Text(
                "the credential of this task is not on this machine; "
                "batch_infer -resume {id} -config F sends it again",
                {"id": task.id},
            )
            await _hold(task, Reason("credential", text))
            return False
        service = None
        if task.uses_test_service:
            service = await ensure_running(task.context.workspace.test_service, task.context.clock)
        resolved = restore(task.config, credential, test_base_url=service)
        s3 = await asyncio.to_thread(storage.load, task.context.credentials, task.facts.get("s3"))
        resolved = replace(resolved, s3=s3, from_source=task.spooling.origin is not None)
        set_plan(task, resolved)
    except TestServiceUnavailable as error:
        await _hold(task, Reason("service", error.text))  # the registry tries again
        return False
    except (BatchInferError, OSError, ValueError, KeyError) as error:
        detail = str(error)
        text = error.text if isinstance(error, BatchInferError) else Text("{error}", {"error": detail})
        await _hold(task, Reason("config", text))
        return False
    return True


async def _hold(task: Task, reason: Reason) -> None:
    task.plan_problem = reason.text
    if task.state not in states.ENDED and not task.cancelling:
        await task.set_state(states.PAUSED, reason)


def set_plan(task: Task, resolved: Resolved) -> None:
    """Build the plan that workers get, under the task's newest plan version.

    Raises ConfigError: the task has a budget, and no price is known.
    """
    terms = task.budget.terms()
    credential = resolved.credential
    for secret in (credential.password, credential.proxy, *credential.headers.values()):
        if secret and secret != PLACEHOLDER:
            register_secret(secret)
    task.resolved = resolved
    plan = build_plan(
        resolved,
        task_uuid=task.uuid,
        version=int(task.facts.get("plan_version", 1)),
        account=task.account,
        batch_id=str(task.facts["batch_id"]),
        title=task.id,
    )
    task.plan = msgspec.structs.replace(plan, budget=terms)


async def follow_test_service(task: Task, service: str) -> None:
    """The embedded service listens at `service` now: a new address becomes a new plan."""
    if task.resolved is not None and task.resolved.base_url != service:
        version = int(task.facts.get("plan_version", 1)) + 1
        task.facts["plan_version"] = version  # before anything is awaited: no other plan may have this number
        await task.db.set_facts(plan_version=version)
        set_plan(task, replace(task.resolved, base_url=service))
        task.context.dispatcher.end_task(task, "abort")
        if task.batch is not None:
            await task.batch.replan()
        task.log(30, f"the test service moved to {service}")


def save_credential(context: Context, resolved: Resolved) -> str:
    """Keep the credential outside the workspace; returns the account's fingerprint."""
    fingerprint = context.credentials.fingerprint(resolved.service, resolved.credential)
    context.credentials.save(fingerprint, resolved.credential)
    return fingerprint


async def log_start(task: Task, warnings: tuple[Text, ...], notes: tuple[Text, ...], about: str) -> None:
    """The head of the task's log: what runs, with what, on which input. `about` is what a source shows."""
    task.log(logging.INFO, f"task {task.id} ({task.uuid}) accepted")
    task.log(logging.INFO, f"service: {task.service}, model: {task.model}, account: {task.account}")
    task.log(logging.INFO, f"config: {mask(task.config['config'])}")
    origin = task.spooling.origin
    if origin is not None:
        spec = {key: value for key, value in asdict(origin.spec).items() if value}
        analysis = f"{about}; {spec}"
    else:
        try:
            analysis = str(await asyncio.to_thread(analyse, task.pin.path, task.pin.size))
        except OSError as error:
            analysis = f"cannot be looked at: {error}"
    task.log(logging.INFO, f"input: {task.input_name}: {analysis}")
    for text in notes:
        task.log(logging.INFO, str(text))
    for text in warnings:
        task.log(logging.WARNING, str(text))
