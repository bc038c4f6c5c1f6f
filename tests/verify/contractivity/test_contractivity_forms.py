"""Several layers, and weights that change with time: bounds in order, certificates, and the command line for both."""

import dataclasses
import itertools
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.integrate
from netgain.solvers.contractivity.logarithmic_norm import SlopeField
from netgain.solvers.contractivity.multilayer_field import MultilayerField
from netgain.solvers.contractivity.time_dependent_field import SampledField
from netgain.verify import CertificateError, cli
from netgain.verify.contractivity.check import Decision
from netgain.verify.contractivity.forms import contractivity_in_time, contractivity_of_layers
from netgain.verify.contractivity.in_time_certificate import check_in_time, load_in_time_certificate
from netgain.verify.contractivity.multilayer_certificate import (
    check_multilayer_certificate,
    load_multilayer_certificate,
)
from netgain.verify.contractivity.multilayer_check import MultilayerClaim, multilayer_norm_at
from netgain.verify.contractivity.report import ContractivityVerdict
from netgain.verify.outcomes import ExitCode
from netgain.verify.sealed_json import sealed
from typer.testing import CliRunner

LAYERS = (np.array([[1.0, -1], [0.5, 1]]), np.array([[-1.0, 0.5], [1, -1]]))
TURN = np.array([[0.0, 1, 0], [-1, 0, 0.5], [0, -0.5, 0]])


def layers_of(seed):
    rng = np.random.default_rng(seed)
    return MultilayerField((rng.standard_normal((3, 2)), rng.standard_normal((2, 3))), 0.2)


def moving(seed=0, points=9, amplitude=0.3):
    """A(t) = A_0 + amplitude sin(2 t) K on [0, 1] with |K| = 1: Lipschitz with 2 amplitude."""
    a = np.random.default_rng(seed).standard_normal((3, 3)) / 2 - 1.5 * np.eye(3)
    k = TURN / np.linalg.norm(TURN, 2)
    times = np.linspace(0, 1, points)

    def at(t):
        return a + amplitude * np.sin(2 * t) * k

    return SampledField(times, np.stack([at(t) for t in times]), 2 * amplitude * (1 + 1e-9), 0.2), at


def worst(field):
    if isinstance(field, SlopeField):
        vertices = itertools.product((field.lower, field.upper), repeat=field.neurons)
        return max(np.linalg.eigvalsh(field.symmetric(np.array(d)))[-1] for d in vertices)
    sizes = [len(weight) for weight in field.weights]
    vertices = itertools.product((field.lower, field.upper), repeat=sum(sizes))
    return max(field.top(np.split(np.array(d), np.cumsum(sizes)[:-1]))[0] for d in vertices)


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("seed", range(4))
def test_layers_bounded_both_ways(seed):
    field = layers_of(seed)
    report, exact = contractivity_of_layers(field, 1.0), worst(field)
    assert report.worst.gradient <= exact + 1e-9
    assert exact - 1e-6 <= report.worst.lower <= exact + 1e-12
    assert exact <= report.worst.upper <= report.worst.norm_product + 1e-5
    assert check_multilayer_certificate(report.certificate, field.weights).proved
    assert report.certificate.level == report.worst.upper
    if report.intervals.high is not None:
        assert report.intervals.gradient <= report.intervals.high + 1e-8
        assert worst(field.with_lower(report.intervals.high)) <= 1.0
        assert check_multilayer_certificate(report.interval_certificate, field.weights).proved
        assert report.interval_certificate.lower == report.intervals.high


def test_two_layers_by_the_numbers():
    """The largest of sixteen vertices is 0.347344210, the semidefinite bound 0.398832569 (slopes in [0.1, 1])."""
    report = contractivity_of_layers(MultilayerField(LAYERS, 0.1))
    assert report.worst.lower == pytest.approx(0.347344210, abs=1e-8)
    assert report.worst.upper == pytest.approx(0.398832569, abs=1e-5)
    assert report.verdict is ContractivityVerdict.NOT_CONTRACTIVE
    assert contractivity_of_layers(MultilayerField(LAYERS, 0.1), 0.37).verdict is ContractivityVerdict.UNDECIDED


def test_values_at_slopes_of_layers_are_rounded_downwards():
    claim, rng = MultilayerClaim(LAYERS, 0.1, 1.0, 0.0), np.random.default_rng(1)
    field = MultilayerField(LAYERS, 0.1)
    for _ in range(5):
        d = tuple(rng.uniform(0.1, 1, 2) for _ in LAYERS)
        value, x = field.top(list(d))
        assert value - 1e-12 <= multilayer_norm_at(claim, d, x) <= value + 1e-14
        assert multilayer_norm_at(claim, d, rng.standard_normal(2)) <= value
    with pytest.raises(ValueError, match=r"must lie in \[0.1, 1.0\]"):
        multilayer_norm_at(claim, (d[0] + 1, d[1]), x)
    with pytest.raises(ValueError, match="not zero"):
        multilayer_norm_at(claim, d, np.zeros(2))


