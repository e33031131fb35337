"""Fixtures of the end-to-end tests: everything as real processes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.stack import Stack, running_stack


@pytest_asyncio.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """One API process, two workers, a scripted provider and a server of this test's own."""
    async with running_stack(tmp_path, workers=2) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """As ``stack``, one for all tests of a module that break nothing in it."""
    async with running_stack(tmp_path_factory.mktemp("stack"), workers=2) as made:
        yield made
