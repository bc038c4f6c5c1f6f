"""Pictures of `stable_network`: gaps, spectral radii along training, and settling. Needs matplotlib."""

from pathlib import Path
from typing import Any

import numpy as np

from .stable_tables import by_family


def draw(found: dict[str, Any], out: Path) -> list[Path]:
    """Writes one picture per task to the folder and returns the paths."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    paths = []
    for task in found["tasks"]:
        figure = Figure(figsize=(13, 4), layout="constrained")
        FigureCanvasAgg(figure)
        gap, radius, settle = figure.subplots(1, 3)
        families = by_family(task["runs"])
        for place, (name, runs) in enumerate(families.items()):
            colour = f"C{place}"
            gap.plot([place] * len(runs), [100 * run["accuracy_gap"] for run in runs], "o", color=colour)
            for number, run in enumerate(runs):
                label = name if number == 0 else None
                epochs = [record["epoch"] for record in run["records"]]
                radius.plot(epochs, [record["full"] for record in run["records"]], color=colour)
                radius.plot(epochs, [record["visited"] for record in run["records"]], "--", color=colour)
                rows = [row for row in run["settling"] if np.isfinite(row["update"])]
                settle.plot([row["stages"] for row in rows], [row["update"] for row in rows], color=colour, label=label)
        gap.set_xticks(range(len(families)), list(families))
        gap.set_ylabel("accuracy, training minus test (points)")
        radius.axhline(1.0, color="black", linewidth=0.5)
        radius.set_xlabel("epoch")
        radius.set_ylabel("spectral radius; dashed: at images")
        settle.set_xscale("log")
        settle.set_yscale("log")
        settle.set_xlabel("stages")
        settle.set_ylabel("relative update of the state")
        settle.legend()
        figure.suptitle(f"{task['name']}, {found['data']}")
        path = out / f"stable_{task['name'].replace(' ', '_')}.png"
        figure.savefig(path)
        paths.append(path)
    return paths
