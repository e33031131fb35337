"""A real master with a replica and three Sentinels, from the embedded server's binary."""

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from cli.up.sockets import held_port
from cli.up.valkey import find_server
from tests.support.probes import pong
from tests.support.processes import Child, Server, base_env, start_server, wait_until

SENTINELS = 3
QUORUM = 2
DOWN_AFTER_MS = 1000
"""A master that is silent for this long is replaced; shorter ones fail over by mistake on a busy machine."""
MASTER = "main"


class Watched:
    """The servers; ``url`` is what HEADRACE_REDIS_URL takes."""

    def __init__(self, servers: list[Server], ports: list[int]) -> None:
        self.servers = servers
        self.ports = ports
        self.url = f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in ports)}/{MASTER}"

    def master(self) -> Server:
        """The server that Sentinel tells, once it is a master. Fails the test where that never comes."""
        return wait_until(self._master, what="a master")

    def wait_for_replica(self) -> None:
        """Wait until every Sentinel sees a replica that may take over."""
        wait_until(lambda: all(sees_all(port) for port in self.ports), what="a replica")

    def _master(self) -> Server | None:
        for sentinel in self.ports:
            with contextlib.suppress(RedisError, OSError):
                with Redis(port=sentinel) as redis:
                    _, port = redis.sentinel_get_master_addr_by_name(MASTER)
                with Redis(port=port) as redis:
                    if redis.info("replication")["role"] == "master":
                        return next(server for server in self.servers if server.port == port)
        return None


@contextlib.contextmanager
def running_sentinels(
    directory: Path, *, config: str = "", password: str = "", sentinel_password: str = "", **servers: str
) -> Iterator[Watched]:
    """Gone when the block ends. ``config``: more lines for the Sentinels, which must tell the passwords;
    ``servers``: settings of the servers."""
    with ExitStack() as stack:
        made = []
        for number in range(2):
            place = directory / f"server-{number}"
            place.mkdir()
            # A server remembers here whom a Sentinel told it to follow.
            (place / "server.conf").touch()
            server = start_server(
                place, config_file=str(place / "server.conf"), repl_diskless_sync_delay="0", **servers
            )
            stack.callback(server.stop)
            made.append(server)
        with Redis(port=made[1].port) as redis:
            redis.execute_command("REPLICAOF", "127.0.0.1", made[0].port)
            redis.config_rewrite()
        for server in made if password else ():
            with Redis(port=server.port) as redis:
                redis.config_set("masterauth", password)
                redis.config_set("requirepass", password)
        ports = [stack.enter_context(held_port()) for _ in range(SENTINELS)]
        for port in ports:
            place = directory / f"sentinel-{port}"
            place.mkdir()
            file = place / "sentinel.conf"
            file.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {place}\n"
                f"sentinel monitor {MASTER} 127.0.0.1 {made[0].port} {QUORUM}\n"
                f"sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}\n"
                f"sentinel failover-timeout {MASTER} 10000\n{config}\n"
            )
            argv = (str(find_server()), str(file), "--sentinel")
            child = stack.enter_context(Child(f"sentinel-{port}", argv, base_env(), place))
            child.wait_ready(lambda port=port: pong(port) or sentinel_password)
        wait_until(lambda: all(sees_all(port, sentinel_password) for port in ports), what="the Sentinels to meet")
        yield Watched(made, ports)


def sees_all(port: int, password: str = "") -> bool:
    with contextlib.suppress(RedisError, OSError), Redis(port=port, password=password or None) as redis:
        master = redis.sentinel_masters()[MASTER]
        replicas = redis.sentinel_slaves(MASTER)
        return (
            master["num-other-sentinels"] == SENTINELS - 1
            and not master["is_odown"]
            and len(replicas) == 1
            and not replicas[0]["is_sdown"]
            and replicas[0]["master-link-status"] == "ok"
        )
    return False
