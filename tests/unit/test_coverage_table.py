"""The table of `make coverage` adds up what coverage.py tells of each file."""

from tests.support.coverage_table import PACKAGES, rows, share


def summary(lines: int, of_lines: int, branches: int, of_branches: int) -> dict[str, dict[str, int]]:
    keys = ("covered_lines", "num_statements", "covered_branches", "num_branches")
    return {"summary": dict(zip(keys, (lines, of_lines, branches, of_branches), strict=True))}


def test_files_are_added_up_by_package_and_all_together() -> None:
    files = {
        "shared/a.py": summary(1, 2, 3, 4),
        "shared/b/c.py": summary(10, 20, 0, 0),
        "api/a.py": summary(5, 5, 1, 2),
        "tests/a.py": summary(100, 100, 100, 100),
    }
    found = {name: numbers for name, *numbers in rows(files)}
    assert list(found) == [*PACKAGES, "all"]
    assert found["shared"] == [11, 22, 3, 4]
    assert found["worker"] == [0, 0, 0, 0]
    assert found["all"] == [16, 27, 4, 6]


def test_a_share_of_nothing_is_no_error() -> None:
    assert share(1, 3) == "33.33% of 3"
    assert share(0, 0) == "0.00% of 0"
