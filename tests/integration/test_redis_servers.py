"""Redis as people run it: TLS, logins, socket files, databases, old and new servers, clusters of any address."""

import asyncio
import hashlib
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError, ResponseError

from cli.doctor.command import examine
from cli.errors import CannotStart
from cli.up.sockets import free_port, held_port
from cli.up.valkey import check_server
from shared.config.settings import BadSettings, load
from shared.redis import (
    AWAY,
    USEFUL,
    Script,
    ScriptRunner,
    connect_to_logs,
    listen,
    open_client,
    subscription,
    without_password,
)
from shared.redis.rights import NEEDED
from tests.support.authority import Authority
from tests.support.cluster import Cluster, running_cluster, slots
from tests.support.processes import ROOT, Child, Server, start_server, wait_until
from tests.support.redis_walk import walk
from tests.support.requirements import find_redis, require_ipv6
from tests.support.sentinel import MASTER, running_sentinels
from tests.support.stack import running_stack
from tests.support.viewing import view_to_end

OF_CLIENTS = {"acl|setuser", "multi", "exec", "discard", "auth", "hello", "client|setinfo", "select", "unsubscribe"}
"""The test's own, what connections say of themselves, and transactions."""
ACL = re.compile(r"^(user headrace .*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """One that signed nothing here."""
    return Authority(tmp_path_factory.mktemp("stranger"))


def tls(authority: Authority, port: int) -> dict[str, str]:
    certificate, key = authority.signed()
    return {
        "tls_port": str(port),
        "tls_cert_file": str(certificate),
        "tls_key_file": str(key),
        "tls_ca_cert_file": str(authority.certificate),
        "tls_auth_clients": "no",
    }


async def test_the_embedded_valkey_does_everything(shared_valkey: Server) -> None:
    await walk(shared_valkey.url)


async def test_redis_does_everything_also_over_tls_with_an_authority_of_its_own(
    tmp_path: Path, authority: Authority, stranger: Authority
) -> None:
    port = free_port()
    with start_server(tmp_path, program=find_redis(), **tls(authority, port)) as server:
        await walk(server.url)
        good = f"ssl_ca_certs={authority.certificate}"
        await walk(f"rediss://127.0.0.1:{port}?{good}")
        await walk(f"rediss://localhost:{port}/2?{good}")
        for refused in ("", f"?ssl_ca_certs={stranger.certificate}", "?ssl_ca_certs=/no/such/file.pem"):
            with pytest.raises(AWAY):
                await open_client(f"rediss://127.0.0.1:{port}{refused}").ping()
        await walk(f"rediss://127.0.0.1:{port}?ssl_cert_reqs=none")
    other = free_port()
    directory = tmp_path / "other"
    directory.mkdir()
    # 127.0.0.2 is this machine, too, and the certificate is not for it.
    with start_server(directory, program=find_redis(), bind="127.0.0.1 127.0.0.2", **tls(authority, other)):
        with pytest.raises(AWAY, match="IP address mismatch"):
            await open_client(f"rediss://127.0.0.2:{other}?{good}").ping()
        await walk(f"rediss://127.0.0.2:{other}?{good}&ssl_check_hostname=false")


async def test_a_password_opens_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    with start_server(tmp_path) as server:
        with Redis(port=server.port) as redis:
            redis.config_set("requirepass", "s3:cret/@?")
        await walk(f"redis://:s3%3Acret%2F%40%3F@127.0.0.1:{server.port}/0")
        for url in (server.url, f"redis://:wrong@127.0.0.1:{server.port}/0"):
            with pytest.raises(AWAY, match=r"(?i)auth|password"):
                await open_client(url).ping()


async def test_a_socket_file_and_database_numbers_lead_to_the_server(tmp_path: Path) -> None:
    file = tmp_path / "redis.sock"
    with start_server(tmp_path, unixsocket=str(file)) as server:
        await walk(f"unix://{file}?db=1")
        await walk(f"redis://127.0.0.1:{server.port}/3")
        await walk(f"redis://127.0.0.1:{server.port}?db=4")
        with Redis(port=server.port) as redis:
            assert sorted(redis.info("keyspace")) == ["db1", "db3", "db4"]


@pytest.mark.parametrize("kind", ["valkey", "redis"])
async def test_the_rights_that_the_docs_list_are_enough(tmp_path: Path, kind: str) -> None:
    program = find_redis() if kind == "redis" else None
    for name in ("server", "stack"):
        (tmp_path / name).mkdir()
    with start_server(tmp_path / "server", program=program) as server:
        with Redis(port=server.port) as redis:
            add_user_of_the_docs(redis)
            redis.execute_command("ACL", "SETUSER", "default", "off")
        url = f"redis://headrace:pw@127.0.0.1:{server.port}/0"
        async with running_stack(tmp_path / "stack", HEADRACE_REDIS_URL=url) as stack:
            await stack.until_ready()
            made = await stack.create({"tokens": 30}, headers={"Idempotency-Key": "k"})
            assert (await view_to_end(stack.client, made["events_url"])).types[-1] == "done"
            long = await stack.create({"tokens": 500, "interval_ms": 20})
            await stack.until_said(long["id"])
            assert (await stack.client.post(f"{long['url']}/cancel")).json()["status"] == "cancelled"
            assert (await stack.client.delete(made["url"])).status_code == 204
            found = await examine(load(stack.env()))
            assert [one for one in found if one.check == "Redis" and one.state != "ok"] == []
            with Redis.from_url(url) as redis:
                used = {name.removeprefix("cmdstat_") for name in redis.info("commandstats")}
            assert used - {*NEEDED, *USEFUL, *OF_CLIENTS} == set(), "a command that nobody looks for the right to"
            said = "".join(child.output() for child in [*stack.apis, *stack.workers])
            assert not re.search(r"(?i)noperm|permission", said)
        with Redis.from_url(url) as redis:
            for forbidden in ("FLUSHALL", "KEYS *", "CONFIG GET dir", "ACL LIST", "GET other", "PUBLISH other x"):
                with pytest.raises(NoPermissionError):
                    redis.execute_command(*forbidden.split())


@pytest.mark.parametrize("lacks", ["+time", "+script|load", "+exec", "+xadd", "~arq:*", "&headrace:*"])
async def test_a_right_that_is_missing_is_named_by_every_process(tmp_path: Path, lacks: str) -> None:
    for name in ("server", "stack"):
        (tmp_path / name).mkdir()
    with start_server(tmp_path / "server") as server:
        with Redis(port=server.port) as redis:
            add_user_of_the_docs(redis, lacks)
        url = f"redis://headrace:pw@127.0.0.1:{server.port}/0"
        async with running_stack(tmp_path / "stack", workers=0, HEADRACE_REDIS_URL=url) as stack:
            worker = Child("w", ("worker",), stack.env(), tmp_path, forked=True)
            with worker:
                for child in (worker, stack.apis[0]):
                    await asyncio.to_thread(wait_until, lambda child=child: f"rights={lacks}" in plain(child), 20)
                for path in ("/readyz", "/readyz/viewers", "/readyz/creates"):
                    answer = await stack.client.get(path)
                    assert (answer.status_code, answer.json()["code"]) == (503, "redis_rights_missing")
                    assert lacks in answer.json()["detail"]
                found = next(one for one in await examine(load(stack.env())) if one.check == "Redis")
                assert (found.state, lacks in found.mend) == ("mend", True)
                with pytest.raises(CannotStart, match=re.escape(lacks)):
                    await check_server(url, "headrace")
                with Redis(port=server.port) as redis:
                    add_user_of_the_docs(redis)
                await stack.until_ready()  # without a restart


@pytest.mark.parametrize("lacks", [("info",), ("config|get",), ("bgrewriteaof",), tuple(USEFUL)], ids="-".join)
async def test_a_missing_useful_right_stops_nothing(tmp_path: Path, lacks: tuple[str, ...]) -> None:
    for name in ("server", "stack"):
        (tmp_path / name).mkdir()
    with start_server(tmp_path / "server") as server:
        with Redis(port=server.port) as redis:
            add_user_of_the_docs(redis, *(f"+{right}" for right in lacks))
        url = f"redis://headrace:pw@127.0.0.1:{server.port}/0"
        async with running_stack(tmp_path / "stack", HEADRACE_REDIS_URL=url) as stack:
            await stack.until_ready()
            made = await stack.create({"tokens": 30})
            assert (await view_to_end(stack.client, made["events_url"])).types[-1] == "done"
            assert (await stack.client.delete(made["url"])).status_code == 204
            await check_server(url, "headrace")
            found = await examine(load(stack.env()))
            assert [one for one in found if one.check == "Redis" and one.state != "ok"] == []
            if "info" in lacks:
                assert [one.state for one in found if one.check == "server"] == ["note"]


async def test_a_refused_login_is_explained(tmp_path: Path, authority: Authority, stranger: Authority) -> None:
    port = free_port()
    with start_server(tmp_path, program=find_redis(), **tls(authority, port)) as server:
        with Redis(port=server.port) as redis:
            redis.config_set("requirepass", "right")
        secure = f"rediss://:right@127.0.0.1:{port}"
        _, key = authority.signed()
        for url, why in (
            (f"redis://:wrong@127.0.0.1:{server.port}", "refuses the user and password"),
            (f"redis://127.0.0.1:{server.port}", "wants a password"),
            (secure, "certificate is not trusted"),
            (
                f"{secure}?ssl_ca_certs={stranger.certificate}",
                "certificate is not trusted",
            ),
            (f"{secure}?ssl_ca_certs=/no/such.pem", "ssl_ca_certs .*/no/such.pem .No such"),
            (f"{secure}?ssl_ca_certs={key}", "holds nothing of that kind"),
        ):
            with pytest.raises(CannotStart, match=why) as caught:
                await check_server(url, "headrace")
            assert "right" not in str(caught.value).replace("rights", ""), "the password is shown"
            if "ssl_ca_certs" in why or "kind" in why:
                with pytest.raises(BadSettings, match=why):
                    load({"HEADRACE_REDIS_URL": url})
            else:
                found = next(
                    one for one in await examine(load({"HEADRACE_REDIS_URL": url})) if one.check == "Redis"
                )
                assert re.search(f"(?i){why}", found.mend)


def plain(child: Child) -> str:
    return re.sub(r"\x1b\[[0-9;]*m|'", "", child.output())


def add_user_of_the_docs(redis: Redis, *lacking: str) -> None:
    """``headrace``, whose password is ``pw``; without these of its rights."""
    (line,) = ACL.findall((ROOT / "docs/deployment.md").read_text(encoding="utf-8"))
    _, name, *rules = line.replace("PASSWORD", "pw").split()
    kept = [rule for rule in rules if rule not in lacking]
    taken = [f"-{right[1:]}" for right in lacking if right.startswith("+")]
    redis.execute_command("ACL", "SETUSER", name, "reset", *kept, *taken)


async def test_a_server_that_is_a_replica_is_told_as_one_that_is_away(tmp_path: Path) -> None:
    with start_server(tmp_path) as server:
        with Redis(port=server.port) as redis:
            redis.execute_command("REPLICAOF", "127.0.0.1", free_port())
        client = open_client(server.url)
        with pytest.raises(AWAY, match="takes no writes"):
            await client.set("a", "b")
        with Redis(port=server.port) as redis:
            redis.execute_command("REPLICAOF", "NO", "ONE")
        assert await client.set("a", "b")
        await client.aclose()


@pytest.fixture(scope="module")
def ipv6_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    require_ipv6()
    with running_cluster(tmp_path_factory.mktemp("cluster"), replicas=False, host="::1") as made:
        yield made


@pytest.mark.parametrize(
    ("endpoint", "hostname", "told"),
    [
        ("ip", "", {b"::1"}),
        ("hostname", "localhost", {b"localhost"}),
        ("hostname", "", {b"?"}),
        ("unknown-endpoint", "", {None}),
    ],
)
async def test_a_cluster_is_found_however_its_nodes_name_each_other(
    ipv6_cluster: Cluster, endpoint: str, hostname: str, told: set[bytes | None]
) -> None:
    clients = [Redis(host="::1", port=node.port) for node in ipv6_cluster.nodes]
    for client in clients:
        client.config_set("cluster-announce-hostname", hostname)
        client.config_set("cluster-preferred-endpoint-type", endpoint)
    await asyncio.to_thread(wait_until, lambda: all(hosts(client) == told for client in clients))
    for client in clients:
        client.close()
    await walk(ipv6_cluster.url)


def hosts(client: Redis) -> set[bytes | None]:
    return {master[0] for _, _, master, *_ in slots(client)}


async def test_a_cluster_over_tls_carries_the_options_of_its_url_to_every_node(
    tmp_path: Path, authority: Authority
) -> None:
    with ExitStack() as stack:
        ports = [stack.enter_context(held_port()) for _ in range(3)]
        each = [tls(authority, port) | {"tls_cluster": "yes", "tls_replication": "yes"} for port in ports]
        cluster = stack.enter_context(running_cluster(tmp_path, replicas=False, program=find_redis(), each=each))
        seed = f"rediss+cluster://127.0.0.1:{ports[0]}"
        await walk(f"{seed}?ssl_ca_certs={authority.certificate}")
        with pytest.raises(AWAY):
            await connect_to_logs(seed).open()
        assert len(cluster.nodes) == 3


async def test_a_master_behind_sentinels_with_passwords(tmp_path: Path) -> None:
    config = f"sentinel auth-pass {MASTER} secret\nrequirepass guarded"
    with running_sentinels(tmp_path, config=config, password="secret", sentinel_password="guarded") as watched:
        hosts = ",".join(f"127.0.0.1:{port}" for port in watched.ports)
        good = f"redis+sentinel://:secret@{hosts}/{MASTER}/2?sentinel_password=guarded"
        await walk(good)
        for bad, why in (
            (good.replace("guarded", "wrong"), "no Sentinel tells"),
            (good.replace(":secret@", ""), "(?i)auth"),
            (good.replace(f"/{MASTER}/", "/another/"), "watches no master of this name"),
        ):
            with pytest.raises(AWAY, match=why):
                await open_client(bad).ping()
        with Redis(port=watched.servers[0].port, password="secret") as redis:
            add_user_of_the_docs(redis)
        client = open_client(good.replace(":secret@", "headrace:pw@"))
        assert await client.ping()
        await client.aclose()
        assert without_password(good) == f"redis+sentinel://***@{hosts}/{MASTER}/2?sentinel_password=***"


async def test_a_sentinel_whose_machine_is_gone_delays_nothing(tmp_path: Path) -> None:
    with running_sentinels(tmp_path) as watched:
        hosts = ",".join(f"127.0.0.1:{port}" for port in (free_port(), *watched.ports))
        await walk(f"redis+sentinel://{hosts}/{MASTER}")
        nobody = f"redis+sentinel://127.0.0.1:{free_port()}/{MASTER}"
        with pytest.raises(AWAY, match="no Sentinel tells where the master 'main' is"):
            await open_client(nobody).ping()


async def test_a_subscription_comes_back_and_says_so(tmp_path: Path) -> None:
    with start_server(tmp_path) as server:
        heard: list[bytes] = []
        subscribed = asyncio.Event()
        listening = asyncio.create_task(listen(server.url, "c", heard.append, subscribed.set))
        for number in range(2):
            async with asyncio.timeout(60):
                await subscribed.wait()
                with Redis(port=server.port) as redis:
                    assert redis.publish("c", str(number)) == 1
                while len(heard) <= number:
                    await asyncio.sleep(0.01)
            subscribed.clear()
            await asyncio.to_thread(server.start_again)
        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listening
        with Redis(port=server.port) as redis:
            await asyncio.to_thread(wait_until, lambda: redis.pubsub_numsub("c") == [(b"c", 0)])
    assert heard == [b"0", b"1"]


async def test_a_subscription_to_a_server_that_stands_still_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "PING_S", 0.3)
    with start_server(tmp_path) as server:
        times = 0
        subscribed = asyncio.Event()

        def count() -> None:
            nonlocal times
            times += 1
            subscribed.set()

        listening = asyncio.create_task(listen(server.url, "c", lambda _: None, count))
        await subscribed.wait()
        await asyncio.sleep(1.0)
        assert times == 1, "a quiet channel is no lost one"
        subscribed.clear()
        server.pause()
        await asyncio.sleep(1.0)
        server.resume()
        async with asyncio.timeout(60):
            await subscribed.wait()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_calls_that_come_while_one_is_in_flight_reach_the_server_together(tmp_path: Path) -> None:
    with start_server(tmp_path, appendfsync="always") as server:
        client = open_client(server.url)
        await client.ping()
        writes = 0
        multiplexer = client._shared._multiplexer
        send = multiplexer._transport.write

        class Counting:
            def write(self, data: bytes) -> None:
                nonlocal writes
                writes += 1
                send(data)

            def __getattr__(self, name: str) -> object:
                return getattr(send.__self__, name)

        multiplexer._transport = Counting()
        calls = []
        server.pause()  # else a process that gets no core between two turns meets an answer in each of them
        for number in range(300):
            calls.append(asyncio.create_task(client.hset(f"h{number}", "field", "value")))
            await asyncio.sleep(0)  # each in a turn of the loop of its own: 300 writes without group commit
        server.resume()
        assert await asyncio.gather(*calls) == [1] * 300
        assert writes <= 10
        await client.aclose()


async def test_scripts_that_the_server_forgot_run_once_each(shared_valkey: Server) -> None:
    client = open_client(shared_valkey.url)
    runner, script = ScriptRunner(client), counting_script()
    await client.delete("counted")
    assert await runner.run(script, ["counted"], [1]) == 1
    await client.script_flush()
    assert await runner.run(script, ["counted"], [1]) == 2
    await client.script_flush()
    assert await runner.run_all(script, [(["counted"], [1])] * 5) == [3, 4, 5, 6, 7]
    assert await client.get("counted") == b"7"
    with pytest.raises(ResponseError, match="not an integer"):
        await runner.run_all(script, [(["counted"], ["x"])])
    await client.aclose()


def counting_script() -> Script:
    text = "return redis.call('INCRBY', KEYS[1], ARGV[1])"
    return Script("counting", text, hashlib.sha1(text.encode()).hexdigest())
