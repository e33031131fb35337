"""Where a secret could slip into a log, an error or a terminal: each place, and that it does not."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from api.schemas.requests import CreateStream
from cli.chat.api_client import open_http
from cli.errors import NoAnswer
from cli.main import build_app
from shared.config.api_keys import new_api_key
from shared.config.settings import Settings
from shared.redis import reason
from tests.support.processes import start_server

SECRET = "hunter2"


def test_settings_in_a_log_show_no_secret() -> None:
    secret, entry = new_api_key("a")
    url = f"redis://:{SECRET}@127.0.0.1:1/0"
    shown = repr(Settings(redis_url=url, queue_url=url, api_keys=entry, secret=SECRET))
    assert SECRET not in shown
    assert secret not in shown
    assert entry not in shown
    assert "max_queue=10000" in shown


def test_the_text_of_a_request_s_error_is_without_the_prompt() -> None:
    with pytest.raises(ValidationError) as caught:
        CreateStream.model_validate({"prompt": [SECRET], "model": SECRET, "messages": SECRET})
    assert "prompt" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_server_s_refusal_is_told_without_the_command_s_arguments() -> None:
    error = f"unknown command 'AUTH', with args beginning with: '{SECRET}' "
    assert reason(ValueError(error)) == "unknown command 'AUTH'"
    assert reason(ValueError("x" * 1000)) == "x" * 200


def test_the_doctor_tells_no_password_that_a_server_repeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "renamed.conf").write_text('rename-command AUTH ""\n')
    with start_server(tmp_path, config_file=str(tmp_path / "renamed.conf")) as server:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HEADRACE_REDIS_URL", f"redis://:{SECRET}@127.0.0.1:{server.port}/0")
        result = CliRunner().invoke(build_app(), ["doctor"])
    assert "unknown command" in result.output
    assert SECRET not in result.output


@pytest.mark.parametrize("url", [f"ftp://me:{SECRET}@host", f"me:{SECRET}@host", f"http://me:{SECRET}@host:port"])
async def test_an_address_that_is_none_is_told_without_its_login(url: str) -> None:
    with pytest.raises(NoAnswer) as caught:
        async with open_http(url, ""):
            pass
    assert "host" in str(caught.value)
    assert SECRET not in str(caught.value)
