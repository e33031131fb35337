"""``python -m tests [pytest's arguments]``: everything that is tested, eight files at a time.

Most tests wait for processes, so eight at a time pay even on two cores: all of it takes 260 s with eight and 279
with six (fourteen files take 64 s with six, 81 with four and 94 with three). But then a process may get no core for
seconds, and what a test waits for is late. So what failed beside others is run once more, alone: a fault comes
again, and what else the machine did does not. Both are told. More than :data:`MOST_AGAIN` failures have another
cause, and are failures at once.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
AT_ONCE: Final = 8
MOST_AGAIN: Final = 40
"""One test in a hundred. A machine at half of its speed had up to six, and one at a third 18; a broken server, or a
fault in what most tests use, fails hundreds."""
FAILED: Final = 1
"""pytest's exit code when it ran to its end, and a test failed. (With -x it is another one.)"""


def run_tests(*arguments: str, quiet: bool = False) -> int:
    """Run pytest. Out: its exit code."""
    command = [sys.executable, "-m", "pytest", *arguments]
    # What is compiled is kept, for the processes that tests start, too: some machines have it off.
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    return subprocess.run(command, cwd=ROOT, env=env, check=False, capture_output=quiet).returncode


def failed_tests() -> list[str]:
    """The tests that failed in the last run."""
    file = ROOT / ".pytest_cache" / "v" / "cache" / "lastfailed"
    return sorted(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else []


def main(arguments: list[str]) -> int:
    """Run the tests that the arguments choose. Out: the exit code."""
    if not (ROOT / "tests" / "__pycache__").exists():
        # Each process would do it: with six of them 13 s in place of 3.
        print("Compiling the tests, once.", flush=True)
        run_tests("--collect-only", "-q", quiet=True)
    # Whole files stay together for what they share. The cache is cleared, so that it holds this run's failures.
    code = run_tests("--cache-clear", "-n", str(AT_ONCE), "--dist", "loadfile", *arguments)
    failed = failed_tests()
    if code != FAILED or not 0 < len(failed) <= MOST_AGAIN:
        return code
    print("\nOnce more, one after another, what failed beside other tests:", *failed, sep="\n  ", flush=True)
    code = run_tests(*arguments, "-n", "0", "--last-failed", "--last-failed-no-failures", "none")
    if code == 0:
        print(f"Passed alone: {len(failed)}. A test that often needs that waits for too little.")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
