"""``python -m cluster``: a node, a local cluster of them, its clients, the demo and the benchmark."""

from __future__ import annotations

import os
import sys

from cluster import grpc_engine


def main() -> int:
    """Exit code 0: done; 1: the answer is no, or the cluster could not do it; 2: something must be corrected first."""
    grpc_engine.choose(os.environ)
    try:
        from cluster.cli import main as run
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich", "click"):
            raise
        print(f"error: {error.name} is not installed; allowed: pip install -e '.[cli]'", file=sys.stderr)
        return 2
    return run()


if __name__ == "__main__":
    sys.exit(main())
