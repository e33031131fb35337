"""What a generation cost: known prices, unknown ones, dated models, cached tokens."""

from dataclasses import asdict
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from shared.config.prices import Price, Prices, cost, price_of
from shared.config.settings import BadSettings, load, load_prices
from worker.providers.base import Usage

CLAIM = "the article's claim"


def price(cached: str | None = None) -> Price:
    return Price(
        input=Decimal(2),
        output=Decimal(8),
        cached=None if cached is None else Decimal(cached),
        date=date(2026, 1, 1),
        source="a list",
    )


def usd(prices: Prices, **usage: int | None) -> Any:
    found = cost(prices, "p", "m", usage)
    return found and found["usd"]


@pytest.mark.parametrize(
    ("provider", "model", "usd_per_million"),
    [
        ("holysheep", "gpt-4.1", 8),
        ("holysheep", "claude-sonnet-4.5", 15),
        ("holysheep", "gemini-2.5-flash", 2.5),
        ("holysheep", "deepseek-v3.2", 0.42),
        ("openai", "gpt-4.1", 60),
        ("anthropic", "claude-sonnet-4-5", 18),
        ("google", "gemini-2.5-flash", 3.5),
    ],
)
def test_the_article_s_table_is_there_and_marked_as_its_claim(
    provider: str, model: str, usd_per_million: float
) -> None:
    for usage in (Usage(1_000_000, 0), Usage(0, 1_000_000), Usage(600_000, 400_000, cached_tokens=500_000)):
        found = cost(load_prices(), provider, model, asdict(usage))
        assert found is not None
        assert found["usd"] == usd_per_million
        assert found["price"]["source"] == CLAIM
        assert found["price"]["cached"] is None
        assert found["price"]["date"]


@pytest.mark.parametrize(
    ("model", "leads_to"),
    [
        ("m", "m"),
        ("m-2025-04-14", "m"),
        ("m-20250414", "m"),
        ("m@20250414", "m"),
        ("m-mini", None),
        ("m-2025-13-14", None),
        ("m-2025", None),
        ("m-20250414-x", None),
        ("M", None),
        ("m-", None),
        ("n-2025-04-14", None),
    ],
)
def test_a_dated_model_costs_what_its_model_costs_and_no_other_name_is_near_enough(
    model: str, leads_to: str | None
) -> None:
    prices = {("p", "m"): price()}
    assert price_of(prices, "p", model) == (None if leads_to is None else price())
    assert price_of(prices, "q", model) is None


def test_a_dated_model_s_own_price_comes_first() -> None:
    own = price("1")
    assert price_of({("p", "m"): price(), ("p", "m-2025-04-14"): own}, "p", "m-2025-04-14") == own


def test_cached_tokens_are_part_of_the_input_and_priced_apart_where_that_price_is_known() -> None:
    known, unknown = {("p", "m"): price("0.5")}, {("p", "m"): price()}
    assert usd(known, input_tokens=1_000_000, output_tokens=0, cached_tokens=400_000) == 1.4
    assert usd(unknown, input_tokens=1_000_000, output_tokens=0, cached_tokens=400_000) == 2
    assert usd(known, input_tokens=1_000_000, output_tokens=0, cached_tokens=None) == 2
    assert usd(known, input_tokens=10, output_tokens=0, cached_tokens=99) == 0.000005
    free = {("p", "m"): price("0")}
    assert usd(free, input_tokens=1_000_000, output_tokens=0, cached_tokens=1_000_000) == 0


def test_sums_are_exact() -> None:
    prices = {("p", "m"): price().model_copy(update={"input": Decimal("0.1"), "output": Decimal("0.2")})}
    assert usd(prices, input_tokens=1_000_000, output_tokens=1_000_000) == 0.3


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        {"input_tokens": 1, "output_tokens": None},
        {"input_tokens": None, "output_tokens": 1},
    ],
)
def test_an_unknown_cost_is_none_and_never_zero(usage: dict[str, Any] | None) -> None:
    assert cost({("p", "m"): price()}, "p", "m", usage) is None


@pytest.mark.parametrize(("provider", "model"), [("local", "smollm2"), ("openai", "gpt-9"), ("nobody", "gpt-4.1")])
def test_a_model_without_a_price_costs_none(provider: str, model: str) -> None:
    assert cost(load_prices(), provider, model, {"input_tokens": 1, "output_tokens": 1}) is None


def prices_with(tmp_path: Path, table: str) -> Prices:
    file = tmp_path / "prices.toml"
    file.write_text(table, encoding="utf-8")
    return load({"HEADRACE_PRICES_FILE": str(file)}).prices


def test_a_file_adds_prices_and_replaces_single_fields(tmp_path: Path) -> None:
    table = """
        [openai."gpt-4.1"]
        input = 2
        output = 8
        cached = 0.50
        source = "my invoice"
        [mine.big]
        input = 1
        output = 1
        date = 2026-01-02
        source = "me"
    """
    prices = prices_with(tmp_path, table)
    found = cost(prices, "openai", "gpt-4.1", {"input_tokens": 100, "output_tokens": 100, "cached_tokens": 100})
    assert found is not None
    assert found["usd"] == 0.00085
    assert found["price"]["source"] == "my invoice"
    assert prices["mine", "big"].date == date(2026, 1, 2)
    assert ("google", "gemini-2.5-flash") in prices


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("[openai.big]\ninput = 1\noutput = 1\ndate = 2026-01-02", "[openai.big] source: "),
        ('[openai.big]\ninput = 1\noutput = 1\nsource = "x"', "[openai.big] date: "),
        ('[openai."gpt-4.1"]\ninput = -1', '[openai."gpt-4.1"] input: '),
        ('[openai."gpt-4.1"]\ninput = inf', '[openai."gpt-4.1"] input: '),
        ('[openai."gpt-4.1"]\nimput = 1', '[openai."gpt-4.1"] imput: no such field'),
        ("[openai]\ninput = 1", "[openai.input] must be a table"),
    ],
)
def test_a_mistake_in_a_price_file_is_named(tmp_path: Path, table: str, said: str) -> None:
    with pytest.raises(BadSettings) as caught:
        prices_with(tmp_path, table)
    assert said in str(caught.value)
    assert "prices.toml" in str(caught.value)
