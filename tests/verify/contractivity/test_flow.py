"""The flow and its Euler networks: bounds against courses of slopes, integrated solutions and closed forms."""

import dataclasses
import math

import numpy as np
import pytest
from netgain import layers
from netgain.layers.formats.npz_field import field_of_arrays
from netgain.solvers.result import Limits
from netgain.verify.contractivity import flow as flow_module
from netgain.verify.contractivity.euler_network import euler_network
from netgain.verify.contractivity.flow import exponential_upper, flow
from netgain.verify.contractivity.flow_certificate import (
    FlowCertificate,
    check_flow_certificate,
    load_flow_certificate,
)
from netgain.verify.contractivity.flow_plot import plot_flow
from netgain.verify.lower_bound import WitnessSearch
from netgain.verify.sealed_json import CertificateError
from scipy.integrate import solve_ivp
from scipy.linalg import expm

A3 = np.array([[-1, 2, 0], [0, -1, 1.5], [-1, 0, -0.5]])
QUICK = Limits(time_limit=20.0)


def read(activation="leaky_relu:0.1", **arrays):
    return field_of_arrays({"activation": np.array(activation), **arrays}, "field")


GRAPHS = {
    "one layer": read(A=A3, b=np.array([0.5, -1.0, 2.0])),
    "general": read(A=np.random.default_rng(0).standard_normal((4, 3)), b=np.ones(4),
                    E=np.random.default_rng(1).standard_normal((3, 4)), B=-np.eye(3), activation="tanh"),
    "layers": read(A1=np.array([[1, -1], [0.5, 1]]), A2=np.array([[-1, 0.5], [1, -1]]), b1=np.ones(2)),
}


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("steps", [1, 3, 7])
def test_the_network_takes_euler_steps(name, steps):
    graph = GRAPHS[name]
    u = np.random.default_rng(2).standard_normal((5, *graph.shape(graph.input)))
    expected = u
    for _ in range(steps):
        expected = expected + 1.5 / steps * graph.forward(expected)
    assert euler_network(graph, 1.5, steps).forward(u) == pytest.approx(expected, abs=1e-12)


def test_euler_networks_are_refused_where_there_are_none():
    with pytest.raises(ValueError, match="must be positive, got 0"):
        euler_network(GRAPHS["layers"], 0, 1)
    with pytest.raises(layers.ModelError, match="needs the same"):
        euler_network(layers.sequential((2,), [layers.Affine(np.ones((3, 2)), None), layers.Relu()]), 1.0, 1)


def test_a_diagonal_field_is_known_in_closed_form():
    """u' = s(-u) with slopes in [1/4, 1]: the flow contracts by exp(-T / 4), N steps by (1 - h / 4)^N."""
    report = flow(read(A=-np.eye(2), activation="leaky_relu:0.25"), 2.0, [2, 8], limits=QUICK)
    for bound in report.bounds:
        assert math.exp(-0.5) <= bound.gain <= math.exp(-0.5) * (1 + 1e-4)
        assert bound.rate == pytest.approx(-0.25, abs=1e-4)
    for network in report.networks:
        exact = (1 - network.step / 4) ** network.steps
        assert network.report.lower <= exact * (1 + 1e-12)
        assert exact * (1 - 1e-12) <= network.report.upper <= exact * (1 + 1e-5)


@pytest.mark.parametrize("name", ["one layer", "layers"])
def test_bounds_enclose_what_solutions_and_slopes_do(name):
    graph, duration = GRAPHS[name], 1.0
    report = flow(graph, duration, [1, 6], limits=QUICK)
    gains = [bound.gain for bound in report.bounds if bound.gain is not None]
    assert gains
    assert gains == sorted(gains, reverse=True)
    rng = np.random.default_rng(0)
    for _ in range(15):
        start = 2 * rng.standard_normal((2, report.size))
        ends = [solve_ivp(lambda _, u: graph.forward(u[None])[0], (0, duration), x, rtol=1e-10, atol=1e-12).y[:, -1]
                for x in start]
        assert np.linalg.norm(ends[0] - ends[1]) <= min(gains) * np.linalg.norm(start[0] - start[1]) * (1 + 1e-7)
    for network in report.networks:
        assert network.report.lower <= network.report.upper <= network.report.norm_product * (1 + 1e-6)
        assert network.rate(duration) == pytest.approx(math.log(network.report.upper) / duration)
    # Many steps are near the flow, up to an error of order h; one step expands by far more.
    coarse, fine = report.networks
    assert fine.report.lower <= min(gains) * (1 + fine.step)
    assert fine.report.upper < coarse.report.upper


def test_no_course_of_slopes_exceeds_the_bounds():
    report = flow(GRAPHS["one layer"], 1.5, [1], limits=QUICK)
    best = min(bound.gain for bound in report.bounds if bound.gain is not None)
    for seed in range(50):
        rng, product = np.random.default_rng(seed), np.eye(3)
        for _ in range(10):
            product = expm(0.15 * rng.choice([0.1, 1.0], 3)[:, None] * A3) @ product
        assert np.linalg.norm(product, 2) <= best


