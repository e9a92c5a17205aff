"""Every bound of the protocol and of the server's queues, in one place (decision 16).

Sizes are bytes, counts are items, times are milliseconds unless the name says otherwise.
"""

PROTOCOL_VERSION = 1

# Frames
FRAME_HEADER_SIZE = 4
FRAME_SIZE_MAX = 1 << 20
"""A client's frame, header excluded."""
FRAME_MESSAGES_MAX = 4_096
"""Requests in one frame."""
PEER_FRAME_SIZE_MAX = 64 << 20
"""A peer's frame: a message of entries, each of a batch of about a megabyte."""
HELLO_TIMEOUT_MS = 5_000
HELLO_FRAME_SIZE_MAX = 64 << 10
"""A frame of one who has not been let in yet, on either port."""
CLIENT_SILENCE_MS = 30_000
"""A client whose host answers nothing for so long, not even TCP's probes, is disconnected."""
PEER_SILENCE_MS = 3_000
"""The same for a peer."""

# Names and values
RESOURCE_SIZE_MAX = 512
OWNER_SIZE_MAX = 256
METADATA_SIZE_MAX = 1_024
METADATA_KEYS_MAX = 64
REASON_SIZE_MAX = 1_024
NONCE_SIZE = 16
TTL_MS_MIN = 100
TTL_MS_MAX = 24 * 3_600_000
SESSION_TTL_MS_MIN = 1_000
SESSION_TTL_MS_MAX = 300_000
SESSION_TTL_MS_DEFAULT = 10_000
WAIT_MS_MAX = 24 * 3_600_000
RENEW_ITEMS_MAX = 1_000
LIST_PAGE_MAX = 1_000
AUDIT_PAGE_MAX = 1_000
"""Records of a page of the audit."""
AUDIT_PAGE_SIZE_MAX = 256 << 10
"""Bytes of records after which such a page ends."""
OPERATION_SIZE_MAX = 32
"""The name of an operation, as records have it."""
CURSOR_SIZE_MAX = 1_024
SLOTS_MAX = 4_096
NUMBER_MAX = (1 << 53) - 1
"""Tokens, ids and counters fit in a double (rule T1)."""

# Members
NODE_ID_MAX = 65_535
INCARNATION_SIZE_MAX = 64
ADDRESS_SIZE_MAX = 261
"""A name of 253 bytes, a colon and a port; an IPv6 address in brackets is shorter."""
MEMBERS_MAX = 32
"""Members of a cluster, learners too: each gets every entry from the leader, and is named in each hello."""
REMOVED_KEPT_MAX = 64
"""Incarnations of removed members that the membership remembers, so that they do not come back."""
PROMOTE_BEHIND_MAX = 64
"""Entries that a learner may lack when it becomes a voter: a window of messages (RaftConfig), as any follower may that
keeps up. One that lacks more would count in the quorum long before it can help to commit."""
MEMBERS_RETRY_MS = 100
"""While one change of the members is under way, another is to be asked for again after so long."""

# Leases
OFFER_MS_MAX = 2_000
LOGGED_RENEWAL_TTL_MS_DEFAULT = 60_000

# Apply
STEPS_PER_COMMAND_MAX = 500
EXPIRIES_PER_ENTRY_MAX = 2_000

# Queues
WAITERS_PER_RESOURCE_MAX = 100_000
SESSIONS_MAX = 1_000_000
REQUESTS_PER_CONNECTION_MAX = 8_192
"""Requests of one connection without an answer; beyond it the server stops reading from it."""
ORDINARY_REQUESTS_MAX = 65_536
"""Requests of the ordinary budget without an answer, over all connections."""
RESERVED_REQUESTS_MAX = 262_144
"""What all other requests may add to that; each item of a renew counts as one."""
PAGES_PER_TURN_MAX = 16
"""Pages of lists that one turn answers, over all connections; more get OVERLOADED."""
AUDIT_READS_MAX = 256
"""Pages of the audit that wait to be read, over all connections; more get OVERLOADED."""
AUDIT_READS_PER_CONNECTION_MAX = 4
"""And of one connection: one page after the other is read, so nobody has more of the queue."""
AUDIT_SCAN_SIZE_MAX = 2 << 20
"""Bytes of entries and results that are looked at for one page, and ..."""
AUDIT_SCAN_FILES_MAX = 64
"""... files of which it takes or passes over anything; a page that finds nothing ends there too."""
AUDIT_UNDER_WAY_SIZE_MAX = 64 << 20
"""Bytes that were applied and not yet recorded; beyond it apply waits for the audit."""
TURN_WORK_MAX = 10_000
"""What one turn of a node takes on of clients' frames, in units of about a microsecond; the rest waits for the next."""
TURN_SHARE = 512
"""The same, of one connection before the next connection has its turn, while there are others."""
LIGHT_REQUESTS_MAX = 256
"""A connection with so few requests without an answer may use all of the ordinary budget; others leave a quarter."""
WAITING_SIZE_MAX = 64 << 20
"""Bytes of frames that came and are not looked at yet: more is told OVERLOADED. What a new leader holds until it has
applied an entry of its own term is among them."""
CLIENT_WAITING_SIZE_MAX = 16 << 10
"""Bytes of one client's frames that wait; beyond it the server stops reading from it."""
CONNECTIONS_MAX = 20_000
PEER_CALLERS_MAX = 256
"""Connections on the peer port of callers that are not known as members yet."""
CLIENT_SEND_BUFFER_SIZE = 256 << 10
"""What the system is asked to keep of a client's unread answers: its own choice grows to megabytes, each of which a
client that never reads may fill before anybody notices."""
WRITE_BUFFER_PAUSE_SIZE = 256 << 10
"""Unread answers of one client, beyond those, at which the server stops reading from it."""
WRITE_BUFFER_CLOSE_SIZE = 16 << 20
"""A client that does not read its answers is disconnected at this backlog."""
CLIENT_READ_SIZE_MAX = 16 << 10
"""Bytes read from one client before all others, and the peers, had their turn."""
UNREAD_MS = 10_000
"""One that has a backlog and reads nothing at all is disconnected after so long."""
SESSIONS_PER_CONNECTION_MAX = 4_096

# HTTP
HTTP_BODY_SIZE_MAX = 16 << 10
HTTP_CONNECTIONS_MAX = 4_096
HTTP_REQUESTS_MAX = 2_048
"""Requests under way on one node, waiting ones and withdrawals of callers who left included."""
HTTP_HEADER_TIMEOUT_S = 10
"""A request's first byte to its last header, and as long again for its body."""
HTTP_IDLE_TIMEOUT_S = 60
"""A kept-alive connection without a request is closed."""
HTTP_WAIT_S_MAX = 3_600
HTTP_IDEMPOTENCY_KEY_SIZE_MAX = 256
