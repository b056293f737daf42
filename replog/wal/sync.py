"""When an append returns: one class for each promise.

A policy is told after the write, outside the append's lock, up to which sequence number its caller waits; it returns when its promise holds.
What is synced is always "everything written so far", through `SyncTarget.sync_written`, which also knows which file that is: so no policy can
sync the wrong segment. Numbers are exclusive ("next"), so that 0 is durable in an empty log and the first entry is not.

A failed sync is final. The target fails, every waiter and every later call gets `WalFailed`; nothing is synced again on that file, because
the kernel has already forgotten which pages were lost.
"""

from __future__ import annotations

from threading import Condition, Event, Lock, Thread
from typing import Final, Protocol

from replog.errors import ConfigError, ReplogError, WalAppendDiscarded


class SyncTarget(Protocol):
    """What a policy may ask of the log."""

    @property
    def written_sequence(self) -> int:
        """The sequence number behind the last entry that was written."""
        ...

    @property
    def durable_sequence(self) -> int:
        """The sequence number behind the last entry that was data-synced."""
        ...

    def sync_written(self) -> int:
        """Data-sync all that is written now; returns the new durable sequence. Raises WalFailed, then for ever."""
        ...


class SyncPolicy(Protocol):
    """One way to make appends durable. A policy serves one log at a time."""

    @property
    def name(self) -> str:
        """``none``, ``immediate``, ``periodic`` or ``grouped``."""
        ...

    @property
    def waits(self) -> bool:
        """Whether `appended` may sync, and so block: an event loop then calls it from another thread."""
        ...

    def start(self, target: SyncTarget) -> None: ...

    def appended(self, next_sequence: int) -> None:
        """Called after a write; returns when the promise holds for everything before `next_sequence`."""
        ...

    def stop(self) -> None:
        """No append will follow. Ends what the policy runs; does not sync."""
        ...


class NoSync:
    """`none`: on return the bytes are with the operating system. They survive a killed process, not a power cut."""

    name: Final = "none"
    waits: Final = False

    def start(self, target: SyncTarget) -> None:
        pass

    def appended(self, next_sequence: int) -> None:
        pass

    def stop(self) -> None:
        pass


class ImmediateSync:
    """`immediate`: on return this append is data-synced. Each append syncs for itself."""

    name: Final = "immediate"
    waits: Final = True

    def __init__(self) -> None:
        self._target: SyncTarget | None = None

    def start(self, target: SyncTarget) -> None:
        self._target = target

    def appended(self, next_sequence: int) -> None:
        assert self._target is not None
        _check_kept(self._target.sync_written(), next_sequence)

    def stop(self) -> None:
        pass


class PeriodicSync:
    """`periodic(entries, interval)`: returns at once; synced in the background after so many entries or so many seconds, whichever is first.

    A power cut loses at most what was appended since. An error of the background sync surfaces at the next call.
    """

    name: Final = "periodic"
    waits: Final = False

    def __init__(self, entries: int, interval_seconds: float) -> None:
        if entries < 1:
            raise ConfigError("entries", entries, "at least 1")
        if not interval_seconds > 0:
            raise ConfigError("interval_seconds", interval_seconds, "above 0")
        self.entries = entries
        self.interval_seconds = interval_seconds
        self._target: SyncTarget | None = None
        self._wake = Condition()
        self._dirty = False
        self._due = False
        self._stopped = False
        self._thread: Thread | None = None

    def start(self, target: SyncTarget) -> None:
        self._target = target
        self._dirty = self._due = self._stopped = False
        self._thread = Thread(target=self._run, name="replog-wal-periodic-sync", daemon=True)
        self._thread.start()

    def appended(self, next_sequence: int) -> None:
        target = self._target
        assert target is not None
        due = next_sequence - target.durable_sequence >= self.entries
        if due > self._due or not self._dirty:
            with self._wake:
                self._dirty = True
                self._due = self._due or due
                self._wake.notify()

    def stop(self) -> None:
        thread = self._thread
        if thread is None:
            return
        with self._wake:
            self._stopped = True
            self._wake.notify()
        thread.join()
        self._thread = None

    def _run(self) -> None:
        target = self._target
        assert target is not None
        while True:
            with self._wake:
                while not self._dirty and not self._stopped:
                    self._wake.wait()
                if not self._due and not self._stopped:
                    self._wake.wait_for(lambda: self._due or self._stopped, self.interval_seconds)
                if self._stopped:
                    return
                # Cleared before the sync: an append beside it sets it again, so nothing written is left unsynced for ever.
                self._dirty = self._due = False
            try:
                target.sync_written()
            except ReplogError:
                return  # the log has failed; every later call says so


