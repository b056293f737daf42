"""The newest entries in memory."""

from __future__ import annotations

from replog.node.tail import Tail
from replog.types import EntryFrames


def frames(first: int, count: int, size: int = 10, term: int = 1) -> EntryFrames:
    payloads = [b"%d" % index for index in range(first, first + count)]
    return EntryFrames(first, ((first, term),), b"\x01" * count, b"x" * size * count, [size * (n + 1) for n in range(count)], payloads)


def indexes(pieces: list[EntryFrames] | None) -> list[tuple[int, int]]:
    assert pieces is not None
    return [(piece.first_index, piece.last_index) for piece in pieces]


def test_a_range_inside_one_batch_is_cut_out_of_it() -> None:
    tail = Tail(1000)
    tail.append(frames(1, 10))

    pieces = tail.pieces(3, 5)

    assert indexes(pieces) == [(3, 5)]
    assert pieces is not None
    assert pieces[0].payloads == [b"3", b"4", b"5"]
    assert list(pieces[0].ends) == [10, 20, 30]


def test_a_range_over_batches_comes_in_pieces_cut_at_the_rims() -> None:
    tail = Tail(1000)
    tail.append(frames(1, 3))
    tail.append(frames(4, 3))
    tail.append(frames(7, 3))

    assert indexes(tail.pieces(2, 8)) == [(2, 3), (4, 6), (7, 8)]


def test_a_whole_batch_is_handed_out_as_it_is() -> None:
    tail = Tail(1000)
    batch = frames(1, 3)
    tail.append(batch)

    pieces = tail.pieces(1, 3)

    assert pieces is not None
    assert pieces[0] is batch


def test_what_is_no_longer_or_not_yet_held_is_not_answered() -> None:
    tail = Tail(10)
    tail.append(frames(5, 2))

    assert tail.pieces(4, 5) is None
    assert tail.pieces(6, 7) is None
    assert Tail(10).pieces(1, 1) is None


def test_truncation_cuts_a_batch_in_the_middle() -> None:
    tail = Tail(1000)
    tail.append(frames(1, 3))
    tail.append(frames(4, 3))

    tail.truncate_from(3)

    assert (tail.first_index, tail.last_index, tail.size_bytes) == (1, 2, 20)
    tail.append(frames(3, 1, term=2))
    assert indexes(tail.pieces(1, 3)) == [(1, 2), (3, 3)]


def test_eviction_keeps_what_is_not_yet_on_disk_even_over_the_limit() -> None:
    tail = Tail(25)
    tail.append(frames(1, 2))
    tail.append(frames(3, 2))
    tail.append(frames(5, 2))

    tail.evict(upto=3)

    assert (tail.first_index, tail.size_bytes) == (3, 40)
    tail.evict(upto=6)
    assert (tail.first_index, tail.size_bytes) == (5, 20)
