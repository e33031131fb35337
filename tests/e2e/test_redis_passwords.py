"""What real processes write into their logs when Redis refuses them: never its password."""

from pathlib import Path

from tests.support.processes import Child, base_env, start_api, start_server, wait_until

PASSWORD = "hunter2"


def test_processes_do_not_log_the_password_that_a_server_repeats(tmp_path: Path) -> None:
    (tmp_path / "renamed.conf").write_text('rename-command AUTH ""\n')
    with start_server(tmp_path, config_file=str(tmp_path / "renamed.conf")) as server:
        env = base_env(f"redis://:{PASSWORD}@127.0.0.1:{server.port}/0", HEADRACE_LOG_LEVEL="debug")
        with (
            start_api(env, tmp_path) as api,
            Child("worker", ("worker",), env, tmp_path, forked=True) as worker,
        ):
            wait_until(lambda: "unknown command 'AUTH'" in api.output(), what="the API's refusal")
            wait_until(lambda: "waiting_for_redis" in worker.output(), what="the worker's refusal")
            assert PASSWORD not in api.output()
            assert PASSWORD not in worker.output()
