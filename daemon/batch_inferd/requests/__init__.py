"""What clients may ask for: a file each, named as the method is on the wire."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from batch_infer.protocol import rpc
from batch_inferd.requests import (
    cancel,
    config_variables,
    list_tasks,
    pause,
    resume,
    retry,
    status,
    submit,
    subscribe,
)

if TYPE_CHECKING:
    from batch_inferd.app import App
    from batch_inferd.server.peer import Handler


def handlers(app: App) -> dict[str, Handler]:
    """Method name -> handler, bound to the application."""
    return {
        rpc.CONFIG_VARIABLES: partial(config_variables.handle, app),
        rpc.SUBMIT: partial(submit.handle, app),
        rpc.LIST: partial(list_tasks.handle, app),
        rpc.STATUS: partial(status.handle, app),
        rpc.SUBSCRIBE: partial(subscribe.handle, app),
        rpc.CANCEL: partial(cancel.handle, app),
        rpc.PAUSE: partial(pause.handle, app),
        rpc.RESUME: partial(resume.handle, app),
        rpc.RETRY: partial(retry.handle, app),
    }
