"""The cost of a text: by the prices of the settings, else by the table in the package genai-prices.

Nothing is fetched over the network.
"""

from __future__ import annotations

from collections.abc import Mapping

from tasker.config.prices import ANY_MODEL, ModelPrice

_PER_TOKENS = 1_000_000
_DIGITS = 9
"""Decimal places of a dollar that are kept."""


def warm_up() -> None:
    """Load the price table, which takes a tenth of a second."""
    import genai_prices  # noqa: F401


def price(
    url: str,
    model: str,
    *,
    input_tokens: int,
    output_tokens: int,
    cached_tokens: int,
    own: Mapping[str, ModelPrice] | None = None,
) -> float | None:
    """Return the cost in US dollars at the provider at `url`; None if the price of `model` there is unknown.

    input_tokens: all of them, including `cached_tokens`, which may cost less. own: prices that take precedence over the
    table; that of ANY_MODEL applies only to models that the table does not know.
    """
    given, cached = own or {}, min(cached_tokens, input_tokens)
    if model in given:
        return _multiply(given[model], input_tokens - cached, cached, output_tokens)
    found = _look_up(url, model, input_tokens, cached, output_tokens)
    if found is None and ANY_MODEL in given:
        return _multiply(given[ANY_MODEL], input_tokens - cached, cached, output_tokens)
    return found


def _multiply(given: ModelPrice, fresh: int, cached: int, written: int) -> float:
    for_cached = given.input if given.cached_input is None else given.cached_input
    total = fresh * given.input + cached * for_cached + written * given.output
    return round(total / _PER_TOKENS, _DIGITS)


def _look_up(url: str, model: str, input_tokens: int, cached: int, output_tokens: int) -> float | None:
    from genai_prices import Usage, calc_price

    usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens, cache_read_tokens=cached or None)
    try:
        total = calc_price(usage, model, provider_api_url=url).total_price
    except (
        LookupError,
        ValueError,
    ):  # ValueError: token counts that contradict each other, or a price that needs other ones
        return None
    return round(float(total), _DIGITS)
