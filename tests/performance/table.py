"""The table of what each entry may cost, `calls_per_entry.json`, and how it is made.

::

    python -m tests.performance.table               show what each path costs now
    python -m tests.performance.table --rewrite     write that down: after a wanted change; review the difference, and say in the change why it pays
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from tests.performance.calls import Costs, calls_per_entry
from tests.performance.paths import PATHS

FILE: Final = Path(__file__).with_name("calls_per_entry.json")
PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"


def allowed(path: str) -> Costs:
    """What `path` may cost, by function."""
    costs: dict[str, float] = json.loads(FILE.read_text(encoding="utf-8"))["paths"].get(path, {})
    return costs


def python_of_the_table() -> str:
    """Which version the calls of built-in functions were counted with: another one may make others."""
    version: str = json.loads(FILE.read_text(encoding="utf-8"))["python"]
    return version


def main(arguments: list[str]) -> int:
    found = {path: calls_per_entry(run) for path, run in PATHS.items()}
    if "--rewrite" in arguments:
        FILE.write_text(json.dumps({"python": PYTHON, "paths": found}, indent=1) + "\n", encoding="utf-8")
    for path, costs in found.items():
        print(f"{path}: {sum(costs.values()):.2f} calls per entry")
        for name, cost in costs.items():
            print(f"  {cost:6.2f}  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
