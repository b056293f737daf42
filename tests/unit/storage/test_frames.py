"""Entry frames: the fast ways give the bytes of the plain way, and nothing that is wrong gets through."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replog.codec import ENTRY_HEAD, decode_entry
from replog.errors import MalformedMessage, WalEntryTooLarge
from replog.storage.frames import EntryFrameCodec, join
from replog.types import INDEX_MAX, TERM_MAX, EntryFrames, EntryKind
from replog.wal import ChecksumType, Frames, LengthEncoding, codec_of

CODECS = [(encoding, checksum) for encoding in ("uint16", "uint32", "uint64", "uvarint") for checksum in ("crc32", "crc64")]


@pytest.fixture(params=CODECS, ids=["-".join(pair) for pair in CODECS])
def codec(request: pytest.FixtureRequest) -> EntryFrameCodec:
    return EntryFrameCodec(*request.param)


def plainly(codec: EntryFrameCodec, first: int, term: int, kind: int, payloads: Sequence[bytes]) -> tuple[bytes, list[int]]:
    """What the log's own codec makes of the same entries, one at a time."""
    frames = [codec.codec.encode_frame(ENTRY_HEAD.pack(term, first + i, kind) + payload) for i, payload in enumerate(payloads)]
    ends, position = [], 0
    for frame in frames:
        position += len(frame)
        ends.append(position)
    return b"".join(frames), ends


def same(a: EntryFrames, b: EntryFrames) -> None:
    assert a.buffer == b.buffer
    assert list(a.ends) == list(b.ends)
    assert (a.first_index, a.terms, a.kinds, a.payloads) == (b.first_index, b.terms, b.kinds, b.payloads)


@pytest.mark.parametrize("length", [0, 1, 100, 127, 512, 513])
def test_uniform_batches_are_framed_as_one_by_one(codec: EntryFrameCodec, length: int) -> None:
    for first in (1, 250, 65_400, 2**32 - 3, INDEX_MAX - 701):
        for count in (1, 11, 12, 127, 128, 255, 257):
            payloads = [random.Random(position).randbytes(length) for position in range(count)]

            frames = codec.encode(first, 7, EntryKind.COMMAND, payloads)

            assert (frames.buffer, list(frames.ends)) == plainly(codec, first, 7, 1, payloads)
            same(frames, codec.decode(frames.buffer, first))


@given(
    pair=st.sampled_from(CODECS),
    first=st.integers(1, 2**40),
    term=st.integers(0, TERM_MAX),
    kind=st.sampled_from(EntryKind),
    payloads=st.lists(st.binary(max_size=300), min_size=1, max_size=40),
)
def test_any_batch_is_framed_as_one_by_one_and_decoded_to_itself(
    pair: tuple[str, str], first: int, term: int, kind: EntryKind, payloads: list[bytes]
) -> None:
    codec = EntryFrameCodec(*pair)

    frames = codec.encode(first, term, kind, payloads)

    assert (frames.buffer, list(frames.ends)) == plainly(codec, first, term, kind, payloads)
    same(frames, codec.decode(frames.buffer, first))
    assert [decode_entry(data).payload for data in codec.codec.split(frames.buffer, 0, frames.ends)] == payloads


def mixed(codec: EntryFrameCodec, batches: Sequence[tuple[int, EntryKind, int, int]], first: int = 1) -> EntryFrames:
    """Batches of (term, kind, count, payload length) joined; the lengths may differ within one joined batch."""
    made = []
    for term, kind, count, length in batches:
        made.append(codec.encode(first, term, kind, [random.Random(first + i).randbytes(length) for i in range(count)]))
        first += count
    return join(made)


@pytest.mark.parametrize(
    "batches",
    [
        [(1, EntryKind.NO_OP, 1, 0), (1, EntryKind.COMMAND, 200, 100)],
        [(1, EntryKind.COMMAND, 200, 100), (4, EntryKind.NO_OP, 1, 0), (4, EntryKind.COMMAND, 200, 100)],
        [(1, EntryKind.COMMAND, 200, 40), (2, EntryKind.COMMAND, 200, 40), (9, EntryKind.SESSION, 2, 40)],
        [(3, EntryKind.MEMBERSHIP, 1, 300)],
        [(1, EntryKind.COMMAND, 1, 50)] * 5,
    ],
)
def test_joined_batches_decode_to_what_was_joined(codec: EntryFrameCodec, batches: list[tuple[int, EntryKind, int, int]]) -> None:
    whole = mixed(codec, batches, 77)

    same(whole, codec.decode(whole.buffer, 77))
    wal = Frames(77, whole.buffer, list(whole.ends), codec.codec)
    same(whole, codec.from_wal(wal))
    for piece in (whole.slice(77, 77), whole.slice(whole.last_index, whole.last_index), whole.slice(77, whole.last_index)):
        same(piece, codec.decode(piece.buffer, piece.first_index))


def test_frames_of_another_codec_are_encoded_anew(codec: EntryFrameCodec) -> None:
    other = EntryFrameCodec("uvarint", "crc64")
    there = mixed(other, [(1, EntryKind.NO_OP, 1, 0), (2, EntryKind.COMMAND, 30, 100)], 5)

    here = codec.from_wal(Frames(5, there.buffer, there.ends, other.codec))

    assert here.payloads == there.payloads
    assert here.terms == there.terms
    same(here, codec.decode(here.buffer, 5))


