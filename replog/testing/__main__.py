"""``python -m replog.testing``: the checker on a history file, the simulator on a seed."""

from __future__ import annotations

import sys

from replog.testing.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
