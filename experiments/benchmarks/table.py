"""Records side by side, as a table for the terminal."""

from collections.abc import Iterable

import rich.box
import rich.table
import rich.text
from netgain.verify.rounding import rounded_up

from .outcome import Outcome, Record


def comparison(network: str, records: Iterable[Record], reference: str) -> rich.table.Table:
    """One row per contender; `ratio` compares its value with that of the contender called `reference`.

    A value is the proved bound, here rounded up, or where nothing is proved the bound as solved, marked with ~.
    """
    records = tuple(records)
    base = next((record.value for record in records if record.contender == reference), None)
    table = rich.table.Table(title=network, title_justify="left", title_style="bold", box=rich.box.SIMPLE_HEAD,
                             pad_edge=False)
    table.add_column("contender", no_wrap=True)
    for heading in ("bound\nas solved", "bound\nproved", "ratio", "solve\n(s)", "prove\n(s)", "peak\n(MB)"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("remark", overflow="fold")
    for record in records:
        table.add_row(
            record.contender,
            _number(record.bound, 9),
            "-" if record.proved is None else rounded_up(record.proved, 9),
            _ratio(record, base),
            _number(record.solve_seconds, 3),
            _number(record.prove_seconds, 3),
            _number(record.peak_mb, 4),
            rich.text.Text(_remark(record)),
        )
    return table


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}g}"


def _ratio(record: Record, base: float | None) -> str:
    if record.value is None or not base:
        return "-"
    return f"{'~' if record.proved is None else ''}{record.value / base:.6g}"


def _remark(record: Record) -> str:
    said = () if record.outcome is Outcome.DONE else (record.outcome.value,)
    return "; ".join((*said, *((record.detail,) if record.detail else ())))
