"""Fields compared: every bound on its side of the exact value, wrong verdicts flagged and no others."""

import itertools

import numpy as np
import pytest
from netgain import layers
from netgain.layers.formats.npz_field import field_of_arrays
from netgain.solvers.contractivity.logarithmic_norm import SlopeField
from netgain.solvers.contractivity.slope_gradient_flow import SlopeGradientFlow
from netgain.solvers.result import Limits
from netgain.verify.comparison import ComparisonRequest, Row, Severity, Side
from netgain.verify.contractivity import compare as compare_module
from netgain.verify.contractivity.compare import (
    EXACT,
    GRADIENT,
    INTERVAL,
    MU,
    RATE,
    SEMIDEFINITE,
    WORST,
    compare_field,
    findings,
    report_rows,
)
from netgain.verify.contractivity.report import contractivity

A3 = np.array([[-1, 2, 0], [0, -1, 1.5], [-1, 0, -0.5]])
FIRST_ROW = np.array([-1, 0.8, 0.4, 0, 0, -0.6])


def read(**arrays):
    return field_of_arrays({"activation": np.array("leaky_relu:0.1"), **arrays}, "field")


def by_vertices(matrix, lower, upper=1.0):
    slopes = np.array(list(itertools.product((lower, upper), repeat=len(matrix))))
    jacobians = slopes[:, :, None] * matrix
    return float(np.linalg.eigvalsh((jacobians + np.swapaxes(jacobians, 1, 2)) / 2)[:, -1].max())


def with_value(comparison, quantity):
    return [row for row in comparison.rows if row.quantity == quantity and row.value is not None]


FIELDS = {
    "A3": dict(A=A3),
    "shifted": dict(A=A3 - 1.7 * np.eye(3)),
    "random": dict(A=np.random.default_rng(3).standard_normal((6, 6)) / 6**0.5 - np.eye(6)),
    "symmetric": dict(A=np.diag(np.ones(4), 1) + np.diag(np.ones(4), -1) - 2 * np.eye(5)),
    "one neuron": dict(A=np.array([[-2.0]])),
}


@pytest.mark.parametrize("name", FIELDS)
def test_every_bound_lies_on_its_side_of_the_exact_value(name):
    matrix = FIELDS[name]["A"]
    comparison = compare_field(read(**FIELDS[name]), ComparisonRequest())
    exact = by_vertices(matrix, 0.1)
    rows = with_value(comparison, MU)
    assert {row.method for row in rows} >= {GRADIENT, WORST, EXACT, SEMIDEFINITE, "closed form", "norm bound"}
    for row in rows:
        assert row.value <= exact + 1e-9 if row.side is Side.LOWER else row.value >= exact - 1e-9, row
    for row in rows:
        if row.method in (WORST, EXACT):
            assert row.value == pytest.approx(exact, abs=1e-5)
    rates = {row.method: row for row in with_value(comparison, RATE)}
    # The Euclidean norm is a metric, also a diagonal one; and no metric beats a vertex's spectral abscissa.
    assert rates["diagonal metric"].value <= next(r.value for r in rows if r.method == SEMIDEFINITE) + 1e-6
    assert rates["metric"].value <= rates["diagonal metric"].value + 1e-3
    assert rates["metric"].value >= rates["spectral abscissa"].value - 1e-9
    assert rates["metric"].proved
    assert not any(finding.severity is Severity.CONTRADICTION for finding in comparison.findings)


def test_metrics_prove_contraction_where_the_euclidean_norm_cannot():
    """A = -S with S positive definite: in the metric S the rate is -m lambda_min(S)."""
    s = 2 * np.eye(4) - np.diag(np.ones(3), 1) - np.diag(np.ones(3), -1)
    comparison = compare_field(read(A=-s), ComparisonRequest())
    rates = {row.method: row.value for row in with_value(comparison, RATE)}
    best = -0.1 * np.linalg.eigvalsh(s)[0]
    assert rates["metric"] == pytest.approx(best, abs=2e-3)
    assert rates["metric"] >= rates["spectral abscissa"] - 1e-9
    assert all(row.value > 0 for row in with_value(comparison, MU))


def test_the_wrong_verdict_on_the_circulant_is_flagged():
    model = read(A=np.array([np.roll(FIRST_ROW, k) for k in range(6)]))
    wrong = [f for f in compare_field(model, ComparisonRequest()).findings if f.severity is Severity.WRONG]
    assert len(wrong) == 2
    assert "-0.04" in wrong[0].text
    assert "0.17478" in wrong[0].text
    # At a level that the slopes do keep, and at one that the gradient system exceeds too, its verdict is right.
    for level in (0.2, -0.1):
        found = compare_field(model, ComparisonRequest(level=level)).findings
        assert not any("suggests that mu" in finding.text for finding in found)


