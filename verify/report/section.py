"""What all sections share: facts about the model, certificates, and fields that have no figure."""

import dataclasses
from collections.abc import Sequence
from pathlib import PurePath

from .certificates import Checker, Claim, Covers
from .content import Block, Bound, CertificateStatus, Note, Side, Table
from .drawing import decimal_of
from .fields import Fields
from .reading import Document


@dataclasses.dataclass(frozen=True)
class Context:
    """What a section is made from. `identifier`: unique on the page."""

    document: Document
    fields: Fields
    identifier: str
    checker: Checker


@dataclasses.dataclass(frozen=True)
class Model:
    """The network a result is about. `sha256`: of its file; `digest`: of its layers or matrices."""

    name: str
    path: str
    sha256: str
    digest: str
    facts: tuple[tuple[str, str], ...]


def model_of(fields: Fields) -> Model:
    """The result's `model`, and what it says about it."""
    model = fields.object("model")
    path, sha256, form = model.text("path"), model.text("sha256"), model.text("format")
    digest = model.text_or_none("digest") or ""
    name = model.text_or_none("name") or PurePath(path.replace("\\", "/")).stem or path
    facts = [("file", path), ("format", form), ("SHA-256 of the file", sha256)]
    if digest:
        facts.append(("digest of the network", digest))
    shapes = [model.numbers("input_shape"), model.numbers("output_shape")]
    if all(shapes):
        facts.append(("input → output", " → ".join(" × ".join(f"{size:g}" for size in shape) for shape in shapes)))
    if size := model.number_or_none("size"):
        facts.append(("dimension", f"{size:g}"))
    if form := model.text_or_none("form") or "":
        facts.append(("form", form))
    if slopes := model.numbers("activation_slopes"):
        facts.append(("slopes of the activation", interval_text(slopes)))
    return Model(name, path, sha256, digest, tuple(facts))


def computation_facts(fields: Fields) -> list[tuple[str, str]]:
    """Who computed the result, and how long it took."""
    facts = []
    tool = fields.object_or_none("tool")
    if tool is not None:
        facts.append(("computed by", f"{tool.text('name')} {tool.text('version')}"))
    seconds = fields.anything("seconds")
    if isinstance(seconds, dict):
        parts = [f"{stage} {duration(value)}" for stage, value in seconds.items() if isinstance(value, int | float)]
        facts.append(("time", ", ".join(parts)))
    elif isinstance(seconds, int | float):
        facts.append(("time", duration(seconds)))
    return facts


def notes_of(fields: Fields) -> list[Note]:
    return [Note(text) for text in fields.texts("notes")]


def certificate_of(context: Context, model: Model, path: str | None, statement: str, covers: Covers
                   ) -> list[CertificateStatus]:
    """The status of a certificate a result names, as a list of one; empty if it names none."""
    if path is None:
        return []
    claim = Claim(path, model.path, model.sha256, statement, covers)
    return [context.checker.status(claim, context.document.path.parent)]


def bounds_table(caption: str, symbol: str, bounds: Sequence[Bound]) -> Table:
    """The bounds with what they say of the symbol."""
    rows = [(bound.label, decimal_of(bound), _relation(bound.side, symbol), "yes" if bound.proved else "no", bound.note)
            for bound in bounds]
    notes = any(bound.note for bound in bounds)
    width = 5 if notes else 4
    return Table(caption, ("bound", "value", "", "proved", "note")[:width], [row[:width] for row in rows],
                 numeric=frozenset({1}))


def _relation(side: Side, symbol: str) -> str:
    return "of methods" if side is Side.LIMIT else f"{side.value} {symbol}"


def remaining(fields: Fields) -> list[Block]:
    """A table of the fields that nothing on the page shows."""
    rest = fields.rest()
    return [Table("Other fields of the result", ("field", "content"), rest, folded=True)] if rest else []


def contradiction(bounds: Sequence[Bound], symbol: str) -> list[Block]:
    """A warning where two values that the result calls proved exclude each other."""
    low = [bound for bound in bounds if bound.proved and bound.side in (Side.LOWER, Side.EXACT)]
    high = [bound for bound in bounds if bound.proved and bound.side in (Side.UPPER, Side.EXACT)]
    for below in low:
        for above in high:
            if below.value > above.value:
                return [Note(f"This result contradicts itself: {symbol} would be at least {decimal_of(below)} "
                             f"({below.label}) and at most {decimal_of(above)} ({above.label}). Nothing in it can be "
                             "relied on.", warning=True)]
    return []


def interval_text(ends: Sequence[float]) -> str:
    return "[" + ", ".join(f"{end:.6g}" for end in ends) + "]"


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def missing(what: str) -> Note:
    """Where an older result, or a solver, has nothing to draw."""
    return Note(f"No picture of {what}: the result has no such data.")
