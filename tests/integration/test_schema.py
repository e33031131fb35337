"""The OpenAPI document against a real server: no 5xx, no status and no body that it does not tell of, no call
without its key. schemathesis makes the requests.

Short in `make test`. The long run is `FUZZ=long pytest tests/integration/test_schema.py`: 5,000 requests
and more.
"""

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from shared.config.api_keys import new_api_key
from tests.support.processes import Child, base_env
from tests.support.stack import Stack, running_stack

LONG = os.environ.get("FUZZ") == "long"
EXAMPLES, AT_LEAST, WITHIN_S = (1000, 5000, 1500.0) if LONG else (8, 250, 600.0)
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "ignored_auth",
)


async def with_real_ids(document: dict[str, Any], stack: Stack) -> dict[str, Any]:
    """The document with ids of real streams where an id is wanted: a 404 alone would test little."""
    done, *doomed = [(await stack.create({"tokens": 3}))["id"] for _ in range(12)]
    await stack.until_status(done, "done")
    for operations in document["paths"].values():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", []):
                prefix = {"stream_id": "", "response": "resp_"}.get(parameter["name"])
                if prefix is not None:
                    ids = doomed if method == "delete" else [done, "A" * 24, "x"]
                    parameter["schema"]["enum"] = [prefix + one for one in ids]
    return document


@pytest.mark.timeout(WITHIN_S + 60)
async def test_the_server_does_what_its_document_says(tmp_path: Path) -> None:
    secret, entry = new_api_key("schema")
    async with running_stack(tmp_path, HEADRACE_API_KEYS=entry) as stack:
        stack.client.headers["Authorization"] = f"Bearer {secret}"
        document = (await stack.client.get("/openapi.json")).json()
        path = tmp_path / "openapi.json"
        path.write_text(json.dumps(await with_real_ids(document, stack)))
        argv = [sys.executable, "-m", "schemathesis.cli", "run", str(path), "--url", stack.apis[0].url]
        argv += ["--header", f"Authorization: Bearer {secret}", "--checks", ",".join(CHECKS), "--no-color"]
        argv += ["--phases", "coverage,fuzzing", "--max-examples", str(EXAMPLES), "--request-timeout", "20"]
        argv += ["--generation-database", "none", "--continue-on-failure"]
        with Child("schemathesis", argv, base_env(), tmp_path) as child:
            code = await asyncio.to_thread(child.wait, WITHIN_S)
            said = child.output()
        assert code == 0, said[-6000:]
        counted = re.search(r"(\d+) generated, (\d+) passed", said)
        assert counted, said[-2000:]
        assert int(counted[1]) >= AT_LEAST, said[-2000:]
        assert "Traceback" not in stack.apis[0].output()
