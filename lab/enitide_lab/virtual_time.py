"""An asyncio event loop whose time is virtual: hours pass in seconds, and the same program gives the same run.

Time stands still while anything can run and jumps to the next timer when nothing can. It never jumps past work that is
under way outside the loop: while a thread of `run_in_executor` runs, or a socket could be ready, the loop looks at the
real world first, and while a thread runs it waits for it in real time. Where nothing is due and nothing is under way,
nothing can ever happen again: that is a deadlock and raises at once, instead of hanging a test.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

T = TypeVar("T")

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)
_EPOCH_S = EPOCH.timestamp()
THREAD_WAIT_S = 60.0


class Deadlock(RuntimeError):
    """Every task waits and no timer is set: nothing will ever happen again."""


class _Selector(selectors.BaseSelector):
    """Asks the real selector without waiting; what would have been waited for, passes in virtual time."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()
        self.pass_time: Callable[[float], None] = lambda _seconds: None
        self.threads_running: Callable[[], bool] = lambda: False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        # the loop's own pipe is written by threads alone: without those and without sockets there is nothing to see
        outside = len(self._real.get_map()) > 1 or self.threads_running()
        ready = self._real.select(0) if outside else []
        if ready or timeout == 0:
            return ready
        if self.threads_running():
            ready = self._real.select(THREAD_WAIT_S)
            if not ready:
                raise Deadlock(f"a thread of this loop has run for {THREAD_WAIT_S:g} real seconds")
            return ready
        if timeout is None:
            raise Deadlock("every task waits and no timer is set")
        self.pass_time(timeout)
        return []

    def register(self, fileobj: FileDescriptorLike, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: FileDescriptorLike, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def close(self) -> None:
        self._real.close()

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        return self._real.get_map()


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` starts at 0 and is virtual. `wall()` is the same time as a date, `unix()` in Unix seconds."""

    def __init__(self) -> None:
        self._virtual_s = 0.0
        self._threads = 0
        selector = _Selector()
        selector.pass_time = self._pass
        selector.threads_running = lambda: self._threads > 0
        super().__init__(selector)
        # Timers closer together than this fire in one turn. Float sums of many hours err by less.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual_s

    def wall(self) -> datetime:
        """Virtual time as a date, for what writes time stamps."""
        return EPOCH + timedelta(seconds=self._virtual_s)

    def unix(self) -> float:
        """`wall()` in Unix seconds."""
        return _EPOCH_S + self._virtual_s

    def _pass(self, seconds: float) -> None:
        self._virtual_s += seconds

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """As everywhere, but some time passes before any timer that lies ahead.

        One nearer than the clock resolves would fire in the same moment, and who waits for the rest of a deadline would
        wait for ever.
        """
        if self._virtual_s < when < self._virtual_s + 2 * self._clock_resolution:
            when = self._virtual_s + 2 * self._clock_resolution
        return super().call_at(when, callback, *args, context=context)

    def jump(self, seconds: float) -> None:
        """Time passes without this process seeing it, as under SIGSTOP: timers due meanwhile fire late, at once."""
        self._virtual_s += seconds

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """As everywhere; time stands still meanwhile."""
        future = super().run_in_executor(executor, func, *args)
        self._threads += 1
        future.add_done_callback(self._thread_done)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ARG002  Python 3.12's
        """As everywhere; it too waits for a thread, of its own making."""
        self._threads += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self._threads -= 1

    def _thread_done(self, _future: asyncio.Future[Any]) -> None:
        self._threads -= 1


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Runs `main` to its end in a loop of its own, cancels what it left behind, and gives its result."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def virtual_loop() -> VirtualLoop:
    """The running loop, which must be virtual."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, VirtualLoop):
        raise TypeError(f"{type(loop).__name__} is no virtual loop: start with run_virtual")
    return loop