class _Group:
    """Those who wait for one sync. The gate opens once, and each who passes lets the next one through: a hundred threads that are woken
    at once would fight for the interpreter, and most would go to sleep again."""

    __slots__ = ("durable", "failure", "gate")

    def __init__(self) -> None:
        self.gate = Lock()
        self.gate.acquire()
        self.durable: int | None = None
        """What its sync made durable; None until it has ended, and when it was given up."""
        self.failure: ReplogError | None = None

    def wait(self) -> None:
        with self.gate:
            pass


class GroupedSync:
    """`grouped(window=0)`: returns when durable; one sync serves all that wait.

    With no sync running, the first caller syncs at once, so that a lone writer never waits. The first of those whose bytes may have missed the one that
    runs is the next to sync, for all who come until it begins; they sleep until it has ended, and are woken once. A window above 0 makes the one who
    syncs wait that many seconds first, so that more can join. No lock but that of the sync itself is held during a sync or a window.
    """

    name: Final = "grouped"
    waits: Final = True

    def __init__(self, window_seconds: float = 0.0) -> None:
        if not window_seconds >= 0:
            raise ConfigError("window_seconds", window_seconds, "0 or more")
        self.window_seconds = window_seconds
        self._target: SyncTarget | None = None
        self._forming = Lock()
        """Guards the three below."""
        self._next: _Group | None = None
        """Its sync has not begun: whoever has written may still join. None: the next to come leads a new one."""
        self._running: _Group | None = None
        self._running_sequence = 0
        """What is before it was written when `_running` began."""
        self._syncing = Lock()
        """Held by the one who syncs, and waited for by the one who leads `_next`."""
        self._stopping = Event()

    def start(self, target: SyncTarget) -> None:
        self._target = target
        self._stopping.clear()

    def appended(self, next_sequence: int) -> None:
        target = self._target
        assert target is not None
        while target.durable_sequence < next_sequence:
            with self._forming:
                group = self._running if next_sequence <= self._running_sequence else self._next
                leads = group is None
                if group is None:
                    group = self._next = _Group()
            if leads:
                self._lead(group, target)
            else:
                group.wait()
            if group.failure is not None:
                raise group.failure
            if group.durable is not None:
                _check_kept(group.durable, next_sequence)
                break

    def _lead(self, group: _Group, target: SyncTarget) -> None:
        """Sync for the group. However it ends, those who wait in it are woken."""
        try:
            with self._syncing:
                if self.window_seconds:
                    self._stopping.wait(self.window_seconds)
                with self._forming:
                    self._running, self._next = group, None
                    self._running_sequence = target.written_sequence
                try:
                    group.durable = target.sync_written()
                except ReplogError as error:
                    group.failure = error
        finally:
            with self._forming:
                if self._running is group:
                    self._running, self._running_sequence = None, 0
                if self._next is group:
                    self._next = None
            group.gate.release()

    def stop(self) -> None:
        self._stopping.set()


def _check_kept(durable: int, next_sequence: int) -> None:
    """Raise WalAppendDiscarded when all that is left is durable, and the entry before `next_sequence` is not among it."""
    if durable < next_sequence:
        raise WalAppendDiscarded(next_sequence - 1, durable)
