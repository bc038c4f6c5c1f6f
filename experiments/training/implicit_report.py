"""What is measured and proved of trained implicit classifiers, and the table of it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from netgain.layers import Relu
from netgain.solvers.implicit.attack import attack
from netgain.solvers.implicit.diagonal_metric import diagonal_stability, euclidean_gain
from netgain.solvers.implicit.fixed_point import Method, Step
from netgain.solvers.implicit.gain import least_weighted_gain
from netgain.solvers.implicit.gain_witness import gain_witness
from netgain.solvers.implicit.network import Equilibria, ImplicitNetwork, NotConverged, equilibria
from netgain.solvers.implicit.weighted_log_norm import least_log_norm, metzler_majorant
from netgain.verify.implicit.check import proved_majorant_gain, proves_diagonal_metric, proves_euclidean_gain
from netgain.verify.implicit.reachability import Reachability, implicit_network, pairwise_gains
from netgain.verify.implicit.weighted_log_norm_check import least_proved_log_norm

from ..data import Dataset

# Radii in the largest norm, of pixels in [0, 1].
RADII = (0.01, 0.05, 0.1)
_ATTACK_STEPS = 20
_BATCH = 1000
_CONDITIONS = (("log_norm_below_one", "l_inf"), ("diagonal_metric", "metric"))
# Tolerance of iterations under attack: classes are what counts.
_ROUGH = 1e-4


def measure(parts: Mapping[str, np.ndarray], dataset: Dataset, attacked: int) -> dict[str, Any]:
    """Accuracy, clean, attacked and certified; well-posedness; Lipschitz constants from above and below.

    **Arguments:** `attacked`: the first so many test images are attacked and certified, all are classified.
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
    result = proved | {"attacked_images": attacked, **_bounds(network, proved)}
    try:
        result["test_accuracy"] = 1 - _wrong(found, images, labels, 0.0, 0)
        result["witness_inf"] = gain_witness(found, np.inf, starts=4, steps=8, spread=0.3).gain
        result["witness_2"] = gain_witness(found, 2, starts=4, steps=8, spread=0.3).gain
        for name, steps in (("fgsm", 1), ("pgd", _ATTACK_STEPS)):
            result[name] = {str(radius): 1 - _wrong(found, images[:attacked], labels[:attacked], radius, steps)
                            for radius in RADII}
    except NotConverged as error:
        if guaranteed:
            raise
        result["not_converged"] = str(error)
    return result | _certified(network, images[:attacked], labels[:attacked], proved)


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
    result: dict[str, Any] = {"weighted_inf": None, "majorant_inf": None, "bound_2": None, "bound_inf": None}
    if proved["log_norm_below_one"]:
        result["weighted_inf"] = least_weighted_gain(A, B, C, signed=False)[0]
        result["majorant_inf"] = proved_majorant_gain(A, B, C, _majorant_vector(network))
    if proved["diagonal_metric"]:
        gain = euclidean_gain(A, B, C, tolerance=1e-4)
        if proves_euclidean_gain(A, B, C, gain.metric, gain.gain * (1 + 1e-6)):
            result["bound_2"] = gain.gain * (1 + 1e-6)
    candidates = [result["majorant_inf"]]
    if result["bound_2"] is not None:  # |du|_2 <= sqrt(m) |du|_inf, and |dy|_inf <= |dy|_2
        candidates.append(float(np.nextafter(result["bound_2"] * np.nextafter(B.shape[1] ** 0.5, np.inf), np.inf)))
    result["bound_inf"] = min((value for value in candidates if value is not None), default=None)
    return result


def _majorant_vector(network: ImplicitNetwork) -> np.ndarray:
    inputs = np.abs(network.B).sum(1) * (1 + 1e-9) + 1e-12
    return np.linalg.solve(np.eye(len(network.A)) - metzler_majorant(network.A), inputs)


def _certified(network: ImplicitNetwork, images: np.ndarray, labels: np.ndarray, proved: Mapping[str, Any]
               ) -> dict[str, Any]:
    """Shares of images with a proved radius of at least each of RADII, pixels staying in [0, 1]; by boxes, by gains."""
    if not proved["log_norm_below_one"]:
        return {"certified_boxes": None, "certified_gains": None, "median_radius": None}
    method = Reachability(network.A, network.B, network.b, network.C, network.c, Relu())
    gains = pairwise_gains(network.A, network.B, network.C, _majorant_vector(network))
    by_gains = np.zeros(len(images)) if gains is None else method.margin_radii(images, labels, gains)
    radii = method.radii(images, labels, 0.0, 1.0)
    return {
        "certified_boxes": {str(radius): float(method.certified(images, labels, radius, 0.0, 1.0).mean())
                            for radius in RADII},
        "certified_gains": {str(radius): float((by_gains >= radius).mean()) for radius in RADII},
        "median_radius": float(np.median(radii)),
    }


def _wrong(found: Equilibria, images: np.ndarray, labels: np.ndarray, radius: float, steps: int) -> float:
    """The share of images that are misclassified after this attack."""
    wrong = 0
    for k in range(0, len(images), _BATCH):
        rows = slice(k, k + _BATCH)
        done = attack(found, images[rows], labels[rows], radius, np.inf, steps=steps, floor=0.0, ceiling=1.0,
                      tolerance=_ROUGH if steps else 1e-9)
        wrong += int(done.succeeded.sum())
    return wrong / len(images)


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The results as Markdown."""
    attacked = max(row["attacked_images"] for row in rows.values())
    head = ["model", "test accuracy", "least mu(A)", "well-posed", "l_inf bound", "weighted formula", "l_inf witness",
            "l2 bound", "l2 witness", *(f"FGSM / PGD {radius}" for radius in RADII),
            *(f"certified {radius}: boxes / gains" for radius in RADII), "median radius", "seconds"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, row in rows.items():
        conditions = [text for key, text in _CONDITIONS if row[key]]
        cells = [name, _percent(row.get("test_accuracy")), _number(row["log_norm"]),
                 " and ".join(conditions) or "not proved"]
        cells += [_number(row.get(key)) for key in ("bound_inf", "weighted_inf", "witness_inf", "bound_2", "witness_2")]
        cells += [_two(row, "fgsm", "pgd", radius) for radius in RADII]
        cells += [_two(row, "certified_boxes", "certified_gains", radius) for radius in RADII]
        cells += [_number(row["median_radius"]), f"{row['seconds']:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + f"\n\nAttacked and certified: the first {attacked} test images.\n"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _two(row: Mapping[str, Any], first: str, second: str, radius: float) -> str:
    values = [None if row.get(key) is None else row[key][str(radius)] for key in (first, second)]
    return " / ".join("-" if value is None else f"{100 * value:.1f}" for value in values)
