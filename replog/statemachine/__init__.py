"""The interface an application writes."""

from replog.statemachine.interface import BytesSnapshot, StateMachine
from replog.types import CommandError, SnapshotWriter

__all__ = ["BytesSnapshot", "CommandError", "SnapshotWriter", "StateMachine"]
