"""The write-ahead log alone: append durably, read at random, survive a torn write, follow, and throw away what is no longer needed.

python examples/wal_only.py [DIRECTORY]
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from replog import wal


def append_and_read(directory: str) -> None:
    with wal.open(directory, sync=wal.GroupedSync()) as log:
        first = log.append(b"an order")  # durable when this returns
        batch = log.append_many([b"an order of %d apples" % number for number in range(1000)])  # one write, one sync
        print(f"wrote {first} to {log.last_sequence}; everything before {log.durable_sequence} survives a power cut")
        print(f"entry {batch + 41} is {log.read(batch + 41).decode()!r}")


async def append_from_many_tasks(directory: str) -> None:
    with wal.open(directory) as log:
        sequences = await asyncio.gather(*[log.append_async(b"from task %d" % task) for task in range(1000)])
        print(f"a thousand tasks wrote {sequences[0]} to {sequences[-1]} together")


def lose_power_while_writing(directory: str) -> None:
    """What a crash leaves: half an entry at the end."""
    with wal.open(directory) as log:
        segment, whole = log.segments()[-1], log.codec.encode_frame(b"never acknowledged")
    with Path(segment.path).open("r+b") as file:
        file.seek(segment.end_offset)
        file.write(whole[:9])

    with wal.open(directory) as log:
        print(f"recovered: {log.recovery.bytes_cut} bytes of a torn write cut off, the next entry gets {log.next_sequence}")


def meet_rot(directory: str) -> None:
    """What a crash does not leave: a flipped bit in an entry that was durable. That is not the end of the log, but an error."""
    segment = Path(directory) / "00000000000000000000.wal"
    good = segment.read_bytes()
    segment.write_bytes(good[:500] + bytes([good[500] ^ 1]) + good[501:])
    try:
        wal.open(directory)
    except wal.WalDamaged as damage:
        print(f"refused, and nothing changed: {type(damage).__name__} at offset {damage.offset}, sequence {damage.sequence}")
    segment.write_bytes(good)


def read_and_throw_away(directory: str) -> None:
    print(f"the last entry is {list(wal.Reader(directory, from_sequence=1990))[-1]}")
    options = wal.WalOptions(segment_bytes_max=16 * 1024)
    with wal.open(directory, options) as log:
        log.append_many([bytes(100)] * 1000)
        before = len(log.segments())
        log.truncate_before(log.last_sequence - 200)
        print(f"{before} segments, {len(log.segments())} of them still needed; the log begins at {log.first_sequence}")


def main(directory: str) -> None:
    wal.create(directory)
    append_and_read(directory)
    asyncio.run(append_from_many_tasks(directory))
    lose_power_while_writing(directory)
    meet_rot(directory)
    read_and_throw_away(directory)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(f"{temporary}/wal")
