"""The bytes of the key-value store's commands, results, queries and answers."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import commands
from cluster.commands import CompareAndSet, Delete, Expectation, Get, InvalidCommand, Item, Page, Put, Scan

keys = st.binary(min_size=1, max_size=50)
values = st.binary(max_size=200)


def encode(command: commands.Command) -> bytes:
    match command:
        case Put(key, value):
            return commands.encode_put(key, value)
        case Delete(key):
            return commands.encode_delete(key)
        case CompareAndSet():
            return commands.encode_cas(command)


any_command = st.one_of(
    st.builds(Put, keys, values),
    st.builds(Delete, keys),
    st.builds(CompareAndSet, keys, values, st.sampled_from(Expectation), st.integers(0, 2**64 - 1), values),
)


@given(any_command)
def test_a_command_survives_its_bytes(command: commands.Command) -> None:
    assert commands.decode_command(encode(command)) == command


@given(any_command, st.data())
def test_a_cut_delete_or_head_is_refused_and_nothing_else_is_raised(command: commands.Command, data: st.DataObject) -> None:
    payload = encode(command)
    cut = payload[: data.draw(st.integers(0, len(payload) - 1))]

    try:
        decoded = commands.decode_command(cut)
    except InvalidCommand:
        return

    assert not isinstance(decoded, Delete)
    assert encode(decoded) == cut


@given(st.binary(max_size=60))
def test_rubbish_is_refused_with_the_named_error(payload: bytes) -> None:
    for decode in (
        commands.decode_command,
        commands.decode_query,
        commands.decode_page,
        commands.decode_cas_result,
        commands.decode_revision,
    ):
        with contextlib.suppress(InvalidCommand):
            decode(payload)


@given(st.lists(st.builds(Item, keys, st.integers(1, 2**64 - 1), values), max_size=5), st.booleans(), st.integers(0, 2**64 - 1))
def test_a_page_survives_its_bytes(items: list[Item], more: bool, applied: int) -> None:
    page = Page(applied, more, items)

    assert commands.decode_page(commands.encode_page(page)) == page


@given(st.one_of(st.builds(Scan, values, values, st.integers(1, 10_000), st.integers(1, commands.SCAN_BYTES_MAX))))
def test_a_scan_survives_its_bytes(scan: Scan) -> None:
    assert commands.decode_query(commands.encode_scan(scan)) == scan


def test_a_get_survives_its_bytes() -> None:
    assert commands.decode_query(commands.encode_get(b"key")) == Get(b"key")
    assert commands.decode_found(commands.encode_found(7, b"value"), b"key") == Item(b"key", 7, b"value")
    assert commands.decode_found(commands.encode_revision(0), b"key") is None


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b"", "0 bytes; at least 3"),
        (b"\x09\x01\x00k", "kind 9; known are 1 put, 2 delete, 3 cas"),
        (b"\x01\x00\x00value", "key of 0 bytes; allowed are 1 to 4096"),
        (b"\x01\x05\x00k", "key of 5 bytes in a command of 4 bytes"),
        (b"\x02\x01\x00kmore", "delete with 4 bytes behind its key"),
        (b"\x03\x01\x00k\x00", "cut short"),
        (b"\x03\x01\x00k\x07" + bytes(12), "cas expects 7"),
        (b"\x03\x01\x00k\x02" + bytes(8) + b"\x09\x00\x00\x00abc", "expects a value of 9 bytes"),
    ],
)
def test_a_malformed_command_is_refused_by_what_is_wrong(payload: bytes, says: str) -> None:
    with pytest.raises(InvalidCommand, match=says):
        commands.decode_command(payload)


def test_limits_are_refused_before_anything_is_sent() -> None:
    with pytest.raises(InvalidCommand, match="key of 4097 bytes; allowed are 1 to 4096"):
        commands.encode_put(b"k" * 4097, b"")
    with pytest.raises(InvalidCommand, match="scan limit 0; allowed are 1 to 10000"):
        commands.encode_scan(Scan(b"", limit=0))
    with pytest.raises(InvalidCommand, match="allowed are 1 to"):
        commands.encode_scan(Scan(b"", bytes_max=2**31))
    with pytest.raises(InvalidCommand, match="revision -1"):
        commands.encode_cas(CompareAndSet(b"k", b"v", Expectation.REVISION, -1))
