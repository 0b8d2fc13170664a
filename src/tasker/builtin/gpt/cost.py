"""What a text costs: by the settings, else by the price table that the package genai-prices brings.

Nothing is asked over the network.
"""

from __future__ import annotations

from collections.abc import Mapping

from tasker.config.prices import ANY_MODEL, ModelPrice

_PER_TOKENS = 1_000_000
_DIGITS = 9
"""Of a dollar: nothing smaller is counted."""


def warm_up() -> None:
    """Load the table, which takes a tenth of a second."""
    import genai_prices  # noqa: F401


def price(
    url: str, model: str, *, input_tokens: int, output_tokens: int, cached_tokens: int,
    own: Mapping[str, ModelPrice] | None = None,
) -> float | None:  # fmt: skip
    """Return the dollars that the provider at `url` asks; None if nobody knows the price of `model` there.

    input_tokens: all of them, with the `cached_tokens` among them, which may cost less. own: prices that go before the
    table's, but for that of any other model.
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
    except (LookupError, ValueError):  # ValueError: figures that contradict each other, or a price that needs others
        return None
    return round(float(total), _DIGITS)
