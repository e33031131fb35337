"""Fixtures of the end-to-end tests: everything as real processes."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.support.page import open_browser
from tests.support.requirements import require_model
from tests.support.stack import Stack, running_stack
from tests.support.up import Up


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


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(chromium: Path) -> AsyncIterator[Browser]:
    """One Chromium for all tests, each of which opens a context of its own. They run in the session's loop."""
    async with open_browser(chromium) as browser:
        yield browser


@pytest.fixture(scope="session")
def headrace_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`headrace up` as a person starts it, with the real model: where its page is."""
    require_model()
    with Up(tmp_path_factory.mktemp("up")) as child:
        yield child.wait_up().url
