"""The log does what a list would do: any order of calls, any settings, reopened at any time."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from replog import wal
from replog.testing.memory_files import MemoryFileSystem
from replog.wal import ChecksumType, LengthEncoding, WalOptions

DATA = st.one_of(st.binary(max_size=40), st.integers(0, 700).map(bytes), st.just(b"same size"))
BATCH = st.lists(DATA, max_size=12) | st.integers(0, 60).map(lambda count: [b"run"] * count)


class LogIsAList(RuleBasedStateMachine):
    """`first` and `datas` are what the log must hold."""

    @initialize(
        encoding=st.sampled_from(LengthEncoding),
        checksum=st.sampled_from(ChecksumType),
        segment_bytes_max=st.sampled_from([1, 64, 300, 1024, 1 << 20]),
        preallocate_bytes=st.sampled_from([0, 100, 4096]),
        first=st.sampled_from([0, 1, 1000]),
    )
    def create(self, encoding: LengthEncoding, checksum: ChecksumType, segment_bytes_max: int, preallocate_bytes: int, first: int) -> None:
        self.system = MemoryFileSystem()
        self.options = WalOptions(
            length_encoding=encoding,
            checksum_type=checksum,
            segment_bytes_max=segment_bytes_max,
            preallocate_bytes=preallocate_bytes,
            first_sequence=first,
            entry_bytes_max=1 << 16,
            prepare_next=False,
        )
        wal.create("log", self.options, fs=self.system)
        self.first = first
        self.datas: list[bytes] = []
        self.log = self.opened()
        self.reader: wal.Reader | None = None

    def opened(self) -> wal.Log:
        return wal.open("log", self.options, sync=wal.NoSync(), fs=self.system)

    @property
    def next(self) -> int:
        return self.first + len(self.datas)

    @rule(data=DATA)
    def append(self, data: bytes) -> None:
        assert self.log.append(data) == self.next
        self.datas.append(data)

    @rule(datas=BATCH)
    def append_many(self, datas: list[bytes]) -> None:
        assert self.log.append_many(datas) == self.next
        self.datas += datas

    @rule(datas=BATCH)
    def append_frames(self, datas: list[bytes]) -> None:
        assert self.log.append_frames(*self.log.codec.encode_frames(datas)) == self.next
        self.datas += datas

    @rule()
    def sync(self) -> None:
        assert self.log.sync() == self.next

    @rule(share=st.floats(0, 1))
    def truncate_behind(self, share: float) -> None:
        keep = round(len(self.datas) * share)
        self.log.truncate_behind(self.first + keep - 1)
        del self.datas[keep:]
        self.reader = None

    @rule(share=st.floats(0, 1.2))
    def truncate_before(self, share: float) -> None:
        before = round(len(self.datas) * share) + self.first
        self.log.truncate_before(before)
        assert self.first <= self.log.first_sequence <= max(self.first, before)
        assert before < self.next or self.log.segment_count == 1
        del self.datas[: self.log.first_sequence - self.first]
        self.first = self.log.first_sequence
        if self.reader is not None and self.reader.next_sequence < self.first:
            self.reader = None

    @rule(begin=st.sampled_from([0, 5, 10**12]))
    def reset(self, begin: int) -> None:
        self.log.reset(begin)
        self.first, self.datas, self.reader = begin, [], None

    @rule()
    def reopen(self) -> None:
        self.log.close()
        self.log = self.opened()
        assert self.log.recovery.is_clean
        assert self.log.durable_sequence == self.next

    @rule(encoding=st.sampled_from(LengthEncoding), checksum=st.sampled_from(ChecksumType))
    def reopen_with_other_settings(self, encoding: LengthEncoding, checksum: ChecksumType) -> None:
        self.log.close()
        self.options = WalOptions(
            length_encoding=encoding,
            checksum_type=checksum,
            segment_bytes_max=self.options.segment_bytes_max,
            preallocate_bytes=self.options.preallocate_bytes,
            entry_bytes_max=1 << 16,
            prepare_next=False,
        )
        self.log = self.opened()

    @precondition(lambda self: self.datas)
    @rule(share=st.floats(0, 1, exclude_max=True))
    def read_one(self, share: float) -> None:
        at = int(len(self.datas) * share)
        assert self.log.read(self.first + at) == self.datas[at]

    @precondition(lambda self: self.datas)
    @rule(share=st.floats(0, 1, exclude_max=True), count=st.integers(1, 30), bytes_max=st.sampled_from([0, 50, 500, 1 << 20]))
    def read_some(self, share: float, count: int, bytes_max: int) -> None:
        at = int(len(self.datas) * share)
        frames = self.log.read_frames(self.first + at, self.first + at + count - 1, bytes_max)
        datas = frames.datas()
        assert 1 <= len(datas) <= count
        assert datas == self.datas[at : at + len(datas)]
        assert len(datas) == 1 or len(frames.buffer) <= bytes_max

    @rule(share=st.floats(0, 1))
    def start_a_reader(self, share: float) -> None:
        self.reader = wal.Reader("log", self.first + round(len(self.datas) * share), fs=self.system)

    @precondition(lambda self: self.reader is not None)
    @rule()
    def read_on(self) -> None:
        assert self.reader is not None
        while (frames := self.reader.read_batch()) is not None:
            at = frames.first_sequence - self.first
            assert frames.datas() == self.datas[at : at + len(frames.ends)]
        assert self.reader.next_sequence == self.next

    @invariant()
    def says_what_it_holds(self) -> None:
        log = self.log
        assert (log.first_sequence, log.next_sequence, log.last_sequence) == (self.first, self.next, self.next - 1)
        assert log.durable_sequence <= log.next_sequence
        segments = log.segments()
        assert log.size_bytes == sum(segment.end_offset for segment in segments)
        assert [segment.first_sequence for segment in segments][1:] == [segment.next_sequence for segment in segments][:-1]
        for segment in segments[:-1]:
            assert self.system.size(segment.path) == segment.end_offset

    def teardown(self) -> None:
        self.log.close()
        assert list(wal.Reader("log", fs=self.system)) == list(enumerate(self.datas, self.first))


TestLogIsAList = LogIsAList.TestCase
TestLogIsAList.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
