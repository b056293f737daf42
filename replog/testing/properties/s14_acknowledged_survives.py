"""S14: what a node has synced is there after every restart, all nodes at once included.

With S7 (a commit is on the synced disks of a quorum) and S4 this is: no acknowledged write is ever lost.
"""

from __future__ import annotations

from replog.storage.interface import Recovered
from replog.testing.ledger import LogMirror, NodeRecord
from replog.testing.properties.base import Property


class AcknowledgedSurvives(Property):
    name = "S14"
    title = "what was synced survives every restart"
    source = "paper figure 2 (log[] is persistent); 3.2 of the thesis"

    def on_restart(self, record: NodeRecord, found: Recovered, mirror: LogMirror) -> None:
        before = record.log
        snapshot = found.snapshot.index if found.snapshot is not None else 0
        if snapshot < record.snapshot_index and not record.rotten:
            self.broken(f"{record.node} comes back with a snapshot at {snapshot}, it had synced one at {record.snapshot_index}")
        if mirror.base > snapshot:
            self.broken(f"{record.node} comes back with a log from {mirror.base + 1} on, and a snapshot only up to {snapshot}")
        if max(mirror.last_index, snapshot) < before.durable_last:
            self.broken(f"{record.node} comes back with a log up to {mirror.last_index}, it had synced up to {before.durable_last}")
        for index in range(max(mirror.base, before.base) + 1, mirror.last_index + 1):
            held = mirror.chain_at(index)
            if held != before.chain_at(index) and held != before.replaced.get(index):
                self.broken(f"{record.node} comes back with an entry at {index} that it never wrote there")
