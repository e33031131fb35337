"""A master with a replica, and three Sentinels that watch over them, from the embedded server's binary."""

import contextlib
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from cli.sockets import held_port
from cli.valkey import find_server
from tests.support.probes import pong
from tests.support.processes import Child, Server, base_env, start_server, wait_until

NAME = "headrace"
REPLICAS = 1
SENTINELS = 3
DOWN_AFTER_MS = 1500
"""A master that is silent for this long is replaced; shorter ones fail over by mistake on a busy machine."""


class Sentinels:
    """The nodes; ``url`` is what HEADRACE_REDIS_URL takes."""

    def __init__(self, nodes: list[Server], ports: list[int]) -> None:
        self.nodes = nodes
        self.ports = ports
        seeds = ",".join(f"127.0.0.1:{port}" for port in ports)
        self.url = f"redis+sentinel://{seeds}/{NAME}"

    def master(self) -> Server:
        """The node that most Sentinels take for the master now."""
        told = []
        for port in self.ports:
            with contextlib.suppress(RedisError, OSError), Redis(port=port) as redis:
                address = redis.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
                told.append(int(address[1]))
        most = max(told, key=told.count)
        return next(node for node in self.nodes if node.port == most)


@contextlib.contextmanager
def running_sentinels(directory: Path, **config: str) -> Iterator[Sentinels]:
    """All of it is gone when the block ends. ``config``: more of the nodes' settings."""
    with ExitStack() as stack:
        nodes: list[Server] = []
        for number in range(1 + REPLICAS):
            place = directory / f"node-{number}"
            place.mkdir()
            follow = {"replicaof": f"127.0.0.1 {nodes[0].port}"} if nodes else {}
            # A Sentinel tells a node whom to follow, and the node must know that when it starts again.
            file = place / "node.conf"
            file.write_text("".join(f"{name} {value}\n" for name, value in follow.items()))
            node = start_server(place, config_file=str(file), repl_diskless_sync_delay="0", **config)
            stack.callback(node.stop)
            nodes.append(node)
        ports = [stack.enter_context(held_port()) for _ in range(SENTINELS)]
        for number, port in enumerate(ports):
            place = directory / f"sentinel-{number}"
            place.mkdir()
            file = place / "sentinel.conf"
            lines = (
                f"port {port}",
                "bind 127.0.0.1",
                f"dir {place}",
                f"sentinel monitor {NAME} 127.0.0.1 {nodes[0].port} {SENTINELS // 2 + 1}",
                f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}",
                f"sentinel failover-timeout {NAME} {4 * DOWN_AFTER_MS}",
            )
            file.write_text("\n".join(lines) + "\n")
            argv = (str(find_server()), str(file), "--sentinel")
            child = Child(f"sentinel-{number}", argv, base_env(), place, orphaned=signal.SIGTERM)
            stack.callback(child.terminate)
            child.wait_ready(lambda port=port: pong(port))
        wait_until(lambda: all(knows_all(port) for port in ports), what="the Sentinels to know each other")
        yield Sentinels(nodes, ports)


def knows_all(port: int) -> bool:
    with Redis(port=port) as redis:
        words = redis.execute_command("SENTINEL", "MASTER", NAME)
    told = words if isinstance(words, dict) else dict(zip(words[::2], words[1::2], strict=True))
    told = {name.decode() if isinstance(name, bytes) else name: value for name, value in told.items()}
    return int(told["num-slaves"]) == REPLICAS and int(told["num-other-sentinels"]) == SENTINELS - 1
