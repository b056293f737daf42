"""Crash the storage between any two operations on its disk: what comes back is the old state or the new one, and nothing acknowledged is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from replog.errors import ReplogError
from replog.filesystem import FileSystem
from replog.storage.interface import Write
from replog.testing.enumerator import Image, Mark, enumerate_crashes
from replog.testing.memory_files import MemoryFileSystem
from replog.testing.storage_script import INCARNATION, SCRIPTS, observe, open_storage, states
from replog.testing.storage_suite import frames_of, payload_of, read_all
from replog.types import HardState


def check(image: Image, marks: Sequence[object]) -> bool:
    files = image.open()
    try:
        storage = open_storage(files)
    except ReplogError:
        return False
    seen = observe(storage, *states(marks))
    # It goes on from here, and the next life sees the same.
    term = storage.recovered.hard_state.term + 1
    first = storage.last_index + 1
    storage.persist(Write(hard_state=HardState(term=term), frames=(frames_of(first, 3, term),)))
    storage.close()
    storage = open_storage(files)
    assert storage.recovered.hard_state.term == term
    assert storage.recovered.incarnation == INCARNATION
    assert read_all(storage)[-3:] == [(index, term, payload_of(index, term)) for index in range(first, first + 3)]
    assert (storage.first_index, len(read_all(storage))) == (seen, storage.last_index - seen + 1)
    storage.close()
    return True


@pytest.mark.slow
@pytest.mark.parametrize("run", SCRIPTS, ids=[run.__name__ for run in SCRIPTS])
def test_every_crash_leaves_the_old_state_or_the_new_one(run: Callable[[FileSystem, Mark], None]) -> None:
    coverage = enumerate_crashes(run, check, base=MemoryFileSystem(directories=["data"]), random_per_prefix=6, seed=5)

    assert coverage.opened > 150
