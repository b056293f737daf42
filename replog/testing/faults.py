"""Weather: which faults a run has, and how strong (swarm testing: Groce et al. 2012).

A seed first draws which kinds of fault are on at all, and only then how strong each is. With everything on at once, faults hide each other: a
cluster that never settles never takes a snapshot. With a few at a time every corner is reached by some seed.

A profile restricts what may be drawn: `swarm` may draw everything. A directed profile draws only the number of nodes: it is the weather in which one kind
of bug shows soon, where swarms meet it rarely.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from random import Random
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """Strength of each kind of fault. Rates are events a virtual second (of the whole cluster), shares are probabilities. 0: off."""

    nodes: int = 3
    clients: int = 4
    operations_per_second: float = 400.0
    # network
    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    replay: float = 0.0
    delay_us_max: int = 600
    partitions: float = 0.0
    tells_lost: bool = True
    """The transport notices that a peer cannot be reached (as gRPC does); False: messages vanish unnoticed."""
    # processes
    crashes: float = 0.0
    """One node loses power or is killed."""
    blackouts: float = 0.0
    """All nodes at once."""
    restart_us_min: int = 1_000
    restart_us_max: int = 2_000_000
    pauses: float = 0.0
    drift: float = 0.0
    """Clocks run up to this share faster or slower."""
    # disks
    sync_us_max: int = 400
    slow_disks: float = 0.0
    """A disk becomes slow (up to two seconds a sync) for a while."""
    sync_failures: float = 0.0
    full_disks: float = 0.0
    rot: float = 0.0
    # the cluster's own work
    transfers: float = 0.0
    changes: float = 0.0
    """Learners added, promoted, demoted, removed."""
    replacements: float = 0.0
    """A node is wiped; another one with an empty disk joins in its place."""
    snapshots: float = 0.0
    """Snapshots asked for, beside those by count."""
    slow_applies: float = 0.0

    def without(self, name: str) -> Weather:
        """The same with the fault `name` off."""
        return replace(self, **{name: _CALM[name]})

    def active(self) -> list[str]:
        """Names of what is not as in calm weather, in a fixed order."""
        calm, mine = _CALM, asdict(self)
        return [field.name for field in fields(self) if mine[field.name] != calm[field.name] and field.name in _FAULTS]

    def describe(self) -> str:
        """One line for people."""
        mine = asdict(self)
        parts = [f"{name}={mine[name]:.4g}" if isinstance(mine[name], float) else f"{name}={mine[name]}" for name in self.active()]
        return f"{self.nodes} nodes, {self.clients} clients" + (", " + ", ".join(parts) if parts else ", no faults")


_NETWORK: Final = ("drop", "duplicate", "reorder", "replay", "delay_us_max", "partitions", "tells_lost")
_PROCESS: Final = ("crashes", "blackouts", "pauses", "drift")
_DISK: Final = ("slow_disks", "sync_failures", "full_disks", "rot")
_OWN: Final = ("transfers", "changes", "replacements", "snapshots", "slow_applies")
_FAULTS: Final = (*_NETWORK, *_PROCESS, *_DISK, *_OWN)
_CALM: Final = asdict(Weather())
PROFILES: Final[dict[str, tuple[str, ...]]] = {
    "swarm": _FAULTS,
    "calm": (),
    "network": _NETWORK,
    "crash": ("crashes", "blackouts", "pauses", "drop"),
    "quick-restarts": ("crashes", "drop", "delay_us_max", "partitions"),
    "crash-loop": ("crashes", "partitions", "drop"),
    "disk": (*_DISK, "crashes", "blackouts"),
    "membership": (*_NETWORK, "crashes", "changes", "replacements", "transfers", "snapshots"),
    "snapshots": ("snapshots", "partitions", "crashes", "drop", "slow_applies", "transfers"),
}
"""What each profile may draw."""
DIRECTED: Final[dict[str, Weather]] = {
    "stale-messages": Weather(
        operations_per_second=50.0, replay=0.9, reorder=0.2, delay_us_max=60_000, transfers=8.0, crashes=1.0, restart_us_max=100_000
    ),
    "lost-tails": Weather(
        clients=8,
        operations_per_second=500.0,
        drop=0.2,
        partitions=2.0,
        tells_lost=False,
        crashes=4.0,
        blackouts=3.0,
        restart_us_max=100_000,
    ),
    "failing-disks": Weather(operations_per_second=500.0, sync_failures=2.0, crashes=2.0, restart_us_max=100_000),
    "full-disks": Weather(operations_per_second=500.0, full_disks=3.0, crashes=0.5, partitions=0.7, snapshots=1.0, restart_us_max=100_000),
    "rotting-disks": Weather(operations_per_second=500.0, rot=2.0, crashes=0.5, restart_us_max=100_000),
    "changing-members": Weather(
        operations_per_second=300.0,
        changes=4.0,
        replacements=0.7,
        transfers=1.0,
        snapshots=2.0,
        crashes=2.0,
        partitions=1.0,
        drop=0.05,
        delay_us_max=20_000,
        restart_us_max=300_000,
    ),
    "everything": Weather(
        clients=6,
        operations_per_second=500.0,
        drop=0.05,
        duplicate=0.05,
        reorder=0.1,
        replay=0.3,
        delay_us_max=20_000,
        partitions=1.0,
        crashes=2.0,
        blackouts=0.5,
        restart_us_max=300_000,
        pauses=1.0,
        drift=0.05,
        slow_disks=0.7,
        sync_failures=0.5,
        full_disks=0.5,
        rot=0.2,
        transfers=1.0,
        changes=2.0,
        replacements=0.3,
        snapshots=2.0,
        slow_applies=1.0,
    ),
    "interrupted-installs": Weather(operations_per_second=500.0, snapshots=2.0, crashes=6.0, partitions=2.0, restart_us_max=300_000),
}
"""Fixed weathers. Messages of old terms arrive late; leaders are cut off with a tail of their own, and everything restarts; disks fail, fill up, rot,
or lose their power, while much is written; members come and go; all of it at once; processes end inside the installation of a snapshot."""
ALL_PROFILES: Final = (*PROFILES, *DIRECTED)
_ALWAYS: Final = {
    "calm": (),
    "quick-restarts": ("crashes",),
    "crash-loop": ("crashes",),
    "membership": ("changes",),
    "snapshots": ("snapshots", "partitions"),
}


def draw_weather(random: Random, profile: str = "swarm") -> Weather:
    """A weather of `profile`; raises KeyError for an unknown one."""
    if profile in DIRECTED:
        return replace(DIRECTED[profile], nodes=random.choice((3, 3, 5)))
    allowed, always = PROFILES[profile], _ALWAYS.get(profile, ())
    drawn: dict[str, object] = {
        "nodes": random.choice((3, 3, 3, 5, 5, 4, 1, 2) if profile == "swarm" else (3, 3, 5)),
        "clients": random.randint(2, 8),
    }
    share = random.choice((0.15, 0.3, 0.5))
    for name in _FAULTS:
        on = random.random() < share
        value = _strength(random, name)
        if name in allowed and (on or name in always):
            drawn[name] = value
    drawn["operations_per_second"] = random.choice((50.0, 200.0, 500.0))
    if profile == "quick-restarts":
        drawn["restart_us_min"], drawn["restart_us_max"], drawn["crashes"] = 1_000, 30_000, random.uniform(4, 15)
    elif profile == "crash-loop":
        drawn["restart_us_min"], drawn["restart_us_max"], drawn["crashes"] = 1_000, 400_000, random.uniform(3, 10)
    elif random.random() < 0.3:
        drawn["restart_us_min"], drawn["restart_us_max"] = 1_000, 30_000
    return Weather(**drawn)  # type: ignore[arg-type]  # names and types are those of the fields


def _strength(random: Random, name: str) -> object:
    """How strong a fault is when it is on."""
    match name:
        case "drop" | "duplicate" | "reorder":
            return random.choice((0.01, 0.05, 0.2))
        case "replay":
            return random.choice((0.005, 0.05))
        case "delay_us_max":
            return random.choice((3_000, 20_000, 60_000))
        case "tells_lost":
            return False
        case "drift":
            return random.choice((0.02, 0.05, 0.3))
        case "blackouts":
            return random.choice((0.05, 0.3))
        case "slow_applies":
            return random.choice((0.2, 1.0))
        case "rot" | "replacements" | "sync_failures" | "full_disks":
            return random.choice((0.1, 0.3))
        case _:
            return random.choice((0.2, 0.7, 2.0))
