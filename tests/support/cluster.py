"""A real cluster of three masters, each with a replica, from the embedded server's binary."""

import contextlib
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from cli.sockets import held_port
from tests.support.processes import Server, start_server, wait_until

MASTERS = 3
SLOTS = 16384
NODE_TIMEOUT_MS = 1500
"""A master that is silent for this long is replaced; shorter ones fail over by mistake on a busy machine."""


class Cluster:
    """The nodes; ``url`` is what HEADRACE_REDIS_URL takes."""

    def __init__(self, nodes: list[Server]) -> None:
        self.nodes = nodes
        seeds = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        self.url = f"redis+cluster://{seeds}"

    def masters(self) -> list[Server]:
        """The nodes that serve now."""
        found = []
        for node in self.nodes:
            with contextlib.suppress(RedisError, OSError), Redis(port=node.port) as redis:
                if redis.info("replication")["role"] == "master":
                    found.append(node)
        return found

    def master_of(self, key: str) -> Server:
        """The node that serves this key now."""
        for node in self.nodes:
            with contextlib.suppress(RedisError, OSError), Redis(port=node.port) as redis:
                slot = redis.execute_command("CLUSTER", "KEYSLOT", key)
                for first, last, (_, port, *_), *_ in slots(redis):
                    if first <= slot <= last:
                        return next(n for n in self.nodes if n.port == port)
        raise AssertionError("no node answers")


def slots(redis: Redis) -> list:
    redis.response_callbacks.pop("CLUSTER SLOTS", None)
    return redis.execute_command("CLUSTER SLOTS")


@contextlib.contextmanager
def running_cluster(directory: Path, **config: str) -> Iterator[Cluster]:
    """A cluster that is gone when the block ends. ``config``: more of the nodes' settings."""
    with ExitStack() as stack:
        nodes = []
        # The nodes' usual port for each other is 10,000 above their own, and may be anybody's.
        buses = [stack.enter_context(held_port()) for _ in range(2 * MASTERS)]
        for number, bus in enumerate(buses):
            place = directory / f"node-{number}"
            place.mkdir()
            node = start_server(
                place,
                cluster_enabled="yes",
                cluster_port=str(bus),
                cluster_node_timeout=str(NODE_TIMEOUT_MS),
                cluster_replica_validity_factor="0",
                **config,
            )
            stack.callback(node.stop)
            nodes.append(node)
        clients = [stack.enter_context(Redis(port=node.port)) for node in nodes]
        for number, client in enumerate(clients[:MASTERS]):
            first, last = number * SLOTS // MASTERS, (number + 1) * SLOTS // MASTERS - 1
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
        for node, bus in zip(nodes[1:], buses[1:], strict=True):
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        wait_until(lambda: all(known(client) == 2 * MASTERS for client in clients), what="the nodes to meet")
        for number, client in enumerate(clients[MASTERS:]):
            master = clients[number].execute_command("CLUSTER", "MYID").decode()
            client.execute_command("CLUSTER", "REPLICATE", master)
        wait_until(lambda: all(ready(client) for client in clients), what="the cluster to be ready")
        time.sleep(0.5)
        yield Cluster(nodes)


def known(client: Redis) -> int:
    return int(client.execute_command("CLUSTER INFO")["cluster_known_nodes"])


def ready(client: Redis) -> bool:
    info = client.execute_command("CLUSTER INFO")
    links = client.info("replication")
    return info["cluster_state"] == "ok" and (
        (links["role"] == "master" and links["connected_slaves"] == 1) or links.get("master_link_status") == "up"
    )
