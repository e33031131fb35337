"""Starts children in order, keeps them alive, and stops them in order.

Theory of operation. Each child has one task. It waits until the children that it needs are ready, starts the child,
waits until it is ready, and from then on restarts it whenever it ends. If a child ends before it was ever ready,
its command or environment is wrong; it is not restarted, and everything ends. A child that was ready before is
restarted without a limit, with a backoff and a message each time: a person may fix the cause (a full disk, a limit
of the system), and meanwhile the other children serve. Tasks never stop a process. :meth:`Supervisor.stop` does
that when all tasks have ended, so that nothing is started while everything is being stopped.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from cli.errors import ChildFailed
from cli.up.process import ChildCommand, Process, begin_log, bound_log, ending, last_lines

READY_POLL_S = 0.1
LOG_CHECK_S = 5.0


@dataclass(frozen=True, slots=True)
class Spec:
    """A child, and how it is supervised. Times in seconds."""

    command: ChildCommand
    ready: Callable[[], Awaitable[bool]]
    ready_within_s: float
    stop_within_s: float
    stop_turn: int
    """Children with lower numbers are stopped first, equal ones together."""
    after: tuple[str, ...] = ()
    """Names of the children that must be ready before this one is started."""
    waits_for: Callable[[str], str] = lambda log_lines: ""
    """Called when the child has ended. In: the last lines of its log. Out: what a person must fix before it can
    run; '' if nothing is known."""

    @property
    def name(self) -> str:
        return self.command.name


class Reporter(Protocol):
    """Tells people what happens to the children."""

    def starting(self, name: str) -> None: ...
    def ready(self, name: str, seconds: float) -> None: ...
    def died(self, name: str, how: str, log_lines: str, again_in_s: float) -> None: ...
    def waits(self, name: str, for_what: str, again_in_s: float) -> None: ...


class Restarts:
    """When to restart a child that ended. Pure: the clock is passed in.

    The first restart comes nearly at once, because a single death is the usual case. Each further one within
    ``window_s`` waits twice as long, up to ``longest_s``.
    """

    def __init__(self, window_s: float = 60.0, first_s: float = 0.1, longest_s: float = 10.0) -> None:
        self._window_s, self._first_s, self._longest_s = window_s, first_s, longest_s
        self._times: deque[float] = deque()

    def delay_s(self, now_s: float) -> float:
        """A child ended now. Out: the seconds until its restart."""
        while self._times and now_s - self._times[0] >= self._window_s:
            self._times.popleft()
        self._times.append(now_s)
        return float(min(self._longest_s, self._first_s * 2 ** (len(self._times) - 1)))


class Supervisor:
    """All children of one ``headrace up``."""

    def __init__(
        self,
        specs: list[Spec],
        report: Reporter,
        changed: Callable[[Mapping[str, int]], None],
        restarts: Callable[[], Restarts] = Restarts,
    ) -> None:
        """``changed`` gets the pids by name whenever a child is started. ``restarts`` makes each child's clock."""
        self._specs = specs
        self._report = report
        self._changed = changed
        self._restarts = restarts
        self._running: dict[str, Process] = {}
        self._ready = {spec.name: asyncio.Event() for spec in specs}

    async def run(self, up: Callable[[], None]) -> None:
        """Start all children, call ``up`` when all are ready, and keep them running until cancelled.

        Raises :class:`ChildFailed`. In either case :meth:`stop` must follow.
        """
        failed: list[ChildFailed] = []
        try:
            async with asyncio.TaskGroup() as tasks:
                for spec in self._specs:
                    tasks.create_task(self._look_after(spec))
                tasks.create_task(self._bound_logs())
                for event in self._ready.values():
                    await event.wait()
                up()
        except* ChildFailed as failures:
            failed.extend(error for error in failures.exceptions if isinstance(error, ChildFailed))
        if failed:
            # Raised here, because Python 3.11.2 wraps an error that the clause raises in a group (gh-103590).
            raise failed[0]

    async def stop(self) -> None:
        """Stop all children, turn by turn, within the sum of the turns' bounds."""
        for turn in sorted({spec.stop_turn for spec in self._specs}):
            await asyncio.gather(
                *(
                    self._running[spec.name].stop(spec.stop_within_s)
                    for spec in self._specs
                    if spec.stop_turn == turn and spec.name in self._running
                )
            )

    def kill(self) -> None:
        """SIGKILL for all children at once; :meth:`stop` then ends at once too."""
        for process in self._running.values():
            process.kill()

    async def _look_after(self, spec: Spec) -> None:
        for name in spec.after:
            await self._ready[name].wait()
        process = await self._start(spec)
        self._ready[spec.name].set()
        restarts = self._restarts()
        while True:
            code = await process.ended()
            lines = last_lines(spec.command.log)
            delay_s = restarts.delay_s(time.monotonic())
            if for_what := spec.waits_for(lines):
                self._report.waits(spec.name, for_what, delay_s)
            else:
                self._report.died(spec.name, ending(code), lines, delay_s)
            await asyncio.sleep(delay_s)
            process = await self._spawn_again(spec, restarts)

    async def _spawn_again(self, spec: Spec, restarts: Restarts) -> Process:
        """Restart the child. If the system can't start a process now, try again later."""
        while True:
            try:
                return self._spawn(spec)
            except ChildFailed as error:
                delay_s = restarts.delay_s(time.monotonic())
                self._report.waits(spec.name, str(error), delay_s)
                await asyncio.sleep(delay_s)

    async def _start(self, spec: Spec) -> Process:
        begin_log(spec.command.log)
        self._report.starting(spec.name)
        began = time.monotonic()
        process = self._spawn(spec)
        try:
            async with asyncio.timeout(spec.ready_within_s):
                while not await spec.ready():
                    if process.exit_code is not None:
                        raise ChildFailed(self._failure(spec, ending(process.exit_code) + " while starting"))
                    await asyncio.sleep(READY_POLL_S)
        except TimeoutError:
            raise ChildFailed(self._failure(spec, f"was not ready within {spec.ready_within_s:.0f} s")) from None
        self._report.ready(spec.name, time.monotonic() - began)
        return process

    def _spawn(self, spec: Spec) -> Process:
        try:
            process = Process(spec.command)
        except OSError as error:
            raise ChildFailed(f"{spec.name} can't be started: {error}") from None
        self._running[spec.name] = process
        self._changed({name: child.pid for name, child in self._running.items()})
        return process

    def _failure(self, spec: Spec, how: str) -> str:
        lines = last_lines(spec.command.log)
        said = f"Its last log lines:\n{lines}" if lines else "It logged nothing."
        return f"{spec.name} {how}. {said}\nWhole log: {spec.command.log}"

    async def _bound_logs(self) -> None:
        while True:
            await asyncio.sleep(LOG_CHECK_S)
            for spec in self._specs:
                bound_log(spec.command.log)
