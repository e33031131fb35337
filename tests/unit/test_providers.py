"""Which providers there are, and where a caller's model name leads."""

import pytest

from shared.providers import PRESETS, UnknownModel, load_providers, resolve_model
from worker.providers import adapter

DEFAULT = "local/smollm2"
ENVIRONMENT = {
    "OPENAI_API_KEY": "sk-openai",
    "LOCAL_BASE_URL": "http://127.0.0.1:9/v1/",
    "HOLYSHEEP_API_KEY": " sk-sheep \n",
    "HOLYSHEEP_MODELS": "gpt-5, meta-llama/Llama-3 ,",
}


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_has_an_adapter(name: str) -> None:
    assert adapter(PRESETS[name].wire_format)


def test_the_environment_configures_each_provider_by_its_name() -> None:
    providers = load_providers(ENVIRONMENT)
    assert providers["openai"].api_key == "sk-openai"
    assert providers["openai"].base_url == "https://api.openai.com/v1"
    assert providers["local"].base_url == "http://127.0.0.1:9/v1"
    assert providers["local"].missing is None
    assert providers["holysheep"].api_key == "sk-sheep"
    assert providers["holysheep"].models == ("gpt-5", "meta-llama/Llama-3")


def test_what_is_missing_is_named_by_its_variable() -> None:
    nothing = load_providers({})
    assert nothing["openai"].missing == "OPENAI_API_KEY"
    assert nothing["local"].missing == "LOCAL_BASE_URL"
    assert load_providers({"OPENAI_API_KEY": "  "})["openai"].missing == "OPENAI_API_KEY"


def test_a_key_does_not_show_in_a_providers_repr() -> None:
    assert "sk-openai" not in repr(load_providers(ENVIRONMENT))


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
    assert resolve_model(model, load_providers(ENVIRONMENT), DEFAULT).full_name == leads_to


def test_a_slash_in_a_name_that_the_default_provider_lists_is_part_of_the_name() -> None:
    target = resolve_model("meta-llama/Llama-3", load_providers(ENVIRONMENT), "holysheep/gpt-5")
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
        resolve_model(model, load_providers(ENVIRONMENT), DEFAULT)
    assert caught.value.code == code
    assert names in str(caught.value)
    assert "sk-" not in str(caught.value)
