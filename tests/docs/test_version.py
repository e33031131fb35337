"""One version: shared/version.py has it, and everything else takes it from there or agrees with it."""

import json
import re
import tomllib

from typer.testing import CliRunner

from cli.main import build_app
from shared.version import VERSION
from tests.support.documents import document


def test_the_project_takes_its_version_from_the_one_place() -> None:
    project = tomllib.loads(document("pyproject.toml"))
    assert "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "shared.version.VERSION"}


def test_the_command_tells_it() -> None:
    assert CliRunner().invoke(build_app(), ["--version"]).output == f"headrace {VERSION}\n"


def test_the_package_of_the_browser_client_has_it() -> None:
    assert json.loads(document("package.json"))["version"] == VERSION


def test_the_changelog_s_newest_release_is_it() -> None:
    assert re.findall(r"^## \[(\d[\w.]*)\]", document("CHANGELOG.md"), re.MULTILINE)[0] == VERSION
