"""Decimal numbers on the safe side of a float64."""

import decimal
import math


def rounded_up(value: float, digits: int = 7) -> str:
    """The least decimal of so many significant digits that is not below `value`, for upper bounds."""
    return _rounded(value, digits, decimal.ROUND_CEILING)


def rounded_down(value: float, digits: int = 7) -> str:
    """The largest decimal of so many significant digits that is not above `value`, for lower bounds."""
    return _rounded(value, digits, decimal.ROUND_FLOOR)


def _rounded(value: float, digits: int, rounding: str) -> str:
    if not math.isfinite(value) or value == 0:
        return repr(float(value))
    with decimal.localcontext(prec=digits, rounding=rounding):
        result = +decimal.Decimal(value)
        if -6 <= result.adjusted() < digits:
            return f"{result:f}"
        return f"{result.normalize():E}".replace("E+", "e").replace("E", "e")
