"""What is said of rows, whatever the kind of model: crossings, orders, exit codes, the table and the JSON."""

import io
import itertools
import math

import pytest
from netgain.layers.formats import Source
from netgain.verify.comparison import (
    Comparison,
    Finding,
    Order,
    Row,
    Severity,
    Side,
    comparison_json,
    crossings,
    out_of_order,
    show_comparison,
)
from netgain.verify.outcomes import ExitCode
from rich.console import Console


def row(method, value, side, proved, quantity="q", **rest):
    return Row("view", quantity, method, value, side, proved, **rest)


@pytest.mark.parametrize(("low", "high"), [(1.0, 2.0), (1.0, 1.0), (2.0, 1.0), (-1.0, -2.0)])
@pytest.mark.parametrize("proved", list(itertools.product([True, False], repeat=2)))
def test_upper_bounds_below_lower_bounds_are_found(low, high, proved):
    rows = [row("a", low, Side.LOWER, proved[0]), row("b", high, Side.UPPER, proved[1])]
    found = crossings(rows, 1e-6)
    assert bool(found) == (low > high)
    for finding in found:
        assert finding.severity is (Severity.CONTRADICTION if all(proved) else Severity.WRONG)
        for method, certain in zip("ab", proved, strict=True):
            doubted = method in finding.text.split("doubted: ")[-1]
            assert all(proved) or doubted == (not certain)


def test_only_what_is_not_proved_is_allowed_rounding():
    close = [row("a", 1.0 + 1e-9, Side.LOWER, True), row("b", 1.0, Side.UPPER, True)]
    assert crossings(close, 1e-6)[0].severity is Severity.CONTRADICTION
    close[0] = row("a", 1.0 + 1e-9, Side.LOWER, False)
    assert crossings(close, 1e-6) == []
    assert crossings(close, 1e-12)[0].severity is Severity.WRONG


def test_exact_values_are_compared_on_both_sides_and_with_each_other():
    exact = row("exact", 1.0, Side.EXACT, True)
    assert crossings([exact], 0.0) == []
    assert len(crossings([exact, row("low", 1.5, Side.LOWER, True)], 0.0)) == 1
    assert len(crossings([exact, row("high", 0.5, Side.UPPER, True)], 0.0)) == 1
    assert len(crossings([exact, row("other", 1.5, Side.EXACT, True)], 0.0)) == 1


def test_other_quantities_and_rows_without_values_are_not_compared():
    rows = [row("a", 2.0, Side.LOWER, True), row("b", 1.0, Side.UPPER, True, quantity="other"),
            row("c", None, Side.UPPER, False), row("d", math.inf, Side.UPPER, True),
            row("e", -math.inf, Side.UPPER, False)]
    assert crossings(rows, 0.0) == []
    assert out_of_order(rows, [Order("a", "b", ""), Order("a", "c", ""), Order("a", "f", "")], 0.0) == []


def test_violated_orders_are_explained():
    rows = [row("a", 2.0, Side.UPPER, True), row("b", 1.0, Side.UPPER, True)]
    orders = [Order("a", "b", "because."), Order("b", "a", "not this.")]
    (finding,) = out_of_order(rows, orders, 0.5)
    assert finding.severity is Severity.UNEXPECTED
    assert "because." in finding.text
    assert out_of_order(rows, orders, 1.5) == []


def compared(*rows, findings=()):
    return Comparison("model", "kind", {"q": "what it is"}, rows, tuple(findings))


def test_the_exit_code():
    proved, unproved = row("a", 1.0, Side.UPPER, True), row("b", 1.0, Side.UPPER, False)
    assert compared(proved, unproved).exit_code == ExitCode.PROVED
    assert compared(unproved).exit_code == ExitCode.NOT_PROVED
    wrong, fault = (Finding(severity, "") for severity in (Severity.WRONG, Severity.CONTRADICTION))
    assert compared(proved, findings=[wrong]).exit_code == ExitCode.PROVED
    assert compared(proved, findings=[wrong, fault]).exit_code == ExitCode.NUMERICAL


def test_values_are_rounded_to_their_side_and_columns_without_content_left_out():
    third = 1 / 3
    comparison = compared(row("low", third, Side.LOWER, True), row("high", third, Side.UPPER, False),
                          row("none", None, Side.UPPER, False, note="why not"))
    stream = io.StringIO()
    show_comparison(Console(file=stream, width=200), comparison)
    lines = stream.getvalue().splitlines()
    heading = next(line for line in lines if line.startswith("view"))
    assert "verdict" not in heading
    assert "time" not in heading
    cells = {line.split()[1]: line.split() for line in lines if line.startswith("view ")}
    assert cells["low"][2:] == ["0.3333333", "<=", "q", "yes"]
    assert cells["high"][2:] == ["0.3333334", ">=", "q", "no"]
    assert cells["none"][2:] == ["-", "why", "not"]
    assert "none: all values agree" in lines[-1]


def test_json_holds_no_infinities():
    content = comparison_json(compared(row("a", math.inf, Side.UPPER, False, seconds=0.25),
                                       findings=[Finding(Severity.WRONG, "text")]), Source("p", "s", "f"))
    assert content["rows"] == [{"view": "view", "quantity": "q", "method": "a", "value": None, "side": "upper",
                                "proved": False, "seconds": 0.25, "verdict": None, "note": None}]
    assert content["findings"] == [{"severity": "wrong", "text": "text"}]
    assert content["model"] == {"path": "p", "sha256": "s", "format": "f", "name": "model"}
