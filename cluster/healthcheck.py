"""Is the node of this container ready? ``python -m cluster.healthcheck`` asks its /readyz and exits 0 or 1. Imports next to nothing: it runs every few seconds."""

from __future__ import annotations

import http.client
import os
import sys


def main() -> int:
    """Exit code 0: /readyz answers 200. The address is that of ``REPLOG_HTTP_ADDRESS``, asked through the loopback."""
    port = int(os.environ.get("REPLOG_HTTP_ADDRESS", "0.0.0.0:8080").rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        text = answer.read(500).decode(errors="replace").strip()
    except OSError as error:
        print(f"/readyz on port {port}: {error}", file=sys.stderr)
        return 1
    finally:
        connection.close()
    print(f"{answer.status} {text}")
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
