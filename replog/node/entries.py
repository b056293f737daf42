"""The bytes behind the core's ranges: encoded once, fetched from the tail or from the segments, cut to what a message may hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from replog.codec import encode_membership
from replog.config import NodeConfig
from replog.node.tail import Tail
from replog.raft.messages import AppendEntries, CoreMessage, EntryRange, Message
from replog.raft.ready import EntriesToWrite, Ready
from replog.storage.interface import FrameCodec, Storage, Write
from replog.types import EntryFrames, EntryKind, Index, Term


class Entries:
    """The log's bytes as the replica sees them. Invariant: the tail, unless empty, ends at the core's last index after each turn."""

    def __init__(self, config: NodeConfig, storage: Storage, frame_codec: FrameCodec) -> None:
        self._append_bytes_max = config.append_bytes_max
        self._storage = storage
        self._frame_codec = frame_codec
        self._tail = Tail(config.cache_bytes)

    def encode(self, first_index: Index, term: Term, payloads: Sequence[bytes]) -> EntryFrames:
        """Commands as frames: the only time that they are framed and checksummed."""
        return self._frame_codec.encode(first_index, term, EntryKind.COMMAND, payloads)

    def prepare_write(self, ready: Ready) -> Write | None:
        """Step 2 of `ready` as bytes, None when it has nothing to do. The tail takes the new entries now, so that step 1 finds them."""
        if not ready.must_sync:
            return None
        if ready.snapshot is not None:
            self._tail.clear()
        if ready.discard_from is not None:
            self._tail.truncate_from(ready.discard_from)
        frames = [self._frames_of(entries) for entries in ready.entries]
        for batch in frames:
            self._tail.append(batch)
        return Write(hard_state=ready.hard_state, install=ready.snapshot, discard_from=ready.discard_from, frames=frames)

    def _frames_of(self, entries: EntriesToWrite) -> EntryFrames:
        if entries.frames is None:
            payload = encode_membership(entries.membership) if entries.membership is not None else b""
            return self._frame_codec.encode(entries.first_index, entries.terms[0][1], entries.kind, [payload])
        frames: EntryFrames = entries.frames
        return frames.slice(entries.first_index, entries.last_index)

    def attach(self, messages: Sequence[CoreMessage]) -> list[Message]:
        """Fill the ranges of appends with their bytes; one that spans batches becomes one message a batch. Followers in step share a range, and so get the
        same pieces, cut once; the transport knows them by that and encodes them once."""
        filled: list[Message] = []
        fetched: EntryRange | None = None
        pieces: list[tuple[EntryFrames, EntryRange]] = []
        for message in messages:
            if isinstance(message, AppendEntries) and message.entries is not None:
                if message.entries is not fetched:
                    fetched = message.entries
                    frames_of_range = self.fetch(fetched.first_index, fetched.last_index, self._append_bytes_max)
                    pieces = [(frames, _range_of(frames)) for frames in frames_of_range]
                prev_index, prev_term = message.prev_index, message.prev_term
                for frames, entries in pieces:
                    filled.append(
                        AppendEntries(
                            source=message.source,
                            target=message.target,
                            term=message.term,
                            prev_index=prev_index,
                            prev_term=prev_term,
                            committed_index=message.committed_index,
                            entries=entries,
                            frames=frames,
                        )
                    )
                    prev_index, prev_term = entries.last_index, entries.terms[-1][1]
            else:
                filled.append(message)
        return filled

    def fetch(self, first: Index, last: Index, bytes_max: int) -> Iterator[EntryFrames]:
        """The entries `first` to `last` in pieces, from the tail, or what is older from the segments (at most `bytes_max` a piece)."""
        while first <= last:
            pieces = self._tail.pieces(first, last)
            if pieces is not None:
                yield from pieces
                return
            start = self._tail.first_index
            upto = last if start is None or start > last else start - 1
            frames = self._storage.read_frames(first, upto, bytes_max)
            yield frames
            first = frames.last_index + 1

    def evict(self, applied_index: Index) -> None:
        """Let go of what is applied and on disk, as far as the tail is over its limit."""
        self._tail.evict(min(applied_index, self._storage.last_index))


def _range_of(frames: EntryFrames) -> EntryRange:
    return EntryRange(first_index=frames.first_index, last_index=frames.last_index, terms=frames.terms, size_bytes=frames.size_bytes)
