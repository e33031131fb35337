"""Which providers there are, and where a caller's model name leads."""

from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import pytest

from shared.config.providers import Provider, UnknownModel, WireFormat, load_providers, resolve_model
from shared.config.settings import BadSettings, load, load_presets
from worker.attempt.resume import asked_of
from worker.providers import adapter

DEFAULT = "local/smollm2"
ENVIRONMENT = {
    "OPENAI_API_KEY": "sk-openai",
    "LOCAL_BASE_URL": "http://127.0.0.1:9/v1/",
    "HOLYSHEEP_API_KEY": " sk-sheep \n",
    "HOLYSHEEP_MODELS": "gpt-5, meta-llama/Llama-3 ,",
}


def providers_of(env: Mapping[str, str]) -> dict[str, Provider]:
    return load_providers(env, load_presets())


@pytest.mark.parametrize("wire_format", get_args(WireFormat))
def test_every_wire_format_has_an_adapter(wire_format: str) -> None:
    assert adapter(wire_format)


def test_the_known_providers_are_these() -> None:
    known = (
        "openai azure holysheep deepseek anthropic google vertex bedrock openrouter groq mistral together "
        "fireworks xai ollama vllm lmstudio llamacpp local"
    )
    assert list(load_presets()) == known.split()
    assert load_presets()["holysheep"].base_url == "https://api.holysheep.ai/v1"


def test_the_environment_configures_each_provider_by_its_name() -> None:
    providers = providers_of(ENVIRONMENT)
    assert providers["openai"].api_key == "sk-openai"
    assert providers["openai"].base_url == "https://api.openai.com/v1"
    assert providers["local"].base_url == "http://127.0.0.1:9/v1"
    assert providers["local"].missing is None
    assert providers["holysheep"].api_key == "sk-sheep"
    assert providers["holysheep"].models == ("gpt-5", "meta-llama/Llama-3")


def test_a_missing_setting_is_named_by_its_variable() -> None:
    nothing = providers_of({})
    assert nothing["openai"].missing == "OPENAI_API_KEY"
    assert nothing["local"].missing == "LOCAL_BASE_URL"
    assert providers_of({"OPENAI_API_KEY": "  "})["openai"].missing == "OPENAI_API_KEY"


def test_a_key_does_not_show_in_a_providers_repr() -> None:
    assert "sk-openai" not in repr(providers_of(ENVIRONMENT))


@pytest.mark.parametrize(
    ("model", "leads_to"),
    [
        ("", "local/smollm2"),
        ("local/other", "local/other"),
        ("bare", "local/bare"),
        ("openai/gpt-5", "openai/gpt-5"),
        ("openai/org/model", "openai/org/model"),
        ("holysheep/meta-llama/Llama-3", "holysheep/meta-llama/Llama-3"),
    ],
)
def test_a_model_name_leads_to_its_provider(model: str, leads_to: str) -> None:
    assert resolve_model(model, providers_of(ENVIRONMENT), DEFAULT).full_name == leads_to


def test_a_slash_in_a_name_that_the_default_provider_lists_is_part_of_the_name() -> None:
    target = resolve_model("meta-llama/Llama-3", providers_of(ENVIRONMENT), "holysheep/gpt-5")
    assert (target.provider.name, target.model) == ("holysheep", "meta-llama/Llama-3")


