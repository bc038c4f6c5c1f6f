"""Results of `netgain robustness`: certified accuracy beside attacks, and the constants of pairs of classes."""

import collections
import math
from typing import Any

from ..robustness.terminal import RESULT
from ..rounding import rounded_down, rounded_up
from .content import Block, Figure, Note, Section, Table
from .fields import FieldError, Fields
from .lines_figure import Axis, Curve, lines_figure
from .section import Context, certificate_of, computation_facts, model_of, notes_of, remaining

SCHEMA = RESULT


def robustness_section(context: Context) -> Section:
    """The section of one result."""
    fields, identifier = context.fields, context.identifier
    model = model_of(fields)
    proved, upper = fields.flag("proved"), fields.number_or_none("upper")
    samples, curve, clean = _samples(fields), _curve(fields), fields.number("clean_accuracy")
    pairs = [(_outputs(pair), pair.number_or_none("upper"), pair.flag("optimised")) for pair in fields.objects("pairs")]
    data = fields.object("data")
    blocks: list[Block] = []
    if fields.flag("interrupted"):
        blocks.append(Note("The command was interrupted: samples it did not come to count as not certified.", True))
    figures = [_accuracy(f"{identifier}-accuracy", samples, curve, clean),
               _pairs(f"{identifier}-pairs", [value for _, value, _ in pairs], upper)]
    blocks += [figure for figure in figures if figure is not None]
    blocks.append(Table("Accuracy within a Euclidean radius", ("radius", "certified by global constants", "certified ≤",
                                                               "≤ attacked"), [
        (f"{radius:g}", f"{globally:.2%}", f"{certified:.2%}", f"{attacked:.2%}")
        for (radius, certified, attacked), globally in zip(curve, _globally(fields), strict=True)],
        numeric=frozenset({0, 1, 2, 3})))
    blocks += _regions(fields)
    blocks.append(Table("Constants of differences of outputs, proved", ("outputs", "constant", "own multipliers"), [
        (f"{i} − {j}", "–" if value is None else rounded_up(value), "yes" if optimised else "no")
        for (i, j), value, optimised in pairs], numeric=frozenset({1}), folded=True))
    blocks += notes_of(fields)
    facts = [("data", data.text("path")), ("SHA-256 of the data", data.text("sha256")),
             ("samples", f"{data.integer('samples')} of {data.integer('available')}"),
             ("samples tried with slopes of their own ball", str(fields.integer("searched_locally"))),
             ("right without a perturbation", f"{clean:.2%}"), ("multipliers", fields.text("mode")),
             ("seed of the attack", str(fields.anything("seed"))), *model.facts, *computation_facts(fields)]
    radii = [(label, radius) for label, radius, kept, _ in samples if kept and radius]
    certificates = certificate_of(
        context, model, fields.text_or_none("certificate"),
        f"constants of {len(pairs)} pairs, and radii of {len(radii)} inputs that it holds; that they are those of the "
        "data file is not part of it",
        lambda body: _covers(body, upper, {outputs: value for outputs, value, _ in pairs}, radii))
    fields.ignore("schema", "question", "norm", "units")
    first = curve[0] if curve else None
    headline = (f"certified within {first[0]:g}:", f"{first[1]:.1%}") if first else ("right:", f"{clean:.1%}")
    return Section(identifier, model.name, "certified robustness", headline, facts, [*blocks, *remaining(fields)],
                   certificates, proved)


def _samples(fields: Fields) -> list[tuple[int, float | None, bool, bool]]:
    """Class, radius, whether the class is proved, and whether it is the label's."""
    found = []
    for sample in fields.objects("samples"):
        label, predicted = sample.integer("label"), sample.integer("class")
        kept, radius = sample.flag("class_proved"), sample.number_or_none("radius")
        sample.ignore("index", "attacked", "global_radius")
        found.append((predicted, radius, kept, kept and predicted == label))
    return found


def _curve(fields: Fields) -> list[tuple[float, float, float]]:
    return [(point.number("radius"), point.number("certified"), point.number("attacked"))
            for point in fields.objects("curve")]


def _globally(fields: Fields) -> list[float]:
    return [point.number("certified_globally") for point in fields.objects("curve")]


