"""What clients may ask for: a file each, named as the method is on the wire."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from batch_infer.protocol import rpc
from batch_infer.protocol.errors import DaemonUnavailable
from batch_infer.protocol.text import Text
from batch_inferd.requests import (
    cancel,
    clean,
    config_variables,
    cost,
    doctor,
    estimate,
    export,
    list_tasks,
    pause,
    prepare,
    resume,
    retry,
    set_options,
    status,
    submissions,
    submit,
    subscribe,
    validate,
)

if TYPE_CHECKING:
    from batch_inferd.app import App
    from batch_inferd.server.peer import Handler, Peer


_BEGIN = frozenset({rpc.SUBMIT, rpc.RESUME, rpc.RETRY})  # refused by a daemon that is ending


def handlers(app: App) -> dict[str, Handler]:
    """Method name -> handler, bound to the application."""
    return {method: partial(_guarded, app, method, handler) for method, handler in _all(app).items()}


async def _guarded(app: App, method: str, handler: Handler, params: dict[str, Any], peer: Peer) -> Any:
    if app.stopping or (app.draining and method in _BEGIN):
        raise DaemonUnavailable(
            Text("the daemon is ending"), hints=(Text("give the command again: it starts a new one"),)
        )
    return await handler(params, peer)


def _all(app: App) -> dict[str, Handler]:
    return {
        rpc.CONFIG_VARIABLES: partial(config_variables.handle, app),
        rpc.SUBMIT: partial(submit.handle, app),
        rpc.LIST: partial(list_tasks.handle, app),
        rpc.STATUS: partial(status.handle, app),
        rpc.SUBMISSIONS: partial(submissions.handle, app),
        rpc.SUBSCRIBE: partial(subscribe.handle, app),
        rpc.CANCEL: partial(cancel.handle, app),
        rpc.PAUSE: partial(pause.handle, app),
        rpc.RESUME: partial(resume.handle, app),
        rpc.RETRY: partial(retry.handle, app),
        rpc.SET_OPTIONS: partial(set_options.handle, app),
        rpc.DOCTOR: partial(doctor.handle, app),
        rpc.VALIDATE: partial(validate.handle, app),
        rpc.CLEAN: partial(clean.handle, app),
        rpc.ESTIMATE: partial(estimate.handle, app),
        rpc.COST: partial(cost.handle, app),
        rpc.EXPORT: partial(export.handle, app),
        rpc.PREPARE: partial(prepare.handle, app),
    }
