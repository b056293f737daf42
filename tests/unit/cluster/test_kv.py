"""The key-value state machine: commands, queries, batches, snapshots."""

import io
import threading
import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import commands
from cluster.commands import CasResult, CompareAndSet, Expectation, InvalidCommand, Item, Scan
from cluster.counter import CommandCounter
from cluster.kv import KeyValueStore
from replog.errors import SnapshotDamaged
from replog.statemachine import CommandError, StateMachine
from replog.types import Entry, EntryKind


def apply(store: KeyValueStore, payload: bytes) -> bytes:
    return store.apply(Entry(store.applied_index + 1, 1, EntryKind.COMMAND, payload))


def put(store: KeyValueStore, key: bytes, value: bytes) -> int:
    return commands.decode_revision(apply(store, commands.encode_put(key, value)))


def cas(store: KeyValueStore, *arguments: object) -> CasResult:
    return commands.decode_cas_result(apply(store, commands.encode_cas(CompareAndSet(*arguments))))  # type: ignore[arg-type]


def get(store: KeyValueStore, key: bytes) -> Item | None:
    return commands.decode_found(store.query(commands.encode_get(key)), key)


def scan(store: KeyValueStore, **arguments: object) -> commands.Page:
    return commands.decode_page(store.query(commands.encode_scan(Scan(**arguments))))  # type: ignore[arg-type]


def snapshot_body(store: KeyValueStore) -> bytes:
    sink = io.BytesIO()
    store.snapshot().write(sink)
    return sink.getvalue()


def test_a_key_has_the_revision_of_the_entry_that_wrote_it() -> None:
    store = KeyValueStore()

    assert put(store, b"a", b"one") == 1
    assert put(store, b"b", b"") == 2
    assert put(store, b"a", b"two") == 3

    assert get(store, b"a") == Item(b"a", 3, b"two")
    assert get(store, b"b") == Item(b"b", 2, b"")
    assert get(store, b"c") is None


def test_delete_answers_with_the_revision_it_removed() -> None:
    store = KeyValueStore()
    put(store, b"a", b"one")

    assert apply(store, commands.encode_delete(b"a")) == commands.encode_revision(1)
    assert apply(store, commands.encode_delete(b"a")) == commands.encode_revision(0)
    assert get(store, b"a") is None


def test_compare_and_set_swaps_only_what_is_as_expected() -> None:
    store = KeyValueStore()

    assert cas(store, b"k", b"1", Expectation.REVISION, 5) == CasResult(False, 0)
    assert cas(store, b"k", b"1", Expectation.VALUE, 0, b"") == CasResult(False, 0)
    assert cas(store, b"k", b"1", Expectation.ABSENT) == CasResult(True, 3)
    assert cas(store, b"k", b"2", Expectation.ABSENT) == CasResult(False, 3)
    assert cas(store, b"k", b"2", Expectation.REVISION, 3) == CasResult(True, 5)
    assert cas(store, b"k", b"3", Expectation.REVISION, 3) == CasResult(False, 5)
    assert cas(store, b"k", b"3", Expectation.VALUE, 0, b"2") == CasResult(True, 7)
    assert get(store, b"k") == Item(b"k", 7, b"3")


def test_scan_goes_page_by_page_in_the_order_of_bytes() -> None:
    store = KeyValueStore()
    for key in (b"b/2", b"a/1", b"b/10", b"b/1", b"c"):
        put(store, key, b"v")

    first = scan(store, prefix=b"b/", limit=2)
    second = scan(store, prefix=b"b/", after=first.items[-1].key, limit=2)

    assert [item.key for item in first.items] == [b"b/1", b"b/10"]
    assert first.more
    assert [item.key for item in second.items] == [b"b/2"]
    assert not second.more
    assert first.applied == 5


def test_a_page_is_bounded_in_bytes_but_never_empty() -> None:
    store = KeyValueStore()
    for number in range(5):
        put(store, b"k%d" % number, b"v" * 1000)

    assert len(scan(store, prefix=b"", bytes_max=2500).items) == 2
    one = scan(store, prefix=b"", bytes_max=1)

    assert len(one.items) == 1
    assert one.more


def test_a_malformed_command_raises_and_changes_nothing() -> None:
    store = KeyValueStore()
    put(store, b"a", b"one")

    with pytest.raises(InvalidCommand):
        apply(store, b"\xff\x00\x00")

    assert len(store) == 1
    with pytest.raises(InvalidCommand):
        store.query(b"\xff")


def test_a_batch_of_queries_answers_as_one_after_another_does() -> None:
    store = KeyValueStore()
    put(store, b"a", b"one")
    put(store, b"long" * 1024, b"two")
    requests = [
        commands.encode_get(b"a"),
        commands.encode_get(b"absent"),
        commands.encode_get(b"long" * 1024),
        commands.encode_scan(Scan(b"")),
        b"",
        b"\x01",
        b"\x01" + b"k" * (commands.KEY_BYTES_MAX + 1),
        b"\xff",
    ]

    def told(answers: Sequence[bytes | Exception]) -> list[object]:
        return [answer if isinstance(answer, bytes) else (type(answer), str(answer)) for answer in answers]

    for _ in range(2):
        assert told(store.query_batch(requests)) == told(StateMachine.query_batch(store, requests))
        view = store.snapshot()  # once more while a frozen view is read, with a put beside it
        put(store, b"a", b"three")
    assert view is not None


