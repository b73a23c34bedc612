"""Logs: a dated file a task and one for the daemon, written by a thread, with secrets masked."""

from batch_inferd.logs.redact import register_secret
from batch_inferd.logs.setup import Logs, start
from batch_inferd.logs.tasklogs import TaskLogs

__all__ = ["Logs", "TaskLogs", "register_secret", "start"]
