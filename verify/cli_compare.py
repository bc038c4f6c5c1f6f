"""`netgain compare`: every method that applies to a model, side by side."""

import math
from pathlib import Path
from typing import Annotated

import typer

from .cli_options import Json, Model, Quiet, TimeLimit, print_json, read_from
from .compare_network import NETWORK
from .comparison import ComparisonRequest, Kind, RequestError, comparison_json, show_comparison
from .contractivity.compare import FIELD
from .implicit.compare import IMPLICIT
from .interruption import Interruption
from .outcomes import ExitCode, error_console, failures_explained
from .stability.compare import BLOCKS
from .terminal import Display, result_console

KINDS: tuple[Kind, ...] = (IMPLICIT, FIELD, BLOCKS, NETWORK)
"""Kinds of models, the first that recognises a file taking it: special layouts before the general."""

_OPTIONS = {"level": "--level", "lower_slope": "--lower-slope", "most_condition": "--most-condition", "seed": "--seed"}


def kind_of(model: Path, name: str | None = None) -> Kind:
    """The kind of a model file, or the one of this name.

    **Raises:** `typer.BadParameter` for a name that is none.
    """
    if name is not None:
        named = [kind for kind in KINDS if kind.name == name]
        if not named:
            known = ", ".join(f"{kind.name} ({kind.what})" for kind in KINDS)
            raise typer.BadParameter(f"{name!r} is no kind of model; known are {known}.", param_hint="--as")
        return named[0]
    # What no kind recognises, the last one's reader refuses with a reason.
    return next((kind for kind in KINDS if kind.recognises(model)), KINDS[-1])


def compare(
    model: Model,
    as_json: Json = False,
    kind: Annotated[
        str | None,
        typer.Option("--as", help="What to take the model as: " + ", ".join(kind.name for kind in KINDS) + ".",
                     show_default="by the file"),
    ] = None,
    level: Annotated[
        float | None, typer.Option("--level", help="Fields: the logarithmic norm asked for.", show_default="0")
    ] = None,
    lower_slope: Annotated[
        float | None,
        typer.Option("--lower-slope", help="Fields: the least slope.", show_default="the activation's own"),
    ] = None,
    most_condition: Annotated[
        float | None,
        typer.Option("--most-condition", help="Fields: the largest cond(P) of a metric.", show_default="100"),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Networks, blocks: seed of the search for lower bounds.", show_default="0")
    ] = None,
    time_limit: TimeLimit = 120.0,
    quiet: Quiet = False,
) -> None:
    """Puts the bounds of all methods side by side, says which are proved, and explains where they disagree."""
    with failures_explained():
        chosen = kind_of(model, kind)
        options = {"level": level, "lower_slope": lower_slope, "most_condition": most_condition, "seed": seed}
        given = {name: float(value) for name, value in options.items() if value is not None}
        request = _request(chosen, given, time_limit)
        display = Display(error_console(), quiet)
        with Interruption() as interruption, display.running():
            content, source = read_from(chosen.load, model)
            try:
                comparison = chosen.compare(content, request, display.say)
            except RequestError as error:
                raise typer.BadParameter(str(error), param_hint=_OPTIONS[error.option]) from None
        if as_json:
            print_json(comparison_json(comparison, source))
        else:
            show_comparison(result_console(), comparison)
        raise typer.Exit(ExitCode.INTERRUPTED if interruption else comparison.exit_code)


def _request(kind: Kind, given: dict[str, float], time_limit: float) -> ComparisonRequest:
    """**Raises:** `typer.BadParameter` for options that mean nothing for the kind, and numbers out of range."""
    for name, value in given.items():
        if name not in kind.options:
            takers = ", ".join(other.name for other in KINDS if name in other.options)
            raise typer.BadParameter(f"it means nothing for a {kind.name}, only for: {takers}. --as says what to take "
                                     "the model as.", param_hint=_OPTIONS[name])
        if not math.isfinite(value):
            raise typer.BadParameter(f"{value} is not a finite number.", param_hint=_OPTIONS[name])
    if given.get("most_condition", 1.0) < 1:
        raise typer.BadParameter(f"{given['most_condition']} is below 1, which no matrix's is.",
                                 param_hint="--most-condition")
    if not time_limit > 0:
        raise typer.BadParameter(f"{time_limit} is not a positive number of seconds.", param_hint="--time-limit")
    seed = int(given.pop("seed", 0))
    return ComparisonRequest(**given, seed=seed, time_limit=time_limit)
