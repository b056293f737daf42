"""Followers in step get the same bytes, made once; whatever differs on the wire is encoded anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replog.raft.messages import AppendEntries, EntryRange, Heartbeat, Message
from replog.storage.frames import EntryFrameCodec
from replog.transport.encode import encode_envelope
from replog.transport.pieces import PIECE_BYTES_MIN, EnvelopeEncoder, Pieces, encode_pieces
from replog.types import EntryKind


def an_append(payloads: Sequence[bytes] = (b"one", b"two"), **changed: object) -> AppendEntries:
    frames = EntryFrameCodec("uint32", "crc32").encode(5, 3, EntryKind.COMMAND, payloads)
    entries = EntryRange(first_index=5, last_index=frames.last_index, terms=frames.terms, size_bytes=frames.size_bytes)
    message = AppendEntries(source="n1", target="n2", term=3, prev_index=4, prev_term=3, committed_index=4, entries=entries, frames=frames)
    return replace(message, **changed)  # type: ignore[arg-type]


def whole(pieces: Pieces) -> bytes:
    return b"".join(pieces)


@given(
    number=st.integers(0, 2**63 - 1),
    term=st.integers(1, 2**63 - 1),
    payload_bytes=st.sampled_from([0, 100, PIECE_BYTES_MIN - 25, PIECE_BYTES_MIN, 2**21]),
)
def test_pieces_are_the_bytes_that_protobuf_writes(number: int, term: int, payload_bytes: int) -> None:
    append = an_append([bytes(payload_bytes)], term=term, prev_term=min(3, term), committed_index=number)

    assert whole(encode_pieces([append])) == encode_envelope([append])


def test_the_frames_of_a_large_append_are_not_copied() -> None:
    large, small = an_append([bytes(PIECE_BYTES_MIN)]), an_append()
    heartbeat = Heartbeat(source="n1", target="n2", term=3, committed_index=4, round=1)
    messages: list[Message] = [small, heartbeat, large, large, heartbeat]

    pieces = encode_pieces(messages)

    assert whole(pieces) == encode_envelope(messages)
    assert large.frames is not None
    assert [piece is large.frames.buffer for piece in pieces] == [False, False, True, False, True, False]


def test_an_append_to_another_follower_is_the_same_bytes_and_not_made_again() -> None:
    encoder, append = EnvelopeEncoder(), an_append()

    first = encoder.encode([append])
    second = encoder.encode([replace(append, target="n3")])

    assert whole(first) == encode_envelope([append])
    assert second is first


@pytest.mark.parametrize("changed", [{"term": 4}, {"prev_term": 2}, {"committed_index": 3}])
def test_an_append_that_differs_is_encoded_anew(changed: dict[str, int]) -> None:
    encoder, append = EnvelopeEncoder(), an_append()
    encoder.encode([append])
    other = replace(append, **changed)  # type: ignore[arg-type]

    assert whole(encoder.encode([other])) == encode_envelope([other]) != encode_envelope([append])


def test_other_frames_at_the_same_place_are_encoded_anew() -> None:
    encoder, append = EnvelopeEncoder(), an_append()
    encoder.encode([append])
    other = EntryFrameCodec("uint32", "crc32").encode(5, 3, EntryKind.COMMAND, [b"one", b"TWO"])

    assert whole(encoder.encode([replace(append, frames=other)])) == encode_envelope([replace(append, frames=other)])


def test_what_is_no_single_append_is_encoded_as_it_is() -> None:
    encoder, append = EnvelopeEncoder(), an_append()
    heartbeat = Heartbeat(source="n1", target="n2", term=3, committed_index=4, round=1)
    encoder.encode([append])

    assert whole(encoder.encode([heartbeat])) == encode_envelope([heartbeat])
    assert whole(encoder.encode([append, heartbeat])) == encode_envelope([append, heartbeat])


def test_it_lets_go_of_what_it_remembers() -> None:
    encoder, append = EnvelopeEncoder(), an_append()
    first = encoder.encode([append])
    encoder.forget()

    again = encoder.encode([append])

    assert again == first
    assert again is not first