@pytest.mark.parametrize("seed", range(3))
def test_in_between_the_samples_too(seed):
    sampled, at = moving(seed)
    report = contractivity_in_time(sampled)
    values = [worst(SlopeField(at(t), 0.2)) for t in np.linspace(0, 1, 101)]
    assert max(values) <= report.worst.upper <= report.worst.norm_product + 1e-5
    assert report.worst.gradient - 1e-12 <= report.worst.lower <= max(values) + 1e-12
    assert np.mean(values) <= report.log_gain + 1e-3
    assert check_in_time(report.certificate, sampled).proved
    if report.intervals.high is not None:
        assert max(worst(SlopeField(at(t), report.intervals.high)) for t in np.linspace(0, 1, 101)) <= 0
        assert check_in_time(report.interval_certificate, sampled).proved
    finer = contractivity_in_time(moving(seed, points=65)[0])
    assert max(values) <= finer.worst.upper < report.worst.upper


def test_solutions_approach_each_other_as_proved():
    """Two solutions of u' = s(A(t) u), by an integrator that knows nothing of norms."""
    sampled, at = moving()
    report = contractivity_in_time(sampled)

    def field(t, u):
        v = at(t) @ u
        return np.where(v > 0, v, 0.2 * v)

    ends = [scipy.integrate.solve_ivp(field, (0, 1), start, rtol=1e-9, atol=1e-12).y[:, -1]
            for start in np.random.default_rng(0).standard_normal((2, 3))]
    starts = np.random.default_rng(0).standard_normal((2, 3))
    ratio = np.linalg.norm(ends[0] - ends[1]) / np.linalg.norm(starts[0] - starts[1])
    assert ratio <= math.exp(report.log_gain) <= math.exp(report.worst.upper) * (1 + 1e-12)


def test_what_is_lowered_is_not_proved(tmp_path):
    sampled, _ = moving()
    certificate = contractivity_in_time(sampled).certificate
    lowered = {"level": certificate.level - 1e-3, "log_gain": certificate.log_gain - 1e-3,
               "levels": certificate.levels - 1e-2, "lower": 0.0}
    for key, value in lowered.items():
        assert check_in_time(dataclasses.replace(certificate, **{key: value}), sampled).decision is Decision.NOT_PROVED
    short = dataclasses.replace(certificate, levels=certificate.levels[1:])
    assert check_in_time(short, sampled).decision is Decision.MALFORMED
    other = dataclasses.replace(sampled, lipschitz=2 * sampled.lipschitz)
    assert check_in_time(certificate, other).decision is Decision.OTHER_MATRICES
    of_layers = contractivity_of_layers(MultilayerField(LAYERS, 0.1)).certificate
    for key, value, decision in (("level", 0.39, Decision.NOT_PROVED), ("lower", 0.0, Decision.NOT_PROVED),
                                 ("multipliers", of_layers.multipliers[:1], Decision.MALFORMED)):
        changed = dataclasses.replace(of_layers, **{key: value})
        assert check_multilayer_certificate(changed, LAYERS).decision is decision


def test_files_read_back_exactly_or_are_refused(tmp_path):
    cases = ((contractivity_in_time(moving()[0]).certificate, load_in_time_certificate, "levels"),
             (contractivity_of_layers(MultilayerField(LAYERS, 0.1)).certificate, load_multilayer_certificate,
              "multipliers"))
    for certificate, load, key in cases:
        path = tmp_path / "c.json"
        certificate.save(path)
        again = load(path)
        assert again.to_json() == certificate.to_json()
        text = path.read_text()
        path.write_text(text.replace('"double"', '"exact"'))
        with pytest.raises(CertificateError, match="altered"):
            load(path)
        for value in (None, "none", [["x"]], 7):
            body = {name: part for name, part in json.loads(text).items() if name != "sha256"}
            path.write_text(json.dumps(sealed(body | {key: value})))
            with pytest.raises(CertificateError, match="wrong kind"):
                load(path)


@pytest.mark.parametrize("form", ["layers", "time"])
def test_the_command_line_knows_both(form, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sampled, _ = moving()
    if form == "layers":
        np.savez("ode.npz", A1=LAYERS[0], A2=LAYERS[1], activation="leaky_relu:0.1")
    else:
        np.savez("ode.npz", A=sampled.inputs, times=sampled.times, lipschitz=sampled.lipschitz,
                 activation="leaky_relu:0.2")
    result = run("contractivity", "ode.npz", "--level", 0.5, "--json")
    assert result.exit_code == ExitCode.PROVED
    content = json.loads(result.stdout)
    assert content["verdict"] == "contractive"
    assert content["search"] is content["worst"]["closed_form"] is None
    assert (content["log_gain"] is None) == (form == "layers")
    for name in ("ode.contractivity.json", "ode.contractivity.interval.json"):
        assert json.loads(run("check", name, "ode.npz", "--json").stdout)["proved"]
    np.savez("other.npz", A=np.eye(3), activation="tanh")
    assert run("check", "ode.contractivity.json", "other.npz").exit_code == ExitCode.REFUSED
    shown = run("contractivity", "ode.npz").stdout
    assert ("flow map" in shown) == (form == "time")
    assert re.search(r"^certified +-?\d", shown, re.M)
    assert Path("ode.contractivity.json").exists()
