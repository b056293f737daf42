"""The Raft core without I/O: `RaftCore` takes verbs, and gives one `Ready` per batch of inputs.

Nothing here imports asyncio, reads a clock, draws a random number, touches a disk or a socket, logs or counts. Usable alone: see `replog.testing.cores`
for the smallest driver there is.
"""

from replog.raft.config import CoreConfig
from replog.raft.core import RaftCore
from replog.raft.membership import AddLearner, AddVoter, MembershipChange, RemoveNode, UpdateMember
from replog.raft.ready import Ready

__all__ = ["AddLearner", "AddVoter", "CoreConfig", "MembershipChange", "RaftCore", "Ready", "RemoveNode", "UpdateMember"]
