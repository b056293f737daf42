"""Snapshots on disk: `store` writes, verifies and keeps them, `arrivals` and `chunks` take in one from another node, `format` has the bytes."""

from replog.snapshot.store import SnapshotStore, verify_file

__all__ = ["SnapshotStore", "verify_file"]
