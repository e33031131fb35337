"""What `make coverage` prints: for each package, how many of its lines and branches a run of the tests took.

Reads the data that coverage.py left in this folder.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PACKAGES = ("shared", "api", "worker", "cli")


def rows(files: dict[str, dict[str, Any]]) -> list[tuple[str, int, int, int, int]]:
    """Name, lines run, lines, branches taken, branches; a row for each package, and one for all together.

    In: ``files`` of coverage.py's JSON report."""
    found = []
    for package in PACKAGES:
        mine = [file["summary"] for name, file in files.items() if name.startswith(f"{package}/")]
        keys = ("covered_lines", "num_statements", "covered_branches", "num_branches")
        found.append((package, *(sum(summary[key] for summary in mine) for key in keys)))
    return [*found, ("all", *(sum(row[at] for row in found) for at in range(1, 5)))]


def main() -> None:
    """Print each file that is not run whole, and the table of packages."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "coverage.json"
        subprocess.run([sys.executable, "-m", "coverage", "json", "--quiet", "-o", report], check=True)
        files = json.loads(report.read_text(encoding="utf-8"))["files"]
    subprocess.run([sys.executable, "-m", "coverage", "report", "--skip-covered"], check=True)
    print(f"\n{'package':<8} {'lines':>20} {'branches':>20}")
    for name, lines, of_lines, branches, of_branches in rows(files):
        print(f"{name:<8} {share(lines, of_lines):>20} {share(branches, of_branches):>20}")


def share(part: int, whole: int) -> str:
    """So much of a whole, for people."""
    return f"{part / max(whole, 1):.2%} of {whole}"


if __name__ == "__main__":
    main()
