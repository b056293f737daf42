"""The digest of the key-value store's state: equal for equal states however they came about, different for different ones."""

import io
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import commands
from cluster.commands import CompareAndSet, Expectation, Scan
from cluster.kv import KeyValueStore
from replog.errors import SnapshotDamaged

ROOT = Path(__file__).resolve().parents[3]
KEYS = [b"a", b"b", b"c"]

payloads = st.one_of(
    st.builds(commands.encode_put, st.sampled_from(KEYS), st.binary(max_size=3)),
    st.builds(commands.encode_delete, st.sampled_from(KEYS)),
    st.builds(CompareAndSet, st.sampled_from(KEYS), st.binary(max_size=2), st.sampled_from(Expectation), st.integers(0, 9)).map(
        commands.encode_cas
    ),
    st.binary(max_size=6),
)


def snapshot_body(store: KeyValueStore) -> bytes:
    sink = io.BytesIO()
    store.snapshot().write(sink)
    return sink.getvalue()


def restored(body: bytes) -> KeyValueStore:
    store = KeyValueStore()
    store.restore(io.BytesIO(body))
    return store


def items(store: KeyValueStore) -> list[commands.Item]:
    return commands.decode_page(store.query(commands.encode_scan(Scan(b"", limit=10_000)))).items


def filled(count: int = 2000) -> KeyValueStore:
    store = KeyValueStore()
    store.apply_batch(1, 1, [commands.encode_put(b"k%d" % number, b"v" * (number % 90)) for number in range(count)])
    return store


@given(st.lists(st.lists(payloads, max_size=5), max_size=8), st.integers(0, 8))
def test_the_digest_is_that_of_the_items_whether_they_were_replayed_batched_or_restored(batches: Sequence[list[bytes]], cut: int) -> None:
    batched, single, cut_short = KeyValueStore(), KeyValueStore(), KeyValueStore()
    index = 1
    views = []

    for number, batch in enumerate(batches):
        if number == cut:
            cut_short = restored(snapshot_body(cut_short))
            views.append(batched.snapshot())  # writes go to the overlay from here on
        batched.apply_batch(index, 1, batch)
        cut_short.apply_batch(index, 1, batch)
        super(KeyValueStore, single).apply_batch(index, 1, batch)
        index += len(batch)

    digest = batched.state_digest()
    assert single.state_digest() == cut_short.state_digest() == digest
    assert restored(snapshot_body(batched)).state_digest() == digest
    views.clear()


@given(st.lists(payloads, max_size=12), st.lists(payloads, max_size=12))
def test_different_items_have_different_digests(one: list[bytes], other: list[bytes]) -> None:
    left, right = KeyValueStore(), KeyValueStore()

    left.apply_batch(1, 1, one)
    right.apply_batch(1, 1, other)

    assert (items(left) == items(right)) == (left.state_digest() == right.state_digest())


def test_values_that_changed_places_change_the_digest() -> None:
    """CRCs are linear: in an exclusive-or of them, two that swap their values would cancel."""
    store, swapped = KeyValueStore(), KeyValueStore()

    store.apply_batch(1, 1, [commands.encode_put(b"a", b"1" * 32), commands.encode_put(b"b", b"2" * 32)])
    swapped.apply_batch(1, 1, [commands.encode_put(b"a", b"2" * 32), commands.encode_put(b"b", b"1" * 32)])

    assert store.state_digest() != swapped.state_digest()


def test_an_empty_store_has_the_same_digest_as_one_that_was_emptied() -> None:
    store = KeyValueStore()
    store.apply_batch(1, 1, [commands.encode_put(b"a", b"1"), commands.encode_delete(b"a")])

    assert store.state_digest() == KeyValueStore().state_digest()
    assert len(store.state_digest()) == 8


def test_two_processes_with_different_hash_seeds_have_the_same_digest() -> None:
    program = (
        "from cluster.kv import KeyValueStore; from cluster.commands import encode_put; import json;"
        "s = KeyValueStore(); s.apply_batch(1, 1, [encode_put(b'%d' % (n % 70), b'v%d' % n) for n in range(100)]);"
        "print(json.dumps(s.state_digest().hex()))"
    )

    digests = {
        json.loads(subprocess.check_output([sys.executable, "-c", program], cwd=ROOT, env={"PYTHONHASHSEED": seed, "PATH": ""}))
        for seed in ("1", "2")
    }

    assert len(digests) == 1


def test_the_digest_of_a_known_state_is_what_nodes_of_other_versions_say_of_it() -> None:
    store = KeyValueStore()
    store.apply_batch(7, 1, [commands.encode_put(b"key", b"value"), b"rubbish", commands.encode_put(b"other", b"")])

    assert int.from_bytes(store.state_digest(), "little") == crc32(b"\1\3\0keyvalue", 7) + crc32(b"\1\5\0other", 9)


def test_a_value_that_changed_in_memory_is_found_by_the_next_snapshot_which_is_given_up() -> None:
    store = filled()
    digest = store.state_digest()
    answer, mark = store._map.writable[b"k77"]
    store._map.writable[b"k77"] = (answer[:-1] + b"w", mark)
    assert store.state_digest() == digest, "nothing has looked at it yet"

    with pytest.raises(SnapshotDamaged, match=r"the item of key b'k77' at revision 78 has changed in memory"):
        snapshot_body(store)

    assert store.state_digest() != digest


def test_a_restored_state_is_whole_again() -> None:
    good, store = filled(), filled()
    answer, mark = store._map.writable[b"k77"]
    store._map.writable[b"k77"] = (bytes((answer[0] + 1,)) + answer[1:], mark)
    with pytest.raises(SnapshotDamaged):
        snapshot_body(store)

    store.restore(io.BytesIO(snapshot_body(good)))

    assert store.state_digest() == good.state_digest()
    assert snapshot_body(store)
