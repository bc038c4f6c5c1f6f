import io

import pytest
import rich.console
from netgain.experiments.benchmarks.outcome import Outcome, Record
from netgain.experiments.benchmarks.table import comparison

OURS = Record(network="n", contender="ours", outcome=Outcome.DONE, bound=2.0, proved=2.5, solve_seconds=0.1234567,
              prove_seconds=1.0, peak_mb=100.4)
PEER = Record(network="n", contender="peer", outcome=Outcome.DONE, bound=5.0, detail="fell back to [another]")


@pytest.mark.parametrize("record", [OURS, PEER, Record(network="n", contender="c", outcome=Outcome.TIMEOUT)])
def test_records_survive_json(record):
    assert Record.from_json(record.to_json()) == record


@pytest.mark.parametrize("text", ["", "{}", '{"outcome": "unheard of"}', "[1]", '{"outcome": "done", "other": 1}'])
def test_other_json_is_refused(text):
    with pytest.raises(ValueError, match="Not the record of a job"):
        Record.from_json(text)


def test_table_marks_what_is_not_proved():
    console = rich.console.Console(file=io.StringIO(), width=160)
    absent = Record(network="n", contender="absent", outcome=Outcome.NOT_INSTALLED, detail="pip install absent")
    console.print(comparison("n", [OURS, PEER, absent], reference="ours"))
    rows = {line.split()[0]: line.split() for line in console.file.getvalue().splitlines() if line.split()}
    assert rows["ours"][1:] == ["2", "2.5", "1", "0.123", "1", "100.4"]
    assert rows["peer"][1:4] == ["5", "-", "~2"]
    assert "fell back to [another]" in " ".join(rows["peer"])
    assert "not installed; pip install absent" in " ".join(rows["absent"])
