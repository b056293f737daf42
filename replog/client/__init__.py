"""The asynchronous client: finds and follows the leader, batches, retries what is safe, and names each outcome."""

from replog.client.admin import AdminClient
from replog.client.calls import Consistency, Result
from replog.client.client import ReplogClient

__all__ = ["AdminClient", "Consistency", "ReplogClient", "Result"]
