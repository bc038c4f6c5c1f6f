"""Certified radii against what is known exactly, against a grid, and against attacks; certificates that are refused."""

import dataclasses
import json
import math

import numpy as np
import pytest
from netgain.layers import Affine, ModelError, sequential
from netgain.solvers.result import Limits
from netgain.verify.certificate import CertificateError
from netgain.verify.robustness import report as report_module
from netgain.verify.robustness.attack import Attack
from netgain.verify.robustness.certificate import load_robustness
from netgain.verify.robustness.check import Finding, check_robustness
from netgain.verify.robustness.margins import margins
from netgain.verify.robustness.report import robustness
from netgain.verify.robustness.samples import Samples

from .classifiers import CLASSIFIERS, linear, perceptron

QUICK = Attack(steps=15, restarts=2)


def samples(graph, count=8, seed=0, wrong=0.2):
    """Random inputs, most of them with the label that the network gives them."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, *graph.shape(graph.input)))
    logits = graph.forward(x).reshape((count, -1))
    y = np.where(rng.uniform(size=count) < wrong, rng.integers(logits.shape[1], size=count), np.argmax(logits, axis=1))
    return Samples(x, y, "random", "", count)


@pytest.fixture(scope="module")
def found():
    graph = CLASSIFIERS["relu"]
    return graph, robustness(graph, samples(graph, 30), (0.05, 0.2, 0.5), attack=QUICK)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_certified_accuracy_is_at_most_attacked_accuracy_at_every_radius(name):
    graph = CLASSIFIERS[name]
    report = robustness(graph, samples(graph), (0.0, 0.02, 0.1, 0.5), attack=QUICK)
    clean = np.mean(report.right)
    assert report.curve[0].certified == clean
    for point, further in zip(report.curve, (*report.curve[1:], None), strict=True):
        assert point.certified <= point.attacked <= clean
        assert further is None or (further.certified <= point.certified and further.attacked <= point.attacked)
    assert np.all(report.radii[report.right] < report.attacked[report.right])
    assert report.curve[1].certified > 0
    assert check_robustness(report.certificate, graph).proved


def test_radii_of_a_linear_classifier_are_distances_to_its_hyperplanes():
    graph = CLASSIFIERS["linear"]
    x = np.array([[1.0, 0.5], [0.2, 2.0], [-1.0, -1.0], [1.0, 0.0]])
    y = np.array([0, 1, 2, 1])
    report = robustness(graph, Samples(x, y, "", "", 4), (0.1, 0.5, 1.0, 2.0), attack=QUICK)
    assert report.radii == pytest.approx([1 / 5, 7.4 / 5, 1.0, 3 / 5], rel=1e-6)
    # The attack finds the nearest points of other classes of a linear classifier, and nothing before them.
    assert report.attacked == pytest.approx([1 / 5, 7.4 / 5, 1.0, 0.0], rel=1e-3)
    assert list(report.right) == [True, True, True, False]


def test_no_point_of_a_fine_grid_within_a_certified_disc_is_of_another_class(found):
    graph, report = found
    angles = np.linspace(0, 2 * math.pi, 180, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    nearest = np.full(len(report.samples), math.inf)
    for k, x in enumerate(report.samples.inputs):
        for length in np.linspace(0.01, 1.0, 120):
            classes = np.argmax(graph.forward(x + length * 2 * report.radii[k] * circle), axis=1)
            if np.any(classes != report.predicted[k]):
                nearest[k] = length * 2 * report.radii[k]
                break
    assert np.all(nearest > report.radii)
    # Not vacuous: some class changes before twice the radius.
    assert np.any(np.isfinite(nearest))


def test_attacks_find_what_a_grid_finds(found):
    graph, report = found
    for k in np.flatnonzero(np.isfinite(report.attacked) & report.right)[:5]:
        angles = np.linspace(0, 2 * math.pi, 720, endpoint=False)
        for length in np.linspace(0.02, 1.0, 50) * report.attacked[k]:
            ring = report.samples.inputs[k] + length * np.stack([np.cos(angles), np.sin(angles)], axis=1)
            if np.any(np.argmax(graph.forward(ring), axis=1) != report.predicted[k]):
                break
        assert length >= 0.9 * report.attacked[k]


def test_the_certificate_survives_its_file(found, tmp_path):
    graph, report = found
    report.certificate.save(tmp_path / "c.json")
    again = load_robustness(tmp_path / "c.json")
    verdict = check_robustness(again, graph)
    assert verdict.proved
    assert verdict.samples == len(report.samples)
    assert verdict.constants == 4
    assert again.to_json() == report.certificate.to_json()
    altered = json.loads((tmp_path / "c.json").read_text())
    altered["samples"][0]["radius"] *= 1.01
    (tmp_path / "c.json").write_text(json.dumps(altered))
    with pytest.raises(CertificateError, match="altered"):
        load_robustness(tmp_path / "c.json")


def _samples(certificate, k, **changes):
    changed = dataclasses.replace(certificate.samples[k], **changes)
    return dataclasses.replace(certificate, samples=(*certificate.samples[:k], changed, *certificate.samples[k + 1:]))


def _pairs(certificate, **changes):
    pair, own = next(iter(certificate.pairs.items()))
    return dataclasses.replace(certificate, pairs={**certificate.pairs, pair: dataclasses.replace(own, **changes)})


def _mutations(c):
    pair, own = next(iter(c.pairs.items()))
    swapped = {pair: list(c.pairs.values())[-1]}
    return {
        "radius": (_samples(c, 1, radius=c.samples[1].radius * 1.001), Finding.RADIUS_NOT_PROVED),
        "class": (_samples(c, 1, predicted=(c.samples[1].predicted + 1) % 3), Finding.RADIUS_NOT_PROVED),
        "nan": (_samples(c, 1, radius=math.nan), Finding.MALFORMED),
        "unknown class": (_samples(c, 1, predicted=3), Finding.MALFORMED),
        "shape": (_samples(c, 1, x=c.samples[1].x[:1]), Finding.MALFORMED),
        "value": (_pairs(c, value=own.value * 0.99), Finding.CONSTANT_NOT_PROVED),
        "multiplier": (_pairs(c, multipliers=tuple(-lam for lam in own.multipliers)), Finding.CONSTANT_NOT_PROVED),
        "other pair": (dataclasses.replace(c, pairs=c.pairs | swapped), Finding.CONSTANT_NOT_PROVED),
        "no such pair": (dataclasses.replace(c, pairs={(0, 5): own}), Finding.MALFORMED),
        "no pairs": (dataclasses.replace(c, pairs={}), Finding.RADIUS_NOT_PROVED),
        "overall": (dataclasses.replace(c, overall=dataclasses.replace(c.overall, value=c.overall.value / 2)),
                    Finding.CONSTANT_NOT_PROVED),
        "no constants": (dataclasses.replace(c, pairs={}, overall=None), Finding.RADIUS_NOT_PROVED),
        "digest": (dataclasses.replace(c, digest="0" * 64), Finding.OTHER_MODEL),
    }


@pytest.mark.parametrize("name", ["radius", "class", "nan", "unknown class", "shape", "value", "multiplier",
                                  "other pair", "no such pair", "no pairs", "overall", "no constants", "digest"])
def test_certificates_that_were_tampered_with_are_refused(found, name):
    graph, report = found
    certificate, expected = _mutations(report.certificate)[name]
    assert check_robustness(certificate, graph).finding is expected


def test_certificates_of_other_weights_are_refused(found):
    assert check_robustness(found[1].certificate, perceptron((2, 8, 8, 3), seed=9)).finding is Finding.OTHER_MODEL


def test_a_network_of_one_output_is_no_classifier():
    graph = linear(np.ones((1, 3)))
    with pytest.raises(ModelError, match="at least two outputs"):
        robustness(graph, Samples(np.zeros((1, 3)), np.zeros(1, int), "", "", 1))


def test_samples_that_are_not_classified_in_time_are_left_out(monkeypatch):
    graph = CLASSIFIERS["relu"]
    monkeypatch.setattr(report_module, "margins", lambda graph, inputs, deadline: margins(graph, inputs, 0.0))
    report = robustness(graph, samples(graph, 30), (0.1,), attack=QUICK)
    assert len(report.samples) == len(report.radii) == len(report.attacked) == 8
    assert any("first 8 of 30 samples" in note for note in report.notes)
    assert check_robustness(report.certificate, graph).proved


def test_pairs_of_many_classes_are_optimised_where_they_decide():
    graph = perceptron((4, 6, 40), seed=2)
    report = robustness(graph, samples(graph, 3, wrong=0.0), (0.1,), attack=QUICK)
    assert set(report.bounds.pairs) == report.bounds.optimised
    assert 1 <= len(report.bounds.pairs) < 60
    assert np.all(report.radii > 0)


def test_a_short_time_gives_what_is_proved_by_then():
    graph = perceptron((6, 30, 30, 8))
    report = robustness(graph, samples(graph), (0.1,), limits=Limits(tolerance=1e-3, time_limit=1e-3), attack=QUICK)
    assert report.proved
    assert any("for lack of time" in note or "cut short" in note for note in report.notes)
    assert check_robustness(report.certificate, graph).proved


def test_outputs_that_never_change_have_no_end_of_their_radius():
    rows = np.zeros((2, 3))
    graph = sequential((3,), [Affine(rows, np.array([1.0, 0.0]))])
    report = robustness(graph, Samples(np.ones((2, 3)), np.array([0, 1]), "", "", 2), (1.0,), attack=QUICK)
    assert list(report.radii) == [math.inf, math.inf]
    assert report.curve[0].certified == 0.5
    assert check_robustness(report.certificate, graph).proved
