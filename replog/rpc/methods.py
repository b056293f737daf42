"""The gRPC methods by their full names, as bytes in and bytes out.

No (de)serializer is given to gRPC: a message that does not parse is then not gRPC's INTERNAL error but ours, with a name and a reason; and a batch can be
serialized once for several receivers.
"""

from __future__ import annotations

from typing import Final

RAFT_SERVICE: Final = "replog.raft.v1.Raft"
CLIENT_SERVICE: Final = "replog.client.v1.Client"
ADMIN_SERVICE: Final = "replog.admin.v1.Admin"

DELIVER: Final = f"/{RAFT_SERVICE}/Deliver"
SESSION: Final = f"/{CLIENT_SERVICE}/Session"

STATUS: Final = "Status"
HEALTH: Final = "Health"
CHANGE_MEMBERSHIP: Final = "ChangeMembership"
REPLACE_MEMBER: Final = "ReplaceMember"
TRANSFER_LEADERSHIP: Final = "TransferLeadership"
SNAPSHOT_TAKE: Final = "SnapshotTake"


def admin_method(name: str) -> str:
    """Full name of a method of the admin service."""
    return f"/{ADMIN_SERVICE}/{name}"


PROTOCOL_VERSION: Final = 1
"""Said in every hello; a node or client of another version is refused with both named."""
