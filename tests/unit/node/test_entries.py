"""The bytes behind the core's ranges: cut once for all followers."""

from __future__ import annotations

from replog.config import ClusterConfig, NodeConfig
from replog.node.entries import Entries
from replog.raft.messages import AppendEntries, EntryRange, Message
from replog.raft.ready import EntriesToWrite, Ready
from replog.storage.frames import EntryFrameCodec
from replog.storage.memory import MemoryDisk, MemoryStorage

CLUSTER = ClusterConfig()
CONFIG = NodeConfig(node_id="n1", data_dir="memory", append_bytes_max=3000)


def append(target: str, entries: EntryRange) -> AppendEntries:
    return AppendEntries(
        source="n1", target=target, term=1, prev_index=entries.first_index - 1, prev_term=0, committed_index=0, entries=entries
    )


def frames_of(messages: list[Message]) -> list[object]:
    found = []
    for message in messages:
        assert isinstance(message, AppendEntries)
        found.append(message.frames)
    return found


def test_followers_in_step_get_the_same_pieces_of_a_batch_that_was_cut() -> None:
    entries = Entries(CONFIG, MemoryStorage.open(MemoryDisk(), CLUSTER, CONFIG), EntryFrameCodec.of(CLUSTER))
    frames = entries.encode(1, 1, [b"v" * 1000] * 10)
    written = EntriesToWrite(first_index=1, last_index=10, terms=((1, 1),), frames=frames)
    assert entries.prepare_write(Ready(entries=(written,))) is not None
    front = EntryRange(first_index=1, last_index=2, terms=((1, 1),), size_bytes=2000)
    other = EntryRange(first_index=2, last_index=3, terms=((2, 1),), size_bytes=2000)

    one, two, three = frames_of(entries.attach([append("n2", front), append("n3", front), append("n4", other)]))

    assert one is two
    assert three is not one
