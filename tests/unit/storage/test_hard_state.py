"""The hard state's file: what was stored comes back whole, and anything else is refused by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replog.errors import HardStateDamaged
from replog.storage import hard_state
from replog.storage.hard_state import StoredHardState
from replog.testing.memory_files import MemoryFileSystem
from replog.types import INDEX_MAX, TERM_MAX, HardState

STATE = StoredHardState(
    cluster_id="replog",
    node_id="n1",
    incarnation=2**63 - 1,
    hard_state=HardState(term=7, vote="n2"),
    epoch=3,
    vouched_index=120,
    maybe_promised=131,
    installing=(140, 6),
)
names = st.text("abcXYZ019._-", min_size=1, max_size=64)
indexes = st.integers(0, INDEX_MAX)
terms = st.integers(0, TERM_MAX)


@given(
    st.builds(
        StoredHardState,
        cluster_id=names,
        node_id=names,
        incarnation=st.integers(1, 2**63 - 1),
        hard_state=st.builds(HardState, term=terms, vote=st.none() | names),
        epoch=st.integers(0, 2**63),
        vouched_index=indexes,
        maybe_promised=indexes,
        installing=st.none() | st.tuples(st.integers(1, INDEX_MAX), terms),
    )
)
def test_what_is_stored_is_loaded(state: StoredHardState) -> None:
    files = MemoryFileSystem(directories=["data"])

    hard_state.store(files, "data", state)

    assert hard_state.load(files, "data") == state
    assert files.list("data") == ["hard_state"]


def test_every_flipped_bit_and_every_cut_is_refused() -> None:
    good = hard_state.encode(STATE)

    for position in range(len(good)):
        for bit in range(8):
            damaged = bytearray(good)
            damaged[position] ^= 1 << bit
            with pytest.raises(HardStateDamaged, match="some/path"):
                hard_state.decode(bytes(damaged), "some/path")
        with pytest.raises(HardStateDamaged):
            hard_state.decode(good[:position], "some/path")
        with pytest.raises(HardStateDamaged):
            hard_state.decode(good[:position] + bytes(len(good) - position), "some/path")
    with pytest.raises(HardStateDamaged):
        hard_state.decode(good + b"x", "some/path")


@given(st.binary(max_size=2000))
def test_rubbish_is_refused(data: bytes) -> None:
    with pytest.raises(HardStateDamaged):
        hard_state.decode(data, "some/path")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(HardStateDamaged, match="data/hard_state: missing"):
        hard_state.load(MemoryFileSystem(directories=["data"]), "data")


def test_a_left_over_temporary_file_is_no_obstacle() -> None:
    files = MemoryFileSystem({"data/hard_state.tmp": b"half"})

    hard_state.store(files, "data", STATE)

    assert hard_state.load(files, "data") == STATE
