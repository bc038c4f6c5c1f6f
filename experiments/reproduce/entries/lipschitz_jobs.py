"""Jobs that the entries about Lipschitz constants share: bounding a network, training one."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from netgain.layers import Graph
from netgain.solvers.result import Limits, Status
from netgain.verify import lipschitz
from netgain.verify.mode import Mode

from ...training.classifier import Recipe, fit
from ..context import Context

if TYPE_CHECKING:
    import torch
    from torch import nn


def bounded(context: Context, name: str, graph: Graph, mode: Mode | None = None, time_limit: float = 600.0,
            lower_bounds: bool = True) -> dict[str, Any] | None:
    """The report on a network as JSON: bounds that are not known are None. None if it could not be computed."""
    label = f"{name}, {mode.value if mode else 'auto'}"
    seed = context.request.seed
    inputs = {"digest": graph.digest, "mode": mode.value if mode else None, "seed": seed, "time_limit": time_limit,
              "lower_bounds": lower_bounds}

    def run() -> dict[str, Any]:
        report = lipschitz(graph, None, Limits(time_limit=time_limit), mode=mode, seed=seed,
                           lower_bounds=lower_bounds)
        solved = report.solution.status in (Status.OPTIMAL, Status.CLOSED_FORM)
        return {
            "certified": finite(report.upper),
            "optimum": finite(report.solution.dual_bound) or None,
            "slope": report.slope_bound or None,
            "witness": report.lower or None,
            "norm_product": finite(report.norm_product),
            "mode": report.mode.value,
            "solve_seconds": report.seconds["solve"],
            "prove_seconds": report.seconds["prove"],
            "total_seconds": report.seconds["total"],
            "notes": [*(() if solved else (report.solution.status.value,)), *report.notes],
        }

    found: dict[str, Any] | None = context.job(label, inputs, run)
    for note in (found or {}).get("notes", ()):
        context.notes.append(f"{label}: {note}")
    return found


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def cell(found: Mapping[str, Any] | None, key: str) -> Any:
    """What a job found, None where it was not done."""
    return None if found is None else found[key]


def trained(context: Context, name: str, recipe: Recipe, build: "Callable[[], nn.Module]",
            export: "Callable[[nn.Module], Mapping[str, np.ndarray]]", images: int | None = None,
            prepare: "Callable[[nn.Module], None]" = lambda network: None) -> dict[str, np.ndarray] | None:
    """The arrays that `export` makes of the network after its training on the first `images` of the data, with its
    test accuracy as `test_accuracy`; None if it was not trained. `prepare` changes the initial weights."""
    dataset = context.dataset
    settings = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)
                if field.name != "architecture"}
    inputs = settings | {"data": dataset.digest, "images": images, "network": name}

    def train() -> dict[str, np.ndarray]:
        import torch

        from ...training.evaluation import are_right, single_thread
        from ...training.modules import initialise

        generator = torch.Generator().manual_seed(recipe.seed)
        with single_thread():
            network = build()
            initialise(network, generator)
            prepare(network)
            x = torch.from_numpy(dataset.train_images[:images][:, None])
            fit(network, x, torch.from_numpy(dataset.train_labels[:images]), recipe, generator)
            network.eval()
            right = are_right(network, dataset.test_images[:, None], dataset.test_labels)
        arrays = {key: np.asarray(array) for key, array in export(network).items()}
        return arrays | {"test_accuracy": np.array(float(np.mean(right)))}

    return context.weights(name, inputs, train)


def tensors(network: "nn.Module") -> dict[str, np.ndarray]:
    """The parameters by name, dots being underscores, in float64."""
    state: Mapping[str, torch.Tensor] = network.state_dict()
    return {name.replace(".", "_"): value.numpy().astype(np.float64) for name, value in state.items()}
