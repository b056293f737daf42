"""Whatever bytes a log's files have: it opens, or it is refused with an error of the log; in little time and little memory.

Hypothesis drives; `tests/fuzz/wal_target.py` is the same target for Atheris.
"""

from __future__ import annotations

import tracemalloc
from itertools import product
from time import monotonic
from zlib import crc32

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from replog import wal
from replog.errors import WalDamaged, WalError
from replog.testing.log_workloads import read_all
from replog.testing.memory_files import MemoryFileSystem
from replog.wal import ChecksumType, LengthEncoding, WalOptions, codec_of
from replog.wal.format import Header, encode_header

SETTINGS = list(product(LengthEncoding, ChecksumType))
LIMIT = 1 << 20
PEAK_BYTES_MAX = 8 << 20
SECONDS_MAX = 30.0


def segment_name(first: int) -> str:
    return f"log/{first:020d}.wal"


def check_damage(damage: WalDamaged) -> None:
    """It says where, and why."""
    assert damage.segment.startswith("log/")
    assert 0 <= damage.offset <= 1 << 62
    assert damage.reason


def open_anything(files: dict[str, bytes]) -> str:
    """Open, read, append, read again; returns what came of it. Raises what is no error of the log."""
    options = WalOptions(entry_bytes_max=LIMIT, segment_bytes_max=4096, prepare_next=False)
    system = MemoryFileSystem(files)
    began = monotonic()
    tracemalloc.start()
    try:
        try:
            log = wal.open("log", options, sync=wal.NoSync(), fs=system)
        except WalDamaged as damage:
            assert system.files() == files
            check_damage(damage)
            return type(damage).__name__
        except WalError as error:
            return type(error).__name__
        with log:
            before = read_all(log)
            log.append(b"appended")
        assert [data for _, data in wal.Reader("log", fs=system, entry_bytes_max=LIMIT)] == [*before, b"appended"]
        return "open"
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < PEAK_BYTES_MAX, f"{peak} bytes were allocated"
        assert monotonic() - began < SECONDS_MAX


def read_anything(files: dict[str, bytes], start: int | None) -> None:
    """A reader ends, or raises an error of the log."""
    try:
        with wal.Reader("log", start, fs=MemoryFileSystem(files), entry_bytes_max=LIMIT) as reader:
            for _ in reader:
                pass
    except WalError:
        return


lengths = st.one_of(
    st.integers(0, 40), st.integers(0, 2**64 - 1), st.sampled_from([2**16 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, LIMIT, LIMIT + 1])
)


@st.composite
def headers(draw: st.DrawFn, first: int) -> bytes:
    """Mostly a good header, sometimes one with a field that is not, sometimes anything."""
    encoding, checksum = draw(st.sampled_from(SETTINGS))
    good = bytearray(encode_header(Header(encoding, checksum, first)))
    match draw(st.integers(0, 7)):
        case 0:
            return draw(st.binary(max_size=40))
        case 1:
            good[draw(st.integers(0, 15))] = draw(st.integers(0, 255))
        case 2:
            return bytes(good[: draw(st.integers(0, 16))])
    return bytes(good)


@st.composite
def bodies(draw: st.DrawFn, encoding: LengthEncoding, checksum: ChecksumType) -> bytes:
    """Frames: good ones, ones with another length, cut ones, zeros, and anything."""
    codec = codec_of(encoding, checksum, LIMIT)
    parts: list[bytes] = []
    for _ in range(draw(st.integers(0, 6))):
        frame = codec.encode_frame(draw(st.binary(max_size=draw(st.sampled_from([0, 10, 700])))))
        match draw(st.integers(0, 9)):
            case 0:
                length = draw(lengths)
                head = codec.encode_length(length & (2 ** (8 * codec.head_bytes) - 1) if codec.head_bytes else length)
                parts.append(head + frame[1:])
            case 1:
                parts.append(frame[: draw(st.integers(0, len(frame)))])
            case 2:
                parts.append(bytes(draw(st.integers(0, 600))))
            case 3:
                parts.append(draw(st.binary(max_size=40)))
            case 4:
                changed = bytearray(frame)
                changed[draw(st.integers(0, len(frame) - 1))] ^= draw(st.integers(1, 255))
                parts.append(bytes(changed))
            case _:
                parts.append(frame)
    return b"".join(parts)


