"""A stack with several API keys, and creates of each."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from shared.config.api_keys import new_api_key
from tests.support.stack import Stack, running_stack


class KeyRing:
    """Some API keys, by the names of their owners."""

    def __init__(self, *names: str) -> None:
        made = {name: new_api_key(name) for name in names}
        self.secrets = {name: secret for name, (secret, _) in made.items()}
        self.setting = ",".join(entry for _, entry in made.values())

    def headers(self, name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secrets[name]}"}


async def post(stack: Stack, headers: dict[str, str], script: dict[str, object], **more: object) -> httpx.Response:
    """A create with these headers, whatever its answer is."""
    body = {"prompt": json.dumps(script), **more}
    return await stack.client.post("/v1/streams", json=body, headers=headers)


@asynccontextmanager
async def with_keys(directory: Path, *names: str, **settings: str) -> AsyncIterator[tuple[Stack, KeyRing]]:
    """A stack that knows a key for each of these names."""
    keys = KeyRing(*names)
    async with running_stack(directory, HEADRACE_API_KEYS=keys.setting, **settings) as stack:
        yield stack, keys