payloads = st.one_of(
    st.builds(commands.encode_put, st.sampled_from([b"a", b"b", b"c"]), st.binary(max_size=3)),
    st.builds(commands.encode_delete, st.sampled_from([b"a", b"b", b"c"])),
    st.builds(CompareAndSet, st.sampled_from([b"a", b"b"]), st.binary(max_size=2), st.sampled_from(Expectation), st.integers(0, 9)).map(
        commands.encode_cas
    ),
    st.binary(max_size=6),
)


@given(st.lists(st.lists(payloads, max_size=5), max_size=6))
def test_a_batch_does_what_its_commands_do_one_after_another(batches: Sequence[list[bytes]]) -> None:
    batched, single = KeyValueStore(), KeyValueStore()
    first_index = 1

    for batch in batches:
        results = batched.apply_batch(first_index, 1, batch)
        expected = super(KeyValueStore, single).apply_batch(first_index, 1, batch)
        first_index += len(batch)

        assert list(map(repr, results)) == list(map(repr, expected))
    assert scan(batched, prefix=b"").items == scan(single, prefix=b"").items


def test_one_command_that_fails_in_a_batch_is_its_own_result_alone() -> None:
    store = KeyValueStore()

    results = store.apply_batch(1, 1, [commands.encode_put(b"a", b"1"), b"rubbish", commands.encode_put(b"b", b"2")])

    assert [type(result) for result in results] == [bytes, CommandError, bytes]
    assert store.applied_index == 3


def test_a_snapshot_restores_to_an_equal_store_and_is_of_the_moment_it_was_taken() -> None:
    store = KeyValueStore()
    for number in range(2000):
        put(store, b"k%d" % number, b"v" * (number % 90))
    expected = scan(store, prefix=b"", limit=10_000)
    frozen = store.snapshot()
    put(store, b"k1", b"changed")
    apply(store, commands.encode_delete(b"k2"))
    put(store, b"new", b"")
    sink = io.BytesIO()

    frozen.write(sink)
    restored = KeyValueStore()
    restored.restore(io.BytesIO(sink.getvalue()))

    assert scan(restored, prefix=b"", limit=10_000) == expected
    assert restored.applied_index == expected.applied
    assert get(store, b"k1") == Item(b"k1", 2001, b"changed")


def test_a_snapshot_is_written_in_a_thread_while_the_store_goes_on() -> None:
    store = KeyValueStore()
    store.apply_batch(1, 1, [commands.encode_put(b"k%d" % number, b"v" * 50) for number in range(20_000)])
    frozen = store.snapshot()
    sink = io.BytesIO()
    thread = threading.Thread(target=frozen.write, args=(sink,))

    thread.start()
    index = store.applied_index
    while thread.is_alive():
        store.apply_batch(index + 1, 1, [commands.encode_put(b"k%d" % (index % 20_000), b"later"), commands.encode_delete(b"k5")])
        index += 2
    thread.join()
    restored = KeyValueStore()
    restored.restore(io.BytesIO(sink.getvalue()))

    assert len(restored) == 20_000
    assert all(item.value == b"v" * 50 for item in scan(restored, prefix=b"", limit=10_000).items)


def test_taking_a_snapshot_does_not_copy_the_state() -> None:
    store = KeyValueStore()
    store.apply_batch(1, 1, [commands.encode_put(b"k%d" % number, b"") for number in range(20_000)])
    tracemalloc.start()
    try:
        frozen = store.snapshot()
        grown_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert frozen is not None
    assert grown_bytes < 10_000


@pytest.mark.parametrize("cut", [0, 10, 23, 24, 30, 45])
def test_a_snapshot_that_is_cut_is_refused_and_the_old_state_stays(cut: int) -> None:
    store = KeyValueStore()
    put(store, b"key", b"a value of some bytes")
    body = snapshot_body(store)

    with pytest.raises(SnapshotDamaged):
        store.restore(io.BytesIO(body[:cut]))

    assert get(store, b"key") == Item(b"key", 1, b"a value of some bytes")


def test_a_snapshot_with_a_wrong_head_or_tail_is_refused() -> None:
    store = KeyValueStore()
    put(store, b"key", b"value")
    body = snapshot_body(store)

    with pytest.raises(SnapshotDamaged, match="goes on behind its 1 items"):
        store.restore(io.BytesIO(body + b"x"))
    with pytest.raises(SnapshotDamaged, match="begins with"):
        store.restore(io.BytesIO(b"RKV9" + body[4:]))
    twice = body[:16] + (2).to_bytes(8, "little") + body[24:] * 2
    with pytest.raises(SnapshotDamaged, match="only 1 different keys"):
        store.restore(io.BytesIO(twice))


def test_a_value_larger_than_the_read_block_is_restored() -> None:
    store = KeyValueStore()
    put(store, b"large", b"x" * 3_000_000)
    put(store, b"small", b"y")

    restored = KeyValueStore()
    restored.restore(io.BytesIO(snapshot_body(store)))

    found = get(restored, b"large")
    assert found is not None
    assert len(found.value) == 3_000_000


def test_the_counter_counts_whatever_comes_and_restores() -> None:
    counter = CommandCounter()
    assert counter.apply(Entry(1, 1, EntryKind.COMMAND, b"anything")) == (1).to_bytes(8, "little")
    assert counter.apply_batch(2, 1, [b"", b"x"]) == [(2).to_bytes(8, "little"), (3).to_bytes(8, "little")]
    sink = io.BytesIO()
    counter.snapshot().write(sink)
    restored = CommandCounter()

    restored.restore(io.BytesIO(sink.getvalue()))

    assert restored.query(b"") == (3).to_bytes(8, "little")
    with pytest.raises(SnapshotDamaged):
        restored.restore(io.BytesIO(b"short"))
