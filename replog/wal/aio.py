"""Appending from asyncio: nothing is done per entry that can be done per turn of the event loop.

An append puts its data and a future into a list. At the end of the turn everything in the list is written, as one batch. If the policy waits,
a thread beside the loop then waits for it; what is written meanwhile is served by the next round. A round that is done resolves all its
futures in one callback. So a thousand waiting appends cost one write, one sync and two thread hops together, and the loop never waits for a disk.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future, InvalidStateError, get_running_loop
from collections.abc import Sequence
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

from replog.errors import ReplogError, WalAppendDiscarded, WalClosed
from replog.filesystem import Bytes

if TYPE_CHECKING:
    from replog.wal.log import Log

_Waiting = list["Future[int] | None"]
"""One item an entry: its future, or None for those of a batch but the first."""


class AsyncAppends:
    """Sends each append to the appender of the event loop it comes from; nearly always there is one."""

    __slots__ = ("_appenders", "_current", "_log")

    def __init__(self, log: Log) -> None:
        self._log = log
        self._current = _Appender(log, get_running_loop())
        self._appenders = [self._current]

    def append(self, data: Bytes) -> Future[int]:
        """A future for the entry's sequence number."""
        appender = self._current
        loop = get_running_loop()
        if appender.loop is not loop:
            appender = self._switch(loop)
        future: Future[int] = Future(loop=loop)
        datas = appender.datas
        if not datas:
            loop.call_soon(appender.flush)
        datas.append(data)
        appender.futures.append(future)
        return future

    def append_many(self, datas: Sequence[Bytes]) -> Future[int]:
        """A future for the first entry's sequence number."""
        appender = self._current
        loop = get_running_loop()
        if appender.loop is not loop:
            appender = self._switch(loop)
        future: Future[int] = Future(loop=loop)
        if not datas:
            future.set_result(self._log.next_sequence)
            return future
        if not appender.datas:
            loop.call_soon(appender.flush)
        appender.datas.extend(datas)
        appender.futures.append(future)
        appender.futures.extend([None] * (len(datas) - 1))
        return future

    def _switch(self, loop: AbstractEventLoop) -> _Appender:
        """Another event loop: the one before has ended, or runs in another thread."""
        self._appenders = [appender for appender in self._appenders if not appender.loop.is_closed() or appender.stop()]
        found = next((appender for appender in self._appenders if appender.loop is loop), None)
        if found is None:
            self._log.check_usable()
            found = _Appender(self._log, loop)
            self._appenders.append(found)
        self._current = found
        return found

    def stop(self) -> None:
        """The log is closed: end the threads."""
        for appender in self._appenders:
            appender.stop()


class _Appender:
    """The appends of one event loop. Everything but `_wait` runs in the loop's thread."""

    __slots__ = ("_log", "_rounds", "_thread", "_unsynced", "datas", "futures", "loop")

    def __init__(self, log: Log, loop: AbstractEventLoop) -> None:
        self.loop = loop
        self._log = log
        self.datas: list[Bytes] = []
        """Handed over in this turn of the loop."""
        self.futures: _Waiting = []
        """Of `datas`."""
        self._unsynced: list[tuple[int, _Waiting]] = []
        """Written and waiting for the policy: (first sequence, futures), ascending."""
        self._rounds: SimpleQueue[int | None] = SimpleQueue()
        self._thread: Thread | None = None

    def flush(self) -> None:
        """Write what this turn has brought."""
        datas, futures = self.datas, self.futures
        self.datas, self.futures = [], []
        log = self._log
        try:
            first = log.write_many(datas)
            if not log.policy.waits:
                log.policy.appended(first + len(datas))
                _resolve(first, futures)
                return
        except ReplogError as error:
            if len(datas) > 1 and log.failure is None and not isinstance(error, WalClosed):
                self._flush_apart(datas, futures)
            else:
                _reject(futures, error)
            return
        idle = not self._unsynced
        self._unsynced.append((first, futures))
        if idle:
            self._begin_round()

    def _flush_apart(self, datas: list[Bytes], futures: _Waiting) -> None:
        """One of them is too large and nothing was written: only its own caller is to hear of it."""
        starts = [at for at, future in enumerate(futures) if future is not None]
        for start, stop in zip(starts, [*starts[1:], len(futures)], strict=True):
            future = futures[start]
            assert future is not None
            try:
                self._log.codec.encode_batch(datas[start:stop])
            except ReplogError as error:
                if not future.done():
                    future.set_exception(error)
                continue
            if not self.datas:
                self.loop.call_soon(self.flush)
            self.datas.extend(datas[start:stop])
            self.futures.extend(futures[start:stop])

    def _begin_round(self) -> None:
        """Let the thread wait for all that is written now."""
        if self._thread is None:
            self._thread = Thread(target=self._wait, name="replog-wal-async", daemon=True)
            self._thread.start()
        first, futures = self._unsynced[-1]
        self._rounds.put(first + len(futures))

    def _wait(self) -> None:
        """In the thread: one round of the policy after the other."""
        while (next_sequence := self._rounds.get()) is not None:
            failure: ReplogError | None = None
            try:
                self._log.policy.appended(next_sequence)
            except ReplogError as error:
                failure = error
            try:
                self.loop.call_soon_threadsafe(self._end_round, next_sequence, failure)
            except RuntimeError:
                return  # the loop is closed, and nobody waits any more

    def _end_round(self, next_sequence: int, failure: ReplogError | None) -> None:
        done = 0
        unsynced = self._unsynced
        if failure is None:
            durable = max(next_sequence, self._log.durable_sequence)
            while done < len(unsynced) and unsynced[done][0] + len(unsynced[done][1]) <= durable:
                done += 1
        elif isinstance(failure, WalAppendDiscarded):
            # Cut off beside us: those of this round only. What was written since is another round's.
            done = 1 + next(at for at, (first, futures) in enumerate(unsynced) if first + len(futures) == next_sequence)
        else:
            done = len(unsynced)
        finished, self._unsynced = unsynced[:done], unsynced[done:]
        if self._unsynced:
            self._begin_round()  # before the futures: the disk works while their owners run
        for first, futures in finished:
            if failure is None:
                _resolve(first, futures)
            else:
                _reject(futures, failure)

    def stop(self) -> bool:
        """The log or the loop is closed: end the thread. Rounds that were begun are ended first. Returns False: this one is gone."""
        if self._thread is not None:
            self._rounds.put(None)
            self._thread.join()
            self._thread = None
        return False


def _resolve(first: int, futures: _Waiting) -> None:
    for sequence, future in enumerate(futures, first):
        if future is not None:
            try:
                future.set_result(sequence)
            except InvalidStateError:
                continue  # its owner was cancelled


def _reject(futures: _Waiting, error: ReplogError) -> None:
    for future in futures:
        if future is not None and not future.done():
            future.set_exception(error)
