"""What replog is tested with, for users to test with: the simulator, the checkers, and the suites.

`check_state_machine` is the one call for a state machine of your own; see ``docs/state-machines.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from replog.testing.machine_suite import MachineReport, StateMachineFault, check_state_machine

__all__ = ["MachineReport", "StateMachineFault", "check_state_machine"]


def __getattr__(name: str) -> Any:
    """The suite is imported when it is asked for: modules of this package also run as programs, which must not find themselves imported."""
    if name in __all__:
        from replog.testing import machine_suite

        return getattr(machine_suite, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
