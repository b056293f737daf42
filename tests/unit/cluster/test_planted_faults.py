"""The planted faults do what they say: data behind a lying sync is lost with the process, an entry is dropped in silence."""

from pathlib import Path

import pytest

from cluster import commands
from cluster.faults import DROP_EACH, ForgetfulStateMachine, LyingFileSystem
from cluster.kv import KeyValueStore
from replog.filesystem import OsFileSystem


def test_what_was_synced_by_a_lie_is_read_by_this_process_and_by_no_other(tmp_path: Path) -> None:
    lying = LyingFileSystem(hold_back_seconds=60)
    path = str(tmp_path / "1.wal")
    file = lying.create(path)
    file.pwrite(b"abcdef", 0)
    file.pwrite(b"XY", 2)

    file.sync()

    assert file.pread(100, 0) == b"abXYef"
    assert file.pread(2, 3) == b"Ye"
    assert file.size() == 6
    assert lying.open(path).pread(6, 0) == b"abXYef"
    assert OsFileSystem().open(path).pread(100, 0) == b""


def test_what_was_held_back_long_enough_goes_down_at_the_next_sync_and_all_of_it_at_a_close(tmp_path: Path) -> None:
    path = str(tmp_path / "1.wal")
    at_once = LyingFileSystem(hold_back_seconds=0).create(path)
    at_once.pwrite(b"abc", 0)
    at_once.sync()
    assert OsFileSystem().open(path).pread(100, 0) == b"abc"

    later = LyingFileSystem(hold_back_seconds=60).open(path, writable=True)
    later.pwrite(b"def", 3)
    later.close()

    assert OsFileSystem().open(path).pread(100, 0) == b"abcdef"


def test_a_handle_for_reading_writes_nothing(tmp_path: Path) -> None:
    lying = LyingFileSystem(hold_back_seconds=60)
    path = str(tmp_path / "1.wal")
    lying.create(path)

    with pytest.raises(OSError, match="opened for reading"):
        lying.open(path).pwrite(b"x", 0)


def test_files_that_are_not_of_the_log_are_honest(tmp_path: Path) -> None:
    path = str(tmp_path / "hard_state")
    file = LyingFileSystem(hold_back_seconds=60).create(path)

    file.pwrite(b"vote", 0)

    assert OsFileSystem().open(path).pread(100, 0) == b"vote"


def test_a_forgetful_state_machine_drops_one_command_in_so_many_and_answers_as_if_not() -> None:
    store = KeyValueStore()
    payloads = [commands.encode_put(b"k%03d" % number, b"") for number in range(1, DROP_EACH + 2)]

    results = ForgetfulStateMachine(store).apply_batch(1, 1, payloads)

    assert results == [commands.encode_revision(number) for number in range(1, DROP_EACH + 2)]
    assert len(store) == DROP_EACH
    assert commands.decode_found(store.query(commands.encode_get(b"k%03d" % DROP_EACH)), b"") is None
