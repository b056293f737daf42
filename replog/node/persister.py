"""Where the data sync runs: on the loop, or in a thread so that the loop goes on receiving meanwhile.

Handing a write to a thread costs 50 to 150 us; a sync on the loop costs its whole time to everybody who is waiting for the loop. A lone
writer is better off inline, as long as the disk is quick; under load, and with a slow disk, the thread wins. `adaptive` decides by the typical time of
the last syncs (a running median: one hiccup of the disk, or of a busy machine, changes nothing) and by how much the turn has to write.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from replog.storage.interface import Storage, Write

_INLINE_SECONDS_MAX = 0.001
"""A disk that is typically slower than this never holds up the loop."""
_TYPICAL_STEP = 1.125
"""By how much one sync moves the typical time: a disk that turns ten times slower is noticed after 20 syncs."""
_TYPICAL_SECONDS_MIN = 1e-5
_INLINE_ENTRIES_MAX = 16
"""More entries than this come from many callers, and there is something to receive meanwhile."""


class Persister:
    """Runs `storage.persist`, one at a time, in a thread of its own or inline."""

    def __init__(self, storage: Storage, mode: str) -> None:
        self._storage = storage
        self._mode = mode
        self._jobs: SimpleQueue[tuple[Write, asyncio.Future[None]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop = asyncio.get_running_loop()
        self.sync_seconds = 0.0
        """Moving average of a persist, seconds."""
        self.typical_seconds = _INLINE_SECONDS_MAX / 4
        """Running median of a persist, seconds."""
        self.last_seconds = 0.0
        """Time of the last persist, seconds."""
        self.persists = 0
        self.inline_persists = 0
        self.on_duration: Callable[[float], None] | None = None

    async def persist(self, write: Write) -> None:
        """Returns when `write` is durable; raises what the storage raised."""
        self.persists += 1
        if self._is_inline(write):
            self.inline_persists += 1
            began = time.perf_counter()
            self._storage.persist(write)
            self.last_seconds = time.perf_counter() - began
            self._loop.call_soon(self.measured, self.last_seconds)  # not now: somebody waits for what this write promises
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="replog-persist", daemon=True)
            self._thread.start()
        done = self._loop.create_future()
        self._jobs.put((write, done))
        await done

    def stop(self) -> None:
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _is_inline(self, write: Write) -> bool:
        if self._mode != "adaptive":
            return self._mode == "inline"
        return self.typical_seconds < _INLINE_SECONDS_MAX and sum(frames.count for frames in write.frames) <= _INLINE_ENTRIES_MAX

    def measured(self, seconds: float) -> None:
        """A persist took `seconds`."""
        self.last_seconds = seconds
        self.sync_seconds += (seconds - self.sync_seconds) / 8
        if seconds > self.typical_seconds:
            self.typical_seconds *= _TYPICAL_STEP
        else:
            self.typical_seconds = max(_TYPICAL_SECONDS_MIN, self.typical_seconds / _TYPICAL_STEP)
        if self.on_duration is not None:
            self.on_duration(seconds)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            write, done = job
            error: BaseException | None = None
            began = time.perf_counter()
            try:
                self._storage.persist(write)
            except BaseException as raised:  # noqa: BLE001 - it is the owner's to judge, in its own thread
                error = raised
            self._loop.call_soon_threadsafe(self._finish, done, error, time.perf_counter() - began)

    def _finish(self, done: asyncio.Future[None], error: BaseException | None, seconds: float) -> None:
        self.measured(seconds)
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)
