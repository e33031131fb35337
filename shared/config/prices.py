"""The cost of a generation, by a catalogue of prices. Pure: the catalogue is handed in.

Theory of operation. An unknown cost is None, never 0. The cost is unknown for a model without a price in the
catalogue (a local model too), and for usage that lacks one of the two counts. Sums are decimals, because binary
fractions can't add 0.1 and 0.2 exactly.

Cached tokens are part of the input tokens, whatever the wire format (see :class:`worker.providers.base.Usage`).
Without a known cached price they are billed as other input, so the sum is an upper bound.
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
    """A row of the catalogue: USD per million tokens, the date on which the price was read, and its source."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Amount
    output: Amount
    cached: Amount | None = None
    date: date
    source: Annotated[str, Field(min_length=1)]


Prices = dict[tuple[str, str], Price]
"""(provider, model) → price."""


def price_of(prices: Prices, provider: str, model: str) -> Price | None:
    """The price of exactly this model; else, for a dated version, that of the undated name
    (``gpt-4.1-2025-04-14``, ``claude-sonnet-4-5-20250929``, ``…@20250929``). No other name is close enough."""
    exact = prices.get((provider, model))
    dated = _DATED.fullmatch(model)
    return exact or (prices.get((provider, dated["model"])) if dated else None)


def cost(prices: Prices, provider: str, model: str, usage: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The cost of this usage. In: the fields of ``worker.providers.base.Usage`` by name.

    Out: ``{"usd", "price": {"input", "output", "cached", "date", "source"}}``. Numbers are USD; prices are per
    million tokens, and ``cached`` is None where it is unknown. None where the price or a count is unknown.
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
