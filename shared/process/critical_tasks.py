"""Background tasks that a process can't do without."""

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any

import structlog

log = structlog.get_logger("vital")


def start_critical(work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
    """Run this until it is cancelled. Should it end by itself, for whatever reason, the process is told to
    stop: what supervises it starts it anew, and a process that only looks alive helps nobody."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_ended)
    return task


def _ended(task: "asyncio.Task[None]") -> None:
    if task.cancelled():
        return
    log.error("vital_task_ended", task=task.get_name(), exc_info=task.exception())
    os.kill(os.getpid(), signal.SIGTERM)
