"""The tables of `stable_network`, from what it found."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .markdown import above, shown, table

Run = dict[str, Any]


def by_family(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of each family, in the order they come in."""
    families: dict[str, list[Run]] = {}
    for run in runs:
        families.setdefault(run["family"], []).append(run)
    return families


def gap_verdict(runs: Sequence[Run], key: str = "accuracy_gap") -> str:
    """What the seeds say of NAIS-Net's generalisation gap, of accuracy or loss, against each baseline, in words."""
    families = by_family(runs)
    (name, ours), *others = families.items()
    gaps = np.array([run[key] for run in ours])
    said = []
    for other, theirs in others:
        against = np.array([run[key] for run in theirs])
        if gaps.max() < against.min():
            said.append(f"below that of {other} for all seeds")
        elif gaps.min() > against.max():
            said.append(f"ABOVE that of {other} for all seeds")
        elif gaps.mean() < against.mean():
            said.append(f"below that of {other} on average, but not by more than the spread over seeds")
        else:
            said.append(f"NOT below that of {other} on average")
    return f"The {key.replace('_', ' ')} of {name} is {'; '.join(said)}."


def markdown(found: dict[str, Any]) -> str:
    """All tables, one section per task."""
    parts = [
        "# NAIS-Net blocks and baselines: our numbers",
        "",
        f"{found['data']}, {found['train_images']} training and {found['test_images']} test images, {found['seeds']} "
        f"seeds; {found['cpu_seconds']:.0f} s of one core. The tables of arXiv 1804.07209 were not available to us: "
        "the scale and all numbers here are ours. Mean ± standard deviation over seeds; gap: accuracy on training "
        "minus on test images, in points, with its range.",
        "",
    ]
    for task in found["tasks"]:
        parts += [f"## {task['name']}", "", *_section(task["runs"]), ""]
    return "\n".join(parts)


def _section(runs: Sequence[Run]) -> list[str]:
    families = by_family(runs)
    accuracy = [[
        name, str(group[0]["parameters"]), _percent(group, "train_accuracy"), _percent(group, "test_accuracy"),
        f"{_percent(group, 'accuracy_gap')} [{100 * _least(group):.2f}, {100 * _greatest(group):.2f}]",
        _mean(group, lambda run: run["loss_gap"], "{:.3f}"),
    ] for name, group in families.items()]
    kinds = list(runs[0]["robustness"])
    robust = [[name, *(_mean(group, lambda run, kind=kind: 100 * run["robustness"][kind], "{:.2f}")  # type: ignore[misc]
                       for kind in kinds)] for name, group in families.items()]
    epochs = [record["epoch"] for record in runs[0]["records"]]
    radii = [[name, *(" / ".join(f"{_worst(group, k, key):.4f}" for key in ("full", "visited"))
                      for k in range(len(epochs)))] for name, group in families.items()]
    stages = [row["stages"] for row in runs[0]["settling"]]
    settled = [[name, *(" / ".join(_typical(group, k, key) for key in ("update", "apart", "to_equilibrium"))
                        for k in range(len(stages)))] for name, group in families.items()]
    proved = [run["conditions"] for run in runs if run["conditions"] is not None]
    satisfied = sum(condition["satisfied"] for condition in proved)
    return [
        table(["family", "parameters", "train %", "test %", "gap", "gap of loss"], accuracy),
        "",
        f"{gap_verdict(runs)} {gap_verdict(runs, 'loss_gap')}",
        "",
        f"NAIS-Net's conditions hold in exact arithmetic for {satisfied} of {len(proved)} exported blocks; the proved "
        f"rate for all slopes of the activation is at most {above(max(part['rate'] for part in proved), 9)}.",
        "",
        "Accuracy under Gaussian noise of this standard deviation on the pixels, and under attack:",
        "",
        table(["family", *kinds], robust),
        "",
        "Spectral radius of I + h D A after so many epochs, all slopes 1 / largest at the last states of test images; "
        "the largest over seeds:",
        "",
        table(["family", *(f"epoch {epoch}" for epoch in epochs)], radii),
        "",
        "States beyond the depth trained: relative update / distance of states from two starts by that of the starts / "
        "relative distance to the equilibrium in closed form (a dash: none is known), infinite beyond 1e12; medians "
        "over images and seeds:",
        "",
        table(["family", *(f"{count} stages" for count in stages)], settled),
    ]


def _percent(group: Sequence[Run], key: str) -> str:
    return _mean(group, lambda run: 100 * run[key], "{:.2f}")


def _mean(group: Sequence[Run], value: Callable[[Run], float], form: str) -> str:
    values = np.array([value(run) for run in group])
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return f"{form.format(float(values.mean()))} ± {form.format(spread)}"


def _least(group: Sequence[Run]) -> float:
    return min(float(run["accuracy_gap"]) for run in group)


def _greatest(group: Sequence[Run]) -> float:
    return max(float(run["accuracy_gap"]) for run in group)


def _worst(group: Sequence[Run], k: int, key: str) -> float:
    return max(float(run["records"][k][key]) for run in group)


def _typical(group: Sequence[Run], k: int, key: str) -> str:
    values = [run["settling"][k][key] for run in group]
    if any(value is None for value in values):
        return "-"
    typical = float(np.median(values))
    return shown(typical, 2) if np.isfinite(typical) else "∞"
