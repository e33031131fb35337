"""All sockets to Redis, and every use of redis-py's insides. All other code reaches Redis through this room.

:func:`open_client` gives a client for scripts and plain keys. :func:`connect_to_logs` gives a connection that only
its owner opens. :func:`listen` calls a function for each message of a channel. Each takes a URL
(:mod:`shared.redis.urls`) of a server, a socket file, a cluster or a master behind Sentinel. :func:`load_scripts`
reads the Lua scripts, and :class:`ScriptRunner` runs them. :func:`missing_rights` and :func:`why_refused` tell what
a server does not allow its user. :data:`AWAY` are the errors of a server that is away. Elsewhere redis-py is
imported only for the type of a client that is handed in, and for its errors.
"""

from shared.redis.arq_server import arq_server
from shared.redis.client import (
    MultiplexedRedis,
    check_masters,
    errors_of,
    leave_streams_raw,
    memory_of,
    open_client,
)
from shared.redis.cluster import LogConnection, connect_to_logs, node_urls
from shared.redis.commands import Command, by_command, command, is_out_of_memory, is_trouble, reason
from shared.redis.connection import AWAY, check_certificates
from shared.redis.rights import USEFUL, may, missing_rights, what_to_grant, why_refused
from shared.redis.scripts import FLAGS, Script, ScriptRunner, load_script, load_scripts, teach
from shared.redis.subscription import listen
from shared.redis.urls import BadUrl, address_of, read_url, without_password

__all__ = [
    "AWAY",
    "FLAGS",
    "USEFUL",
    "BadUrl",
    "Command",
    "LogConnection",
    "MultiplexedRedis",
    "Script",
    "ScriptRunner",
    "address_of",
    "arq_server",
    "by_command",
    "check_certificates",
    "check_masters",
    "command",
    "connect_to_logs",
    "errors_of",
    "is_out_of_memory",
    "is_trouble",
    "leave_streams_raw",
    "listen",
    "load_script",
    "load_scripts",
    "may",
    "memory_of",
    "missing_rights",
    "node_urls",
    "open_client",
    "read_url",
    "reason",
    "teach",
    "what_to_grant",
    "why_refused",
    "without_password",
]
