"""What a text costs, by the price table that the package genai-prices brings: nothing is asked over the network."""

from __future__ import annotations


def warm_up() -> None:
    """Load the table, which takes a tenth of a second."""
    import genai_prices  # noqa: F401


def price(url: str, model: str, *, input_tokens: int, output_tokens: int, cached_tokens: int) -> float | None:
    """Return the dollars that the provider at `url` asks; None if the table does not know it, or not its `model`.

    input_tokens: all of them, with the `cached_tokens` among them, which cost less.
    """
    from genai_prices import Usage, calc_price

    usage = Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=min(cached_tokens, input_tokens) or None,
    )
    try:
        total = calc_price(usage, model, provider_api_url=url).total_price
    except (LookupError, ValueError):  # ValueError: figures that contradict each other, or a price that needs others
        return None
    return round(float(total), 9)