def _regions(fields: Fields) -> list[Block]:
    """Lipschitz constants on regions around samples, if any were asked for."""
    rows = []
    for region in fields.objects("regions"):
        upper = region.number_or_none("upper")
        rows.append((str(region.integer("index")), f"{region.text('shape')} {region.number('radius'):g}",
                     rounded_down(region.number("lower")), "–" if upper is None else rounded_up(upper),
                     f"{region.integer('unstable')} of {region.integer('neurons')}"))
        region.ignore("seconds")
    headings = ("sample", "region", "witness ≤ L", "certified ≥ L", "neurons that are not linear")
    return [Table("Lipschitz constants around samples, proved", headings, rows, numeric=frozenset({0, 2, 3, 4}),
                  folded=True)] if rows else []


def _outputs(pair: Fields) -> tuple[int, int]:
    outputs = pair.numbers("outputs")
    if len(outputs) != 2:
        raise FieldError("`outputs` of a pair are two numbers")
    return int(outputs[0]), int(outputs[1])


def _accuracy(identifier: str, samples: list[tuple[int, float | None, bool, bool]],
              curve: list[tuple[float, float, float]], clean: float) -> Figure | None:
    """Accuracy over the radius: proved for every radius, attacked where attacks were tried."""
    if not samples:
        return None
    radii = sorted(radius or 0.0 for _, radius, _, right in samples if right)
    count = len(samples)
    x, y = [0.0], [len(radii) / count]
    for k, radius in enumerate(radii):
        x += [radius, radius]
        y += [(len(radii) - k) / count, (len(radii) - k - 1) / count]
    # Attacks begin where nothing is perturbed; what one has changed stays changed at every larger radius.
    tried = [(0.0, clean), *((radius, attacked) for radius, _, attacked in curve if radius > 0)]
    last = max([radius for radius, _ in tried] + radii)
    steps = [point for (radius, value), (end, _) in zip(tried, [*tried[1:], (last, 0.0)], strict=True)
             for point in ((radius, value), (end, value))]
    curves = [
        Curve("certified, proved from below", [*x, last], [*y, 0.0 if radii and last > radii[-1] else y[-1]], "upper"),
        Curve("under attack, from above", [radius for radius, _ in steps], [value for _, value in steps], "lower"),
    ]
    description = "; ".join(f"within {radius:g}: certified {certified:.1%}, attacked {attacked:.1%}"
                            for radius, certified, attacked in curve) or f"{count} samples."
    return lines_figure(identifier, "Certified accuracy beside attacks", description, Axis("Euclidean radius", False),
                        Axis("share of the samples", False), curves)


def _pairs(identifier: str, values: list[float | None], upper: float | None) -> Figure | None:
    """Constants of the differences of outputs in order of size, beside what follows from the whole."""
    known = sorted(value for value in values if value is not None)
    if len(known) < 2:
        return None
    levels = [("√2 L, from the whole output", math.sqrt(2) * upper, "loose")] if upper is not None else []
    return lines_figure(identifier, "Constants of pairs of classes",
                        f"{len(known)} pairs, from {known[0]:.5g} to {known[-1]:.5g}.", Axis("pairs, in order", False),
                        Axis("constant of f_i − f_j"),
                        [Curve("pairs, proved", list(range(1, len(known) + 1)), known, "upper", marked=True)], levels)


def _covers(body: dict[str, Any], upper: float | None, pairs: dict[tuple[int, int], float | None],
            radii: list[tuple[int, float]]) -> str | None:
    """Whether the constants and radii of the result are those of the certificate, or weaker."""
    overall, found = body.get("overall"), body.get("pairs")
    claims = body.get("claims")
    if not isinstance(found, list) or not isinstance(claims, list):
        return "the checker names no constants."
    if upper is not None and not (isinstance(overall, int | float) and overall <= upper):
        return f"it proves L ≤ {overall!r}, the result claims L ≤ {upper!r}."
    constants = {tuple(entry["outputs"]): entry["value"] for entry in found}
    for outputs, value in pairs.items():
        # Every difference of two outputs is within sqrt(2) L.
        proved = min(constants.get(outputs, math.inf), math.inf if overall is None else math.sqrt(2) * overall)
        if value is not None and not proved <= value:
            return f"for the outputs {outputs} it proves {proved!r}, the result claims {value!r}."
    left = collections.Counter((entry["class"], entry["radius"]) for entry in claims)
    missing = collections.Counter(radii) - left
    return f"it does not hold {sum(missing.values())} of the radii that the result claims." if missing else None