@st.composite
def directories(draw: st.DrawFn) -> dict[str, bytes]:
    """A few segments that continue each other or not, and sometimes files that are none."""
    files: dict[str, bytes] = {}
    first = draw(st.sampled_from([0, 1, 7, 2**63, 2**64 - 2]))
    for _ in range(draw(st.integers(1, 3))):
        if first >= 2**64:
            break
        header = draw(headers(first))
        if len(header) == 16 and header[6] in (1, 2, 3, 4) and header[7] in (1, 2):
            encoding, checksum = LengthEncoding(header[6]), ChecksumType(header[7])
        else:
            encoding, checksum = LengthEncoding.UINT32, ChecksumType.CRC32
        body = draw(bodies(encoding, checksum))
        files[segment_name(first)] = header + body
        ends: list[int] = []
        codec_of(encoding, checksum, LIMIT).scan(body, 0, len(body), ends)
        first += draw(st.sampled_from([len(ends), len(ends), len(ends), len(ends) + 1, 1]))
    for name in draw(
        st.lists(
            st.sampled_from(["x.wal", "00000000000000000000.wal.tmp", "99999999999999999999.wal", "1.wal", "prepared.wal.tmp"]), max_size=2
        )
    ):
        files[f"log/{name}"] = draw(st.binary(max_size=20))
    return files


@pytest.mark.slow
@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(directories())
def test_any_directory_opens_or_is_refused_by_name(files: dict[str, bytes]) -> None:
    open_anything(files)


@pytest.mark.slow
@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(directories(), st.one_of(st.none(), st.integers(0, 20), st.sampled_from([2**63, 2**64 - 1])))
def test_a_reader_of_any_directory_ends_or_is_refused_by_name(files: dict[str, bytes], start: int | None) -> None:
    read_anything(files, start)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
@example(b"")
@example(bytes(16))
@example(b"WAL\0")
def test_a_segment_of_any_bytes_opens_or_is_refused_by_name(content: bytes) -> None:
    open_anything({segment_name(0): content})


@pytest.mark.parametrize(("encoding", "checksum"), SETTINGS)
@pytest.mark.parametrize("length", [LIMIT, LIMIT + 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 9, 2**64 - 1])
def test_a_length_that_is_no_length_allocates_nothing(encoding: LengthEncoding, checksum: ChecksumType, length: int) -> None:
    codec = codec_of(encoding, checksum, LIMIT)
    if codec.head_bytes and length >= 2 ** (8 * codec.head_bytes):
        length = 2 ** (8 * codec.head_bytes) - 1
    head = codec.encode_length(length)
    good = codec.encode_frame(b"before")

    for behind in (b"", b"abc", bytes(2000), b"x" * 2000):
        outcome = open_anything({segment_name(5): encode_header(Header(encoding, checksum, 5)) + good + head + behind})

        # Within the limit, it may be the beginning of a large entry whose rest never came.
        assert outcome in ("WalLengthDamaged", "WalEntryDamaged") or length <= LIMIT


def test_eleven_continuation_bytes_are_no_length() -> None:
    header = encode_header(Header(LengthEncoding.UVARINT, ChecksumType.CRC32, 0))

    for head in (b"\xff" * 11, b"\x80" * 10 + b"\x01", b"\xff" * 9 + b"\x02", b"\xff" * 200):
        assert open_anything({segment_name(0): header + head}) == "WalLengthDamaged"


def test_a_length_of_65_bits_is_no_length_even_with_a_right_checksum_behind_it() -> None:
    header = encode_header(Header(LengthEncoding.UVARINT, ChecksumType.CRC32, 0))
    for head in (b"\x80" * 9 + b"\x02", b"\x80" * 9 + b"\x04", b"\x81" + b"\x80" * 8 + b"\x02"):
        entry = head + b"x"[: head[0] & 1]

        assert open_anything({segment_name(0): header + entry + crc32(entry).to_bytes(4, "little")}) == "WalLengthDamaged"
