"""Background tasks that a process can't do without."""

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any

import structlog

log = structlog.get_logger("vital")


def start_critical(work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
    """Run this coroutine until it is cancelled. If it ends by itself, for any reason, the process gets SIGTERM: its
    supervisor then starts it again. A process that only looks alive would help nobody."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_ended)
    return task


def _ended(task: "asyncio.Task[None]") -> None:
    if task.cancelled():
        return
    log.error("vital_task_ended", task=task.get_name(), exc_info=task.exception())
    os.kill(os.getpid(), signal.SIGTERM)
