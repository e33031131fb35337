"""Fixtures of every kind of test, and the check that no process outlives them."""

import gc
import os
import shutil
import signal
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import certifi
import pytest
from hypothesis import settings

from tests.support.ag_ui import AgUi
from tests.support.ai_sdk import AiSdk
from tests.support.node import Node
from tests.support.process_tree import adopt_orphans, children
from tests.support.processes import SETTINGS, Child, Server, start_model, start_server
from tests.support.requirements import find_chromium, find_node, require_model
from tests.support.template import end_templates

MEMORY = Path("/dev/shm")
"""Where Linux keeps files in memory. Servers sync their files before they answer, which may take seconds on a disk
that other programs use. Tests that ask something of a disk bring one along."""
ROOM = 4 * 1024**3
"""Bytes that must be free there: a run writes 140 MB."""
LEFT_WITHIN_S = 20.0
"""What was just told to end may take a moment."""

LONGEST = (
    "test_page",
    "test_long_outages",
    "test_ai_sdk",
    "test_page_views",
    "test_ag_ui_deaths",
    "test_chaos_short",
    "test_ai_sdk_react",
    "test_client",
    "test_sentinel",
    "test_up",
    "test_redis_servers",
    "test_lost_workers",
    "test_frameworks",
    "test_erased_text",
    "test_responses_deaths",
    "test_responses_clients",
    "test_cluster",
    "test_hostile_short",
    "test_schema",
    "test_dialect_deaths",
    "test_backpressure",
    "test_edge",
    "test_llmock",
    "test_lost_redis",
    "test_viewer_faults",
    "test_continuation",
    "test_provider_faults",
    "test_hostile_providers",
    "test_arq",
    "test_metrics_and_logs",
    "test_page_markdown",
    "test_article",
    "test_libraries",
    "test_page_keys",
    "test_clock_jumps",
    "test_disk_full",
    "test_terminal",
    "test_fairness",
    "test_full_memory",
    "test_ag_ui_cuts",
    "test_cluster_client",
    "test_responses_doors",
)
"""Files that take five seconds and more: they begin first, so that no worker of pytest-xdist is left alone with one
at the end. One in three computes, as a browser does, and two mostly wait: files that all wait would leave the cores
idle. The list is a hint; a file that is missing in it costs time at worst."""
KINDS = ("e2e", "integration")
"""Folders whose tests wait for processes; what only computes fills the gaps behind them."""


def pytest_configure() -> None:
    """Files go to memory, where there is room. An input that takes long on a busy machine is no fault: hypothesis
    would fail it after 0.2 s."""
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
    gc.disable()  # until all is collected: a tenth of that time, and what modules hold is no garbage
    settings.register_profile("headrace", deadline=None)
    settings.load_profile("headrace")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order whole files: the longest first, the shortest last."""

    def place(item: pytest.Item) -> tuple[int, int]:
        kind, name = item.path.parent.name, item.path.stem
        rank = LONGEST.index(name) if name in LONGEST else len(LONGEST)
        return rank, KINDS.index(kind) if kind in KINDS else len(KINDS)

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """What was collected lives to the end: a garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure's lines are found by `ast.parse`. A garbage collection in its middle may format another traceback,
    by `ast.parse` too; Python 3.11 takes that for a fault of its own (gh-106905), and the whole run would end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


PERSONAL = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "SSL_CERT_DIR")
LOOPBACK = "localhost,127.0.0.1,::1"


@pytest.fixture(scope="session", autouse=True)
def environment_of_nobody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a person has set changes no test: settings, a provider's key, trusted certificates, the width of a
    terminal. A proxy stays, but this machine is not asked through it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if SETTINGS.fullmatch(name) or name in PERSONAL]:
            patch.delenv(name)
        patch.setenv("SSL_CERT_FILE", str(_one_authority(tmp_path_factory.getbasetemp())))
        if any(name.lower().endswith("_proxy") for name in os.environ):
            direct = ",".join(filter(None, (os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), LOOPBACK)))
            patch.setenv("NO_PROXY", direct)
            patch.setenv("no_proxy", direct)
        yield


def _one_authority(directory: Path) -> Path:
    """A file with one of the authorities that the world trusts. To load them all takes 0.02 s of CPU, and an HTTP
    client does it even if it will speak no TLS."""
    first, end, _ = Path(certifi.where()).read_text(encoding="utf-8").partition("-----END CERTIFICATE-----\n")
    file = directory / "one-authority.pem"
    file.write_text(first + end, encoding="utf-8")
    return file


@pytest.fixture(scope="session", autouse=True)
def no_process_is_left() -> Iterator[None]:
    """Fails the run if a process that a test started still runs at its end (and ends it, by its pid)."""
    adopt_orphans()
    before = set(children())
    yield
    end_templates()
    deadline = time.monotonic() + LEFT_WITHIN_S
    while (left := _since(before)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"processes were left behind (and are now ended): {left}"


def _since(before: set[int]) -> dict[int, str]:
    return {pid: command for pid, command in children().items() if pid not in before}


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Server]:
    """A real server of the test's own, with an append-only file; it may be killed and started again."""
    directory = tmp_path / "valkey"
    directory.mkdir()
    with start_server(directory) as server:
        yield server


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    """The real local model, on one thread; ``model.url`` is its base URL (``http://…/v1``)."""
    require_model()
    with start_model(tmp_path_factory.mktemp("model")) as child:
        yield child


@pytest.fixture(scope="session")
def node_scenarios() -> Iterator[Node]:
    """The Node that runs what other people wrote for browsers."""
    node = Node()
    yield node
    node.close()


@pytest.fixture(scope="session")
def ai_sdk(node_scenarios: Node) -> AiSdk:
    """The AI SDK's clients."""
    return AiSdk(node_scenarios)


@pytest.fixture(scope="session")
def ag_ui(node_scenarios: Node) -> AgUi:
    """AG-UI's clients."""
    return AgUi(node_scenarios)


@pytest.fixture(scope="session")
def chromium() -> Path:
    """The path of a Chromium. Skips by name without one; fails under CI=true."""
    return find_chromium()


@pytest.fixture(scope="session")
def node() -> Path:
    """The path of a Node. Skips by name without one; fails under CI=true."""
    return find_node()
