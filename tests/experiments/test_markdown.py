"""Tables of results: bounds are rounded to their safe side, rows fit their headings."""

import json
import math

import pytest
from netgain.experiments.training.markdown import above, below, percent, shown, table


def test_bounds_are_rounded_to_their_safe_side():
    assert (above(1.23401), below(1.23499), shown(1.23449)) == ("1.235", "1.234", "1.234")
    assert (above(-0.048589), below(-0.048581)) == ("-0.04858", "-0.04859")
    assert {form(value) for form in (above, below, shown) for value in (None, math.inf, math.nan)} == {"-"}
    assert percent(0.91125) in ("91.12 %", "91.13 %")


def test_rows_fit_their_headings():
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    with pytest.raises(ValueError, match=r"2 cells, got \[2, 1\]"):
        table(["a", "b"], [["1", "2"], ["3"]])


def test_the_neural_ode_experiment_writes_its_tables(tmp_path):
    pytest.importorskip("torch")
    from netgain.experiments.training.neural_ode import OdeRecipe
    from netgain.experiments.training.ode_experiment import LEVELS, markdown, run
    from netgain.experiments.training.ode_fields import TrainedForm

    from .blobs import blobs

    recipe = OdeRecipe(field=TrainedForm(size=3), steps=2, epochs=1)
    found = run(blobs(), {"plain": recipe}, 50, 3.0, tmp_path, lambda text: None)
    stored = json.loads((tmp_path / "ode.json").read_text(encoding="utf-8"))
    assert stored["source"] == "ours"
    (variant,) = stored["variants"]
    assert (tmp_path / variant["file"]).is_file()
    assert [part["level"] for part in variant["contractivity"]] == list(LEVELS)
    for part in variant["contractivity"]:
        mu = part["logarithmic_norm"]
        assert mu["gradient"] <= mu["proved"] + 1e-9
        assert mu["reached"] <= mu["proved"] <= mu["semidefinite_proved"]
    assert (tmp_path / "ode.md").read_text(encoding="utf-8") == markdown(found)