def test_a_metric_is_better_where_solutions_rotate():
    report = flow(read(A=np.array([[-0.3, 4.0], [-0.25, -0.3]])), 2.0, [1], limits=QUICK)
    semidefinite, exact, differential = (bound.gain for bound in report.bounds)
    assert differential < 0.7 * exact
    assert exact <= semidefinite * (1 + 1e-9)


@pytest.mark.parametrize("exponent", [-10, 10])
def test_units_of_time_do_not_matter(exponent):
    plain = flow(read(A=A3), 1.0, [1], pieces=2, limits=QUICK)
    scaled = flow(read(A=np.ldexp(A3, exponent)), float(np.ldexp(1.0, -exponent)), [1], pieces=2, limits=QUICK)
    for before, after in zip(plain.bounds, scaled.bounds, strict=True):
        assert after.gain == pytest.approx(before.gain, rel=1e-5)
    assert scaled.networks[0].report.upper == pytest.approx(plain.networks[0].report.upper, rel=1e-5)


def test_certificates_are_proved_anew_and_no_others(tmp_path):
    report = flow(GRAPHS["general"], 0.5, [1], pieces=2, limits=QUICK)
    assert isinstance(report.certificate, FlowCertificate)
    report.certificate.save(tmp_path / "c.json")
    loaded = load_flow_certificate(tmp_path / "c.json")
    from netgain.verify.contractivity.slope_fields import slope_field

    field = slope_field(GRAPHS["general"])
    matrices = (field.inputs, field.outputs, field.linear)
    assert loaded.gain == min(bound.gain for bound in report.bounds if "metric" in bound.method)
    assert check_flow_certificate(loaded, *matrices).proved
    assert not check_flow_certificate(dataclasses.replace(loaded, gain=0.99 * loaded.gain), *matrices).proved
    assert not check_flow_certificate(dataclasses.replace(loaded, lower=loaded.lower - 0.5), *matrices).proved
    moved = check_flow_certificate(loaded, 1.001 * field.inputs, field.outputs, field.linear)
    assert not moved.proved
    assert "digests differ" in moved.decision.value
    text = (tmp_path / "c.json").read_text()
    (tmp_path / "altered.json").write_text(text.replace('"duration": 0.5', '"duration": 0.25'))
    with pytest.raises(CertificateError, match="altered"):
        load_flow_certificate(tmp_path / "altered.json")


def test_an_interruption_ends_what_is_under_way(monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(flow_module, "flow_bound", interrupted)
    report = flow(GRAPHS["one layer"], 1.0, [1], limits=QUICK)
    assert report.certificate is None
    assert "interrupted" in report.bounds[-1].note
    assert report.proved
    assert report.networks == ()
    assert "Interrupted" in report.notes[-1]
    monkeypatch.undo()
    monkeypatch.setattr(flow_module, "lipschitz", interrupted)
    report = flow(GRAPHS["one layer"], 1.0, [1, 2], limits=QUICK)
    assert report.proved
    assert report.networks == ()
    assert "Interrupted" in report.notes[-1]
    monkeypatch.undo()
    monkeypatch.setattr(WitnessSearch, "find", interrupted)
    report = flow(GRAPHS["one layer"], 1.0, [1, 2], limits=QUICK)
    assert [network.steps for network in report.networks] == [1]
    assert report.networks[0].report.proved
    assert "Interrupted" in report.notes[-1]


def test_fewer_pieces_and_no_inequality_where_time_is_short():
    matrix = np.random.default_rng(0).standard_normal((12, 12)) / 12**0.5 - np.eye(12)
    report = flow(read(A=matrix), 1.0, [1], pieces=8, limits=Limits(time_limit=2.0))
    assert report.certificate is not None
    assert "predicted" in report.bounds[-1].note
    matrix = np.random.default_rng(0).standard_normal((40, 40)) / 40**0.5 - np.eye(40)
    report = flow(read(A=matrix), 1.0, [1], limits=Limits(time_limit=3.0))
    assert report.certificate is None
    assert "not run" in report.bounds[-1].note
    assert report.bounds[0].gain is not None


@pytest.mark.parametrize(("duration", "steps", "pieces"), [(0.0, [1], 1), (math.inf, [1], 1), (1.0, [], 1),
                                                           (1.0, [0], 1), (1.0, [1], 0)])
def test_numbers_have_to_be_positive(duration, steps, pieces):
    with pytest.raises(ValueError, match="must be positive"):
        flow(GRAPHS["one layer"], duration, steps, pieces=pieces)


def test_exponentials_are_rounded_upwards():
    for rate, duration in [(0.3, 0.7), (-1.1, 0.1), (5.0, 20.0), (0.0, 1.0)]:
        bound = exponential_upper(rate, duration)
        assert math.exp(rate * duration) * (1 - 1e-12) <= bound <= math.exp(rate * duration) * (1 + 1e-12)
    assert exponential_upper(0.0, 1.0) == 1.0
    assert exponential_upper(1.0, 1.0) > math.e or exponential_upper(1.0, 1.0) == math.nextafter(math.e, 3)


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_the_picture_shows_all_bounds(tmp_path, ending):
    pytest.importorskip("matplotlib")
    report = flow(GRAPHS["one layer"], 1.0, [1, 2], pieces=1, limits=QUICK)
    plot_flow(report, tmp_path / f"f.{ending}")
    content = (tmp_path / f"f.{ending}").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n" if ending == "png" else b"</svg>" in content
