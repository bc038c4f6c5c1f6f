"""Records side by side, as a table for the terminal."""

from collections.abc import Iterable

import rich.table
import rich.text

from .outcome import Outcome, Record


def comparison(network: str, records: Iterable[Record], reference: str) -> rich.table.Table:
    """One row per contender; `ratio` compares its value with that of the contender called `reference`.

    Values are the proved bounds, or the bounds as solved where nothing is proved; these are marked with ~.
    """
    records = tuple(records)
    base = next((record.value for record in records if record.contender == reference), None)
    table = rich.table.Table(title=network, title_justify="left", title_style="bold")
    table.add_column("contender")
    for heading in ("bound as solved", "bound proved", "ratio", "solve (s)", "prove (s)", "peak (MB)"):
        table.add_column(heading, justify="right")
    table.add_column("remark")
    for record in records:
        table.add_row(
            record.contender,
            _number(record.bound, 9),
            _number(record.proved, 9),
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