@pytest.mark.parametrize(
    ("model", "code", "names"),
    [
        ("nobody/gpt", "unknown_provider", "nobody"),
        ("http://evil.example/v1", "unknown_provider", "http:"),
        ("deepseek/chat", "provider_not_configured", "DEEPSEEK_API_KEY"),
        ("holysheep/gpt-4", "unknown_model", "meta-llama/Llama-3"),
        ("openai/", "unknown_model", "non-empty"),
    ],
)
def test_a_name_that_leads_nowhere_says_why(model: str, code: str, names: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        resolve_model(model, providers_of(ENVIRONMENT), DEFAULT)
    assert caught.value.code == code
    assert names in str(caught.value)
    assert "sk-" not in str(caught.value)


def configured(tmp_path: Path, table: str, **env: str) -> dict[str, Provider]:
    """The providers with this file over the shipped one."""
    file = tmp_path / "mine.toml"
    file.write_text(table, encoding="utf-8")
    return load({"HEADRACE_PROVIDERS_FILE": str(file), **env}).providers


def test_a_file_adds_providers_and_replaces_single_fields(tmp_path: Path) -> None:
    table = """
        [mine]
        wire_format = "anthropic"
        base_url = "http://127.0.0.1:9/v1"
        key = "SOME_KEY"
        models = ["one", "two"]
        rate_per_second = 2.5
        [openai]
        base_url = "https://eu.api.openai.com/v1"
        max_concurrent = 8
    """
    providers = configured(tmp_path, table, SOME_KEY="sk-mine", HEADRACE_DEFAULT_MODEL="mine/one")
    mine, openai = providers["mine"], providers["openai"]
    assert (mine.wire_format, mine.api_key, mine.models) == ("anthropic", "sk-mine", ("one", "two"))
    assert (mine.missing, mine.rate_per_second, mine.key_variable) == (None, 2.5, "SOME_KEY")
    assert (openai.base_url, openai.max_concurrent) == ("https://eu.api.openai.com/v1", 8)
    assert (openai.wire_format, openai.missing) == ("openai", "OPENAI_API_KEY")


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    table = """
        [openai]
        base_url = "https://file.example/v1"
        key = "FILE_KEY"
        models = ["file"]
        continues = "prefill"
        max_concurrent = 1
        requests_per_minute = 1
        tokens_per_minute = 1
        rate_per_second = 1
    """
    openai = configured(
        tmp_path,
        table,
        FILE_KEY="sk-file",
        OPENAI_BASE_URL="https://env.example/v1",
        OPENAI_API_KEY="sk-env",
        OPENAI_MODELS="env",
        OPENAI_CONTINUES="vllm",
        OPENAI_MAX_CONCURRENT="0",
        OPENAI_REQUESTS_PER_MINUTE="3",
        OPENAI_TOKENS_PER_MINUTE="4",
        OPENAI_RATE_PER_SECOND="5.5",
    )["openai"]
    assert (openai.base_url, openai.api_key, openai.models) == ("https://env.example/v1", "sk-env", ("env",))
    assert (openai.continues, openai.max_concurrent, openai.requests_per_minute) == ("vllm", 0, 3)
    assert (openai.tokens_per_minute, openai.rate_per_second) == (4, 5.5)


def test_openais_own_limit_is_named_as_its_reasoning_models_want_it_and_may_be_renamed(tmp_path: Path) -> None:
    def name(provider: str, table: str = "", **env: str) -> str:
        found = configured(tmp_path, table, **env)[provider]
        return asked_of({"model": "o4-mini", "messages": []}, found, None).quirks.max_tokens_name

    assert name("openai") == "max_completion_tokens"
    assert name("local") == "max_tokens"
    assert name("openai", '[openai]\nmax_tokens_name = "max_tokens"') == "max_tokens"
    mine = '[mine]\nwire_format = "openai"\nbase_url = "http://x"\nmax_tokens_name = "max_completion_tokens"'
    assert name("mine", mine) == "max_completion_tokens"
    assert name("mine", mine, MINE_MAX_TOKENS_NAME="max_tokens") == "max_tokens"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('[openai]\napi_key = "sk-secret"', "[openai]: api_key: a key does not belong into this file"),
        ('[openai]\nkey = "sk-secret"', "[openai] key: "),
        ('[openai]\nbase_ulr = "http://x"', "[openai] base_ulr: no such field"),
        ('[openai]\nbase_url = "ftp://x"', "[openai] base_url: "),
        ('[openai]\nwire_format = "soap"', "[openai] wire_format: "),
        ('[openai]\ncontinues = "maybe"', "[openai] continues: "),
        ('[openai]\nmax_tokens_name = "n"', "[openai] max_tokens_name: "),
        ('[openai]\ncall_ids = "long"', "[openai] call_ids: "),
        ('[openai]\nlacks = ["colour"]', "[openai] lacks.0: "),
        ('[openai]\napi_version = "1&x=2"', "[openai] api_version: "),
        ("[openai]\nmax_concurrent = -1", "[openai] max_concurrent: "),
        ("[openai]\nrate_per_second = nan", "[openai] rate_per_second: "),
        ('[mine]\nbase_url = "http://x"', "[mine] wire_format: "),
        ('[MINE]\nwire_format = "openai"', "can't be called 'MINE'"),
        ('[headrace]\nwire_format = "openai"', "can't be called 'headrace'"),
        ('openai = "http://x"', "[openai] must be a table"),
        ("[openai", "is no TOML"),
    ],
)
def test_a_mistake_in_a_providers_file_is_named_without_its_value(tmp_path: Path, table: str, said: str) -> None:
    with pytest.raises(BadSettings) as caught:
        configured(tmp_path, table)
    assert said in str(caught.value)
    assert "can't be called" in said or "mine.toml" in str(caught.value)
    assert "sk-secret" not in str(caught.value)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(BadSettings, match=r"/nowhere/mine\.toml can't be read: No such file"):
        load({"HEADRACE_PROVIDERS_FILE": "/nowhere/mine.toml"})


@pytest.mark.parametrize(
    "variable",
    [
        "OPENAI_CONTINUES",
        "OPENAI_MAX_TOKENS_NAME",
        "OPENAI_MAX_CONCURRENT",
        "LOCAL_RATE_PER_SECOND",
        "AZURE_AUTH",
        "MISTRAL_STREAM_USAGE",
    ],
)
def test_a_variable_that_can_not_be_used_is_named(variable: str) -> None:
    with pytest.raises(BadSettings, match=f"{variable}: "):
        load({variable: "-1"})
