import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from netgain.verify.rounding import rounded_down, rounded_up

numbers = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=500)
@given(numbers, st.integers(1, 20))
def test_decimals_lie_on_their_side_and_next_to_the_number(value, digits):
    low, high = Decimal(rounded_down(value, digits)), Decimal(rounded_up(value, digits))
    exact = Decimal(value)
    assert low <= exact <= high
    if value:
        assert high - low <= Decimal(10) ** (max(low.adjusted(), high.adjusted()) - digits + 1)
        assert max(len(low.as_tuple().digits), len(high.as_tuple().digits)) <= max(digits, 1)


@given(numbers)
def test_signs_mirror(value):
    assert Decimal(rounded_up(-value)) == -Decimal(rounded_down(value))


@pytest.mark.parametrize(("value", "text"), [
    (1.0, "1"), (0.1, "0.1000001"), (1.00000001, "1.000001"), (0.99999999, "1.000000"), (123456.7, "123456.7"),
    (12345678.0, "1.234568e7"), (9999999.5, "1e7"), (1e-7, "1e-7"), (5e-324, "4.940657e-324"), (0.0, "0.0"),
    (math.inf, "inf"), (math.nan, "nan"), (1.7976931348623157e308, "1.797694e308"),
])
def test_upper_bounds_as_they_are_printed(value, text):
    assert rounded_up(value) == text
    assert rounded_up(np.float64(value)) == text
