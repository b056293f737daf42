"""S9: match_index never goes back in a term, next_index > match_index, and match_index <= what that follower has synced.

One way back is allowed: a follower that rejects the very index it has acknowledged, as its log ends before it, has lost its tail, and the leader starts over
from nothing. (An old rejection that is delivered again looks the same, and starting over is harmless then, too.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from replog.raft.messages import AppendEntriesReply
from replog.testing.ledger import NodeRecord
from replog.testing.properties.base import Property

if TYPE_CHECKING:
    from replog.node.replica import Replica


class MatchIndex(Property):
    name = "S9"
    title = "match_index is monotonic and true"
    source = "paper figure 2: matchIndex increases monotonically; 5.3"

    def on_acknowledged(self, record: NodeRecord, replica: Replica, reply: AppendEntriesReply) -> None:
        progress = replica.core._s.peers.get(reply.source)
        if progress is None or reply.source not in replica.core.membership.members:
            record.match_seen.pop(reply.source, None)
            return
        match, following = progress.match_index, progress.next_index
        before = record.match_seen.get(reply.source, 0)
        rejected = reply.rejected_prev_index
        if rejected is not None and rejected >= before and rejected > reply.last_index:
            before = 0
        if match < before:
            self.broken(f"{record.node} takes the match index of {reply.source} back from {before} to {match} in term {record.term}")
        record.match_seen[reply.source] = match
        if following <= match:
            self.broken(f"{record.node} has next index {following} of {reply.source}, not above its match index {match}")
        peer = self.ledger.records.get(reply.source)
        if peer is not None and match > max(peer.log.durable_last, peer.snapshot_index):
            self.broken(f"{record.node} has match index {match} of {reply.source}, which has synced only up to {peer.log.durable_last}")
