"""All sockets to Redis, and every use of redis-py's insides. Whoever needs Redis takes it from here.

:func:`open_client` gives a client for scripts and plain keys, :func:`connect_to_logs` a connection that its owner
opens on purpose, :func:`listen` hears a channel's messages, and :func:`load_scripts` the Lua scripts. Each takes
what a URL may name (:mod:`shared.redis.urls`): a server, a socket file, a cluster, a master behind Sentinel.
Elsewhere redis-py stands only for the type of a client that is handed in, and for its errors; :data:`AWAY` are
those that say that a server is away.
"""

from shared.redis.arq_server import arq_server
from shared.redis.client import (
    MultiplexedRedis,
    check_masters,
    errors_of,
    leave_streams_raw,
    may,
    memory_of,
    open_client,
)
from shared.redis.cluster import LogConnection, connect_to_logs, node_urls
from shared.redis.commands import Command, by_command, command, is_out_of_memory, is_trouble, reason
from shared.redis.connection import AWAY
from shared.redis.scripts import FLAGS, Script, ScriptRunner, load_script, load_scripts, teach
from shared.redis.subscription import listen
from shared.redis.urls import BadUrl, address_of, read_url, without_password

__all__ = [
    "AWAY",
    "FLAGS",
    "BadUrl",
    "Command",
    "LogConnection",
    "MultiplexedRedis",
    "Script",
    "ScriptRunner",
    "address_of",
    "arq_server",
    "by_command",
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
    "node_urls",
    "open_client",
    "read_url",
    "reason",
    "teach",
    "without_password",
]
