"""How many digits of a number are reported."""

SIGNIFICANT_DIGITS = 7


def number(value: float) -> float:
    """The value at seven significant digits, which is what float32 holds."""
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")