@pytest.mark.parametrize("shape", [[(3, EntryKind.COMMAND, 3, 9)], [(3, EntryKind.COMMAND, 2, 9), (4, EntryKind.NO_OP, 1, 0)]])
def test_every_flipped_bit_and_every_cut_is_refused(codec: EntryFrameCodec, shape: list[tuple[int, EntryKind, int, int]]) -> None:
    frames = mixed(codec, shape, 300)

    for position in range(len(frames.buffer)):
        for bit in range(8):
            damaged = bytearray(frames.buffer)
            damaged[position] ^= 1 << bit
            with pytest.raises(MalformedMessage, match="entry"):
                codec.decode(bytes(damaged), 300)
        if position not in (0, *frames.ends):
            with pytest.raises(MalformedMessage, match="entry"):
                codec.decode(frames.buffer[:position], 300)


@pytest.mark.parametrize("position", [0, 1, 77, 199])
def test_a_flipped_byte_in_a_long_run_names_its_entry(codec: EntryFrameCodec, position: int) -> None:
    frames = mixed(codec, [(3, EntryKind.COMMAND, 200, 100)], 1000)
    damaged = bytearray(frames.buffer)
    damaged[frames.ends[position] - 20] ^= 4

    with pytest.raises(MalformedMessage, match=f"entry {1000 + position} .*checksum"):
        codec.decode(bytes(damaged), 1000)


def entry_frame(codec: EntryFrameCodec, term: int, index: int, kind: int, payload: bytes = b"x" * 10) -> bytes:
    return codec.codec.encode_frame(ENTRY_HEAD.pack(term, index, kind) + payload)


def test_a_frame_that_claims_more_than_the_buffer_has_is_refused_though_its_checksum_holds(codec: EntryFrameCodec) -> None:
    data = codec.codec.encode_length(200) + ENTRY_HEAD.pack(1, 1, 1) + b"short"
    forged = data + codec.codec.crc(data).to_bytes(codec.codec.check_bytes, "little")

    with pytest.raises(MalformedMessage, match="end inside"):
        codec.decode(forged, 1)


@pytest.mark.parametrize("count", [3, 200])
@pytest.mark.parametrize(
    ("at", "term", "shift", "kind", "reason"),
    [
        (0, 5, 1, 1, "where entry"),
        (2, 5, -1, 1, "where entry"),
        (2, 5, 2**40, 1, "where entry"),
        (1, 5, 0, 0, "kind 0"),
        (1, 5, 0, 5, "kind 5"),
        (2, 4, 0, 1, "term 4"),
        (2, 2**63, 0, 1, "limit"),
    ],
)
def test_well_framed_entries_that_break_a_rule_are_refused(
    codec: EntryFrameCodec, count: int, at: int, term: int, shift: int, kind: int, reason: str
) -> None:
    frames = [entry_frame(codec, 5, 10 + i, 1) for i in range(count)]
    frames[at] = entry_frame(codec, term, 10 + at + shift, kind)
    if term > 5:
        frames[at:] = [entry_frame(codec, term, 10 + i, 1) for i in range(at, count)]

    with pytest.raises(MalformedMessage, match=reason):
        codec.decode(b"".join(frames), 10)


@pytest.mark.parametrize("count", [1, 3, 200])
def test_entries_shorter_than_their_head_are_refused(codec: EntryFrameCodec, count: int) -> None:
    buffer, _ = codec.codec.encode_frames([b"0123456789"] * count)

    with pytest.raises(MalformedMessage):
        codec.decode(buffer, 1)
    with pytest.raises(MalformedMessage):
        codec.decode(entry_frame(codec, 1, 1, 1) + codec.codec.encode_frame(b"short"), 1)


@pytest.mark.parametrize("first", [0, -1, INDEX_MAX, 2**64])
def test_indexes_out_of_range_are_refused(codec: EntryFrameCodec, first: int) -> None:
    with pytest.raises(MalformedMessage):
        codec.decode(entry_frame(codec, 1, max(first, 0) % 2**64, 1), first)


def test_no_entries_are_no_bytes(codec: EntryFrameCodec) -> None:
    frames = codec.encode(5, 1, EntryKind.COMMAND, [])

    assert (frames.count, frames.buffer, frames.last_index) == (0, b"", 4)
    assert codec.decode(b"", 5).count == 0


def test_a_payload_beyond_the_length_encoding_is_refused_whole() -> None:
    codec = EntryFrameCodec("uint16", "crc32")

    with pytest.raises(WalEntryTooLarge):
        codec.encode(1, 1, EntryKind.COMMAND, [b"", bytes(65_536 - 17)])
    assert codec.encode(1, 1, EntryKind.COMMAND, [bytes(65_535 - 17)]).count == 1


@settings(max_examples=300)
@given(pair=st.sampled_from(CODECS), buffer=st.binary(max_size=200), first=st.integers(-1, 2**65))
def test_rubbish_is_a_named_error(pair: tuple[str, str], buffer: bytes, first: int) -> None:
    try:
        frames = EntryFrameCodec(*pair).decode(buffer, first)
    except MalformedMessage:
        return
    assert frames.count == 0


def test_enums_and_names_choose_the_same_codec() -> None:
    codec = EntryFrameCodec(LengthEncoding.UVARINT, ChecksumType.CRC64)

    assert codec.codec is EntryFrameCodec("uvarint", "crc64").codec
    assert codec.codec is codec_of(LengthEncoding.UVARINT, ChecksumType.CRC64, codec.codec.data_bytes_max)
