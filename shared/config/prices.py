"""What a generation cost, by a catalogue of prices. Pure: the catalogue is handed in.

Theory of operation. What is not known is None, never 0: a model that the catalogue has no price for (a local one
too), and usage without both counts. Sums are made in decimals, for binary fractions would bill 0.1 + 0.2.

Cached tokens are part of the input tokens, whatever the wire format (see :class:`worker.providers.base.Usage`).
Where no cached price is known, they cost what input costs: the sum is then the most that it can be.
"""

import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

MILLION: Final = 1_000_000

_DATED: Final = re.compile(
    r"(?P<model>.+)[-@](\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])|20\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01]))",
    re.ASCII,
)

Amount = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]


class Price(BaseModel):
    """A row of the catalogue: USD per million tokens, when that was read, and where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Amount
    output: Amount
    cached: Amount | None = None
    date: date
    source: Annotated[str, Field(min_length=1)]


Prices = dict[tuple[str, str], Price]
"""(provider, model) → price."""


def price_of(prices: Prices, provider: str, model: str) -> Price | None:
    """The price of this very model, else that of the model whose dated version this is
    (``gpt-4.1-2025-04-14``, ``claude-sonnet-4-5-20250929``, ``…@20250929``). Nothing else is near enough."""
    exact = prices.get((provider, model))
    dated = _DATED.fullmatch(model)
    return exact or (prices.get((provider, dated["model"])) if dated else None)


def cost(prices: Prices, provider: str, model: str, usage: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What this usage cost. In: the fields of ``worker.providers.base.Usage`` by name.

    Out: ``{"usd", "price": {"input", "output", "cached", "date", "source"}}``, numbers in USD (the price's per
    million tokens, ``cached`` None where it is unknown); None where the price or a count is unknown.
    """
    price = price_of(prices, provider, model)
    if price is None or usage is None:
        return None
    taken, given = usage.get("input_tokens"), usage.get("output_tokens")
    if taken is None or given is None:
        return None
    cached = min(usage.get("cached_tokens") or 0, taken)
    per_cached = price.input if price.cached is None else price.cached
    total = (taken - cached) * price.input + cached * per_cached + given * price.output
    return {
        "usd": float(total / MILLION),
        "price": {
            "input": float(price.input),
            "output": float(price.output),
            "cached": None if price.cached is None else float(price.cached),
            "date": price.date.isoformat(),
            "source": price.source,
        },
    }