def test_exactly_the_wrong_verdicts_are_flagged_on_random_matrices():
    """Against all vertices: matrices with mu(A) = -0.3, slopes in [0.35, 1], level 0."""
    flagged = 0
    for seed in range(40):
        matrix = np.random.default_rng(seed).standard_normal((5, 5)) / 5**0.5
        matrix -= (np.linalg.eigvalsh((matrix + matrix.T) / 2)[-1] + 0.3) * np.eye(5)
        field = SlopeField(matrix, 0.35)
        wrong = SlopeGradientFlow().solve(field).value <= 0 < by_vertices(matrix, 0.35)
        rows = report_rows(contractivity(field, limits=Limits(tolerance=1e-6, time_limit=60)))
        found = findings(rows, 0.0, 1e-6)
        assert any("suggests that mu" in finding.text for finding in found) == wrong, seed
        flagged += wrong
    assert flagged >= 1


@pytest.mark.parametrize(("arrays", "exact"), [
    (dict(A1=np.array([[1, -1], [0.5, 1]]), A2=np.array([[-1, 0.5], [1, -1]])), 0.347344210),
    (dict(A=np.stack([A3, A3]), times=np.arange(2.0), lipschitz=np.array(0.0)), 0.590259822),
    (dict(A=A3, E=2 * np.eye(3), B=-np.eye(3)), None),
])
def test_other_forms_have_the_rows_that_apply_and_say_which_do_not(arrays, exact):
    comparison = compare_field(read(**arrays), ComparisonRequest())
    methods = {row.method for row in with_value(comparison, MU)}
    assert methods >= {GRADIENT, WORST, SEMIDEFINITE}
    if exact is not None:
        missing = {row.method for row in comparison.rows if row.value is None and "not offered" in row.note}
        assert missing >= {EXACT, "metric"}
        for row in with_value(comparison, MU):
            assert row.value <= exact + 1e-8 if row.side is Side.LOWER else row.value >= exact - 1e-8
    else:
        assert with_value(comparison, INTERVAL)
    assert not any(finding.severity is Severity.CONTRADICTION for finding in comparison.findings)


def test_a_linear_part_shifts_the_rows():
    plain = compare_field(read(A=A3), ComparisonRequest())
    shifted = compare_field(read(A=A3, B=-0.25 * np.eye(3)), ComparisonRequest())
    for before, after in zip(with_value(plain, MU), with_value(shifted, MU), strict=True):
        assert before.method == after.method
        assert after.value == pytest.approx(before.value - 0.25, abs=2e-5)


@pytest.mark.parametrize("exponent", [-10, 10])
def test_units_do_not_matter(exponent):
    plain = compare_field(read(A=A3), ComparisonRequest())
    scaled = compare_field(read(A=np.ldexp(A3, exponent)), ComparisonRequest())
    assert scaled.findings == plain.findings == ()
    for before, after in zip(plain.rows, scaled.rows, strict=True):
        assert (before.method, before.value is None, before.proved) == (after.method, after.value is None, after.proved)
        if before.value is not None:
            assert np.ldexp(after.value, -exponent) == pytest.approx(before.value, abs=1e-4)


def test_the_lower_slope_is_taken():
    comparison = compare_field(read(A=A3), ComparisonRequest(lower_slope=0.5))
    found = {row.method: row.value for row in with_value(comparison, MU)}
    assert found[EXACT] == pytest.approx(0.336029519, abs=1e-5)


def test_what_is_predicted_to_take_too_long_is_named_and_not_run():
    matrix = np.random.default_rng(0).standard_normal((40, 40)) / 40**0.5 - 2 * np.eye(40)
    comparison = compare_field(read(A=matrix), ComparisonRequest(time_limit=3.0))
    notes = {row.method: row.note for row in comparison.rows if row.value is None}
    assert "predicted to take" in notes["metric"]
    assert "predicted to take" in notes["pairs"]


def test_what_there_is_at_an_interruption_is_compared(monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(compare_module, "pairs_upper_bound", interrupted)
    methods = {row.method for row in compare_field(read(A=A3), ComparisonRequest()).rows}
    assert methods >= {GRADIENT, EXACT, SEMIDEFINITE, "alternating ascent"}
    assert not methods & {"pairs", "metric"}


def test_a_proved_contradiction_would_be_told():
    rows = [Row("", MU, WORST, 1.0, Side.LOWER, True), Row("", MU, SEMIDEFINITE, 0.5, Side.UPPER, True)]
    assert findings(rows, 0.0, 1e-6)[0].severity is Severity.CONTRADICTION


def test_networks_that_are_no_fields_are_refused():
    graph = layers.sequential((2,), [layers.Affine(np.ones((3, 2)), None), layers.Relu()])
    with pytest.raises(layers.ModelError, match="takes 2 numbers and gives 3"):
        compare_field(graph, ComparisonRequest())
