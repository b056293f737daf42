"""Followers in step get the same bytes, made once; whatever differs on the wire is encoded anew."""

from __future__ import annotations

from dataclasses import replace

import pytest

from replog.raft.messages import AppendEntries, EntryRange, Heartbeat
from replog.storage.frames import EntryFrameCodec
from replog.transport.encode import EnvelopeEncoder, encode_envelope
from replog.types import EntryKind


def an_append(**changed: object) -> AppendEntries:
    frames = EntryFrameCodec("uint32", "crc32").encode(5, 3, EntryKind.COMMAND, [b"one", b"two"])
    entries = EntryRange(first_index=5, last_index=6, terms=frames.terms, size_bytes=frames.size_bytes)
    message = AppendEntries(source="n1", target="n2", term=3, prev_index=4, prev_term=3, committed_index=4, entries=entries, frames=frames)
    return replace(message, **changed)  # type: ignore[arg-type]


def test_an_append_to_another_follower_is_the_same_bytes_and_not_made_again() -> None:
    encoder, append = EnvelopeEncoder(), an_append()

    first = encoder.encode([append])
    second = encoder.encode([replace(append, target="n3")])

    assert first == encode_envelope([append])
    assert second is first


@pytest.mark.parametrize("changed", [{"term": 4}, {"prev_term": 2}, {"committed_index": 3}])
def test_an_append_that_differs_is_encoded_anew(changed: dict[str, int]) -> None:
    encoder, append = EnvelopeEncoder(), an_append()
    encoder.encode([append])
    other = replace(append, **changed)  # type: ignore[arg-type]

    assert encoder.encode([other]) == encode_envelope([other]) != encode_envelope([append])


def test_other_frames_at_the_same_place_are_encoded_anew() -> None:
    encoder, append = EnvelopeEncoder(), an_append()
    encoder.encode([append])
    other = EntryFrameCodec("uint32", "crc32").encode(5, 3, EntryKind.COMMAND, [b"one", b"TWO"])

    assert encoder.encode([replace(append, frames=other)]) == encode_envelope([replace(append, frames=other)])


def test_what_is_no_single_append_is_encoded_as_it_is() -> None:
    encoder, append = EnvelopeEncoder(), an_append()
    heartbeat = Heartbeat(source="n1", target="n2", term=3, committed_index=4, round=1)
    encoder.encode([append])

    assert encoder.encode([heartbeat]) == encode_envelope([heartbeat])
    assert encoder.encode([append, heartbeat]) == encode_envelope([append, heartbeat])


def test_it_lets_go_of_what_it_remembers() -> None:
    encoder, append = EnvelopeEncoder(), an_append()
    first = encoder.encode([append])
    encoder.forget()

    again = encoder.encode([append])

    assert again == first
    assert again is not first
