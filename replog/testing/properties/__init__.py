"""The checked properties: S1 to S16 here, at every step; L1 and L2 in `replog.testing.properties.liveness`, after healing."""

from __future__ import annotations

from replog.testing.properties.base import Property
from replog.testing.properties.s01_one_leader import OneLeader
from replog.testing.properties.s02_leader_append_only import LeaderAppendOnly
from replog.testing.properties.s03_log_matching import LogMatching
from replog.testing.properties.s04_leader_completeness import LeaderCompleteness
from replog.testing.properties.s05_committed_once import CommittedOnce
from replog.testing.properties.s06_never_back import NeverBack
from replog.testing.properties.s07_synced_quorum import SyncedQuorum
from replog.testing.properties.s08_promise_is_synced import PromiseIsSynced
from replog.testing.properties.s09_match_index import MatchIndex
from replog.testing.properties.s10_commit_own_term import CommitOwnTerm
from replog.testing.properties.s11_one_change import OneChange
from replog.testing.properties.s12_fresh_reads import FreshReads
from replog.testing.properties.s13_applied_once import AppliedOnce
from replog.testing.properties.s14_acknowledged_survives import AcknowledgedSurvives
from replog.testing.properties.s15_equal_states import EqualStates
from replog.testing.properties.s16_linearizable import Linearizable

SAFETY: tuple[type[Property], ...] = (
    OneLeader,
    LeaderAppendOnly,
    LogMatching,
    LeaderCompleteness,
    CommittedOnce,
    NeverBack,
    SyncedQuorum,
    PromiseIsSynced,
    MatchIndex,
    CommitOwnTerm,
    OneChange,
    FreshReads,
    AppliedOnce,
    AcknowledgedSurvives,
    EqualStates,
    Linearizable,
)
"""In the order of their numbers. S5 also writes the ledger's commitments, so it always runs, before those that read them."""

__all__ = ["SAFETY", "Property"]
