"""Fixtures of the tests against a real server (never one that happens to run on 6379)."""

from collections.abc import Iterator

import pytest

from tests.support.processes import Server, start_server


@pytest.fixture(scope="package")
def shared_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that only need *a* server: each works under a key prefix of its own."""
    with start_server(tmp_path_factory.mktemp("shared-valkey")) as server:
        yield server
