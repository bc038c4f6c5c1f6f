"""What is measured and proved of trained implicit classifiers, and the table of it."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from netgain.layers import Relu
from netgain.solvers.implicit.attack import attack
from netgain.solvers.implicit.diagonal_metric import diagonal_stability, euclidean_gain
from netgain.solvers.implicit.fixed_point import Method, Step
from netgain.solvers.implicit.gain import least_weighted_gain
from netgain.solvers.implicit.gain_witness import gain_witness
from netgain.solvers.implicit.network import Equilibria, ImplicitNetwork, NotConverged, equilibria
from netgain.solvers.implicit.row_gain import row_gain
from netgain.solvers.implicit.weighted_log_norm import least_log_norm, metzler_majorant
from netgain.solvers.result import Limits
from netgain.verify.implicit.check import (
    proved_majorant_gain,
    proved_row_gain,
    proves_diagonal_metric,
    proves_euclidean_gain,
)
from netgain.verify.implicit.euclidean_margins import euclidean_margins, margin_radii
from netgain.verify.implicit.reachability import Reachability, implicit_network, pairwise_gains
from netgain.verify.implicit.weighted_log_norm_check import least_proved_log_norm
from netgain.verify.rounding import rounded_down, rounded_up

from ..data import Dataset

_NUMBERS = {"bound_inf": "l_inf bound", "majorant_inf": "by M-matrix", "weighted_inf": "by weights",
            "witness_inf": "l_inf witness", "bound_2": "l2 bound", "witness_2": "l2 witness"}
# Radii in the largest norm and in the Euclidean one, of pixels in [0, 1].
RADII, RADII_2 = (0.01, 0.05, 0.1), (0.1, 0.5)
# Of 100 neurons and whole test sets, from the notebook beside the code of arXiv 2204.00187 (robust-inn-mm): trained for
# 41 epochs with boxes of radius 0.1, and without (mean of five).
PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "published, boxes": {"test_accuracy": 0.9542, "pgd": {"0.1": 0.8658},
                         "certified_boxes": {"0.05": 0.9129, "0.1": 0.8368}},
    "published, no boxes": {"test_accuracy": 0.9773, "pgd": {"0.01": 0.9559, "0.05": 0.5475, "0.1": 0.0804}},
}
_ATTACK_STEPS = 20
_BATCH = 1000
# Programs of single outputs take minutes for more.
_MOST_NEURONS = 150
# Of the sum of squares of a gain: a quarter of a per cent of the gain.
_ROW_LIMITS = Limits(tolerance=5e-3)
_CONDITIONS = (("log_norm_below_one", "l_inf"), ("diagonal_metric", "metric"))
# Tolerance of iterations under attack: classes are what counts.
_ROUGH = 1e-4


def measure(parts: Mapping[str, np.ndarray], dataset: Dataset, attacked: int, pairs: bool) -> dict[str, Any]:
    """Accuracy, clean, attacked and certified; well-posedness; Lipschitz constants from above and below.

    **Arguments:** `attacked`: the first so many test images are attacked and certified, all are classified; `pairs`:
    whether gains of differences of outputs come from programs of their own, or are sums of gains.
    """
    A, B, b, C, c = (parts[key].astype(np.float64) for key in ("A", "B", "b", "C", "c"))
    network = implicit_network(A, B, b, C, c, Relu())
    images = dataset.test_images.reshape(len(dataset.test_images), -1).astype(np.float64)
    labels = dataset.test_labels
    proved = _well_posed(network)
    guaranteed = proved["log_norm_below_one"] or proved["diagonal_metric"]
    found = equilibria(network) if guaranteed else Equilibria(
        network, Method.AVERAGE, Step(0.5, np.inf), Step(0.5, np.inf), np.ones(len(network.A)), np.ones(len(network.A)),
        None)
    bounds = _bounds(network, proved)
    result = proved | {"attacked_images": attacked, "pairs": pairs} | bounds
    try:
        result["test_accuracy"] = 1 - _wrong(found, images, labels, 0.0, 0)
        for name, steps in (("fgsm", 1), ("pgd", _ATTACK_STEPS)):
            result[name] = {str(radius): 1 - _wrong(found, images[:attacked], labels[:attacked], radius, steps)
                            for radius in RADII}
        result["pgd_2"] = {str(radius): 1 - _wrong(found, images[:attacked], labels[:attacked], radius, _ATTACK_STEPS,
                                                   order=2) for radius in RADII_2}
        result["witness_inf"] = gain_witness(found, np.inf, starts=4, steps=8, spread=0.3).gain
        result["witness_2"] = gain_witness(found, 2, starts=4, steps=8, spread=0.3).gain
    except NotConverged as error:
        if guaranteed:
            raise
        result["not_converged"] = str(error)
    result["certified_2"] = None if bounds["bound_2"] is None else _certified_2(
        found, images[:attacked], labels[:attacked], bounds["bound_2"])
    if not proved["log_norm_below_one"]:
        return result | {"certified_boxes": None, "certified_gains": None, "median_radius": None}
    return result | _certified(network, images[:attacked], labels[:attacked], _gains(network, bounds["row_inf"], pairs))


def _well_posed(network: ImplicitNetwork) -> dict[str, Any]:
    """Which conditions are proved, exactly or with rounding accounted for."""
    found, ones = least_log_norm(network.A), np.ones(len(network.A))
    log_norm = least_proved_log_norm(network.A, found.weights, ones, ones)
    metric = diagonal_stability(network.A)
    return {"log_norm": log_norm, "log_norm_below_one": log_norm < 1,
            "diagonal_metric": metric.margin > 0 and proves_diagonal_metric(network.A, metric.metric)}


def _bounds(network: ImplicitNetwork, proved: Mapping[str, Any]) -> dict[str, Any]:
    """Proved gains; None where there is no proof of that kind. The weighted formula is in floating point."""
    A, B, C = network.A, network.B, network.C
    result: dict[str, Any] = dict.fromkeys(("weighted_inf", "majorant_inf", "row_inf", "bound_2", "bound_inf"))
    if proved["log_norm_below_one"]:
        result["weighted_inf"] = least_weighted_gain(A, B, C, signed=False)[0]
        result["majorant_inf"] = proved_majorant_gain(A, B, C, _majorant_vector(network))
    if proved["diagonal_metric"]:
        gain = euclidean_gain(A, B, C, tolerance=1e-4)
        if proves_euclidean_gain(A, B, C, gain.metric, gain.gain * (1 + 1e-6)):
            result["bound_2"] = gain.gain * (1 + 1e-6)
        if len(A) <= _MOST_NEURONS:
            result["row_inf"] = [_proved_row(network, row, gain.metric) for row in C]
    rows = [np.inf if value is None else value for value in result["row_inf"] or [None]]
    # |dy|_inf <= |dy|_2 <= L |du|_2 <= L sqrt(m) |du|_inf.
    crossed = np.inf if result["bound_2"] is None else result["bound_2"] * np.sqrt(B.shape[1]) * (1 + 1e-12)
    candidates = [max(rows), result["majorant_inf"] or np.inf, crossed]
    result["bound_inf"] = min(candidates) if np.isfinite(min(candidates)) else None
    return result


def _proved_row(network: ImplicitNetwork, row: np.ndarray, metric: np.ndarray) -> float | None:
    """The l_inf gain of row @ x that is proved by semidefinite programming."""
    found = row_gain(network.A, network.B, row, limits=_ROW_LIMITS, start=metric)
    return proved_row_gain(network.A, network.B, row, found.metric, found.inputs * (1 + 1e-6))


def _majorant_vector(network: ImplicitNetwork) -> np.ndarray:
    inputs = np.abs(network.B).sum(1) * (1 + 1e-9) + 1e-12
    return np.linalg.solve(np.eye(len(network.A)) - metzler_majorant(network.A), inputs)


def _gains(network: ImplicitNetwork, rows: Sequence[float | None] | None, pairs: bool) -> np.ndarray:
    """Proved l_inf gains of y_i - y_j, shape (q, q): the least of what the majorant, sums and pairs say."""
    C, q = network.C, len(network.C)
    gains = pairwise_gains(network.A, network.B, C, _majorant_vector(network))
    gains = np.full((q, q), np.inf) if gains is None else gains
    single = np.array([np.inf if value is None else value for value in rows or [None] * q])
    gains = np.minimum(gains, np.nextafter(single[:, None] + single, np.inf))
    if pairs:
        metric = diagonal_stability(network.A).metric
        for i, j in itertools.combinations(range(q), 2):
            # The difference of two float64 rows is another row if it is rounded: nothing is claimed then.
            row = C[i] - C[j]
            exact = np.all((row + C[j] == C[i]) & (C[i] - row == C[j]))
            value = _proved_row(network, row, metric) if exact else None
            gains[i, j] = gains[j, i] = min(gains[i, j], np.inf if value is None else value)
    return np.asarray(gains)


def _certified(network: ImplicitNetwork, images: np.ndarray, labels: np.ndarray, gains: np.ndarray) -> dict[str, Any]:
    """Shares of images with a proved radius of at least each of RADII, pixels staying in [0, 1]; by boxes, by gains."""
    method = Reachability(network.A, network.B, network.b, network.C, network.c, Relu())
    by_gains = method.margin_radii(images, labels, gains)
    radii = np.maximum(method.radii(images, labels, 0.0, 1.0), by_gains)
    boxes = {radius: method.certified(images, labels, radius, 0.0, 1.0) for radius in RADII}
    return {
        "certified_boxes": {str(radius): float(boxes[radius].mean()) for radius in RADII},
        "certified_gains": {str(radius): float((by_gains >= radius).mean()) for radius in RADII},
        "median_radius": float(np.median(radii)),
    }


def _certified_2(found: Equilibria, images: np.ndarray, labels: np.ndarray, gain: float) -> dict[str, float] | None:
    """Shares of images with a proved l2 radius of at least each of RADII_2, by margins over the proved l2 gain."""
    net, metric = found.network, diagonal_stability(found.network.A).metric
    states = np.concatenate([found.states(images[k : k + _BATCH]) for k in range(0, len(images), _BATCH)])
    margins = euclidean_margins(net.A, net.B, net.b, net.C, net.c, Relu(), metric, images, states, labels)
    if margins is None:
        return None
    radii = margin_radii(margins, gain)
    return {str(radius): float((radii >= radius).mean()) for radius in RADII_2}


def _wrong(found: Equilibria, images: np.ndarray, labels: np.ndarray, radius: float, steps: int, order: float = np.inf
           ) -> float:
    """The share of images that are misclassified after this attack."""
    wrong = 0
    for k in range(0, len(images), _BATCH):
        rows = slice(k, k + _BATCH)
        done = attack(found, images[rows], labels[rows], radius, order, steps=steps, floor=0.0, ceiling=1.0,
                      tolerance=_ROUGH if steps else 1e-9)
        wrong += int(done.succeeded.sum())
    return wrong / len(images)


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The results as Markdown, published figures below."""
    head = ["model", "test accuracy", "least mu(A)", "well-posed", *_NUMBERS.values(),
            *(f"FGSM / PGD {radius}" for radius in RADII),
            *(f"certified {radius}: boxes / gains" for radius in RADII), "median radius",
            *(f"l2 {radius}: PGD / certified" for radius in RADII_2), "images", "seconds"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, row in {**rows, **PUBLISHED}.items():
        conditions = [text for key, text in _CONDITIONS if row.get(key)]
        proved = " and ".join(conditions) or ("not proved" if name in rows else "-")
        cells = [name, _percent(row.get("test_accuracy")), _number(row.get("log_norm")), proved]
        cells += [_safe(key, row.get(key)) for key in _NUMBERS]
        cells += [_two(row, "fgsm", "pgd", radius) for radius in RADII]
        cells += [_two(row, "certified_boxes", "certified_gains", radius) for radius in RADII]
        cells += [_number(row.get("median_radius")),
                  *(_two(row, "pgd_2", "certified_2", radius) for radius in RADII_2),
                  _number(row.get("attacked_images")), _number(row.get("seconds"))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n\nAttacked and certified: so many test images, the first ones.\n"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


def _safe(key: str, value: float | None) -> str:
    """A witness rounded down, a bound rounded up."""
    if value is None:
        return "-"
    return (rounded_down if key.startswith("witness") else rounded_up)(value, 4)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _two(row: Mapping[str, Any], first: str, second: str, radius: float) -> str:
    values = [(row.get(key) or {}).get(str(radius)) for key in (first, second)]
    return " / ".join("-" if value is None else f"{100 * value:.1f}" for value in values)
