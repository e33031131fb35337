"""A real cluster of three masters, each with a replica, from the embedded server's binary."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from cli.up.sockets import held_port
from tests.support.processes import Server, start_server, wait_until

MASTERS = 3
SLOTS = 16384
NODE_TIMEOUT_MS = 1500
"""A master that is silent for this long is replaced; shorter ones fail over by mistake on a busy machine."""


class Cluster:
    """The nodes; ``url`` is what HEADRACE_REDIS_URL takes."""

    def __init__(self, nodes: list[Server], host: str = "127.0.0.1") -> None:
        self.nodes = nodes
        shown = f"[{host}]" if ":" in host else host
        self.url = f"redis+cluster://{','.join(f'{shown}:{node.port}' for node in nodes)}"

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
def running_cluster(
    directory: Path,
    *,
    replicas: bool = True,
    host: str = "127.0.0.1",
    program: Path | None = None,
    each: Sequence[Mapping[str, str]] = (),
    **config: str,
) -> Iterator[Cluster]:
    """A cluster that is gone when the block ends. ``host``: the address that its nodes tell of themselves;
    ``program`` as a server's; ``each``: more settings of each node, ``config``: of all."""
    with ExitStack() as stack:
        nodes: list[Server] = []
        count = 2 * MASTERS if replicas else MASTERS
        # The nodes' usual port for each other is 10,000 above their own, and may be anybody's.
        buses = [stack.enter_context(held_port()) for _ in range(count)]
        for number, bus in enumerate(buses):
            place = directory / f"node-{number}"
            place.mkdir()
            node = start_server(
                place,
                program=program,
                bind="127.0.0.1 -::1",
                cluster_announce_ip=host,
                cluster_enabled="yes",
                cluster_port=str(bus),
                cluster_node_timeout=str(NODE_TIMEOUT_MS),
                cluster_replica_validity_factor="0",
                **(each[number] if each else {}),
                **config,
            )
            stack.callback(node.stop)
            nodes.append(node)
        clients = [stack.enter_context(Redis(port=node.port)) for node in nodes]
        for number, client in enumerate(clients[:MASTERS]):
            first, last = number * SLOTS // MASTERS, (number + 1) * SLOTS // MASTERS - 1
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
        for node, bus in zip(nodes[1:], buses[1:], strict=True):
            clients[0].execute_command("CLUSTER", "MEET", host, node.port, bus)
        wait_until(lambda: all(known(client) == count for client in clients), what="the nodes to meet")
        for number, client in enumerate(clients[MASTERS:]):
            master = clients[number].execute_command("CLUSTER", "MYID").decode()
            client.execute_command("CLUSTER", "REPLICATE", master)
        wait_until(
            lambda: all(ready(client, replicas=replicas) for client in clients), what="the cluster to be ready"
        )
        time.sleep(0.5)
        yield Cluster(nodes, host)


def known(client: Redis) -> int:
    return int(client.execute_command("CLUSTER INFO")["cluster_known_nodes"])


def ready(client: Redis, *, replicas: bool) -> bool:
    info = client.execute_command("CLUSTER INFO")
    if not replicas:
        return bool(info["cluster_state"] == "ok")
    links = client.info("replication")
    return info["cluster_state"] == "ok" and (
        (links["role"] == "master" and links["connected_slaves"] == 1) or links.get("master_link_status") == "up"
    )
