"""What a batch can ask is what the commands are: read off them, and refused as they refuse it."""

from pathlib import Path
from typing import Annotated

import pytest
import typer
from netgain.verify import cli
from netgain.verify.batch.questions import OptionError, Question, nearest, questions_of


@pytest.fixture(scope="module")
def questions() -> dict[str, Question]:
    return questions_of(typer.main.get_command(cli.app))


def test_every_command_about_one_model_that_keeps_a_time_is_a_question(questions: dict[str, Question]) -> None:
    assert {"verify", "lipschitz", "contractivity", "compare", "flow", "implicit", "stability"} <= questions.keys()
    assert not {"check", "inspect", "doctor", "batch"} & questions.keys()
    for question in questions.values():
        assert not {"json", "certificate", "quiet", "time-limit", "help"} & set(question.options)
    assert {"below", "seed", "solver", "mode", "form", "tolerance"} == set(questions["verify"].options)


@pytest.mark.parametrize(("question", "name", "value", "arguments"), [
    ("verify", "below", 3, ("--below=3",)),
    ("verify", "below", 0.5, ("--below=0.5",)),
    ("verify", "--seed", 7, ("--seed=7",)),
    ("verify", "solver", "dual-scaling", ("--solver=dual-scaling",)),
    ("contractivity", "lower_slope", -0.25, ("--lower-slope=-0.25",)),
    ("contractivity", "lower-slope", 1e-07, ("--lower-slope=1e-07",)),
    ("flow", "steps", "1,2,4", ("--steps=1,2,4",)),
    ("flow", "time", 2, ("--time=2",)),
    ("flow", "plot", "flow.svg", ("--plot=flow.svg",)),
    ("compare", "as", "network", ("--as=network",)),
])
def test_options_become_arguments(
    question: str, name: str, value: object, arguments: tuple[str, ...], questions: dict[str, Question]
) -> None:
    setting = questions[question].setting(name, value)  # type: ignore[arg-type]
    assert setting.arguments == arguments
    assert setting.reads is None
    questions[question].require_whole([setting])


@pytest.mark.parametrize(("name", "value", "why"), [
    ("belwo", 3, "did you mean 'below'"),
    ("zzz", 3, "known are"),
    ("below", "three", "cannot be 'three'"),
    ("below", True, "takes a value"),
    ("seed", -1, "cannot be -1"),
    ("seed", 1.5, "cannot be 1.5"),
    ("solver", "mosekk", "cannot be 'mosekk'"),
    ("json", True, "set by batch"),
    ("certificate", "c.json", "set by batch"),
    ("time_limit", 3, "beside 'options'"),
    ("help", True, "no option"),
])
def test_what_the_command_would_refuse_is_refused(
    name: str, value: object, why: str, questions: dict[str, Question]
) -> None:
    with pytest.raises(OptionError, match=why):
        questions["verify"].setting(name, value)  # type: ignore[arg-type]


def test_files_are_written_beside_the_certificates_only(questions: dict[str, Question]) -> None:
    for path in ("../flow.svg", "/tmp/flow.svg", "a/flow.svg"):
        with pytest.raises(OptionError, match="without a folder"):
            questions["flow"].setting("plot", path)


def test_a_command_of_tomorrow_is_a_question_by_its_form() -> None:
    app = typer.Typer()

    @app.command()
    def robustness(
        model: Annotated[str, typer.Argument()],
        data: Annotated[Path, typer.Option()],
        fast: Annotated[bool, typer.Option("--fast/--thorough")] = True,
        loud: Annotated[bool, typer.Option("--loud")] = False,
        as_json: Annotated[bool, typer.Option("--json")] = False,
        time_limit: Annotated[float, typer.Option()] = 1.0,
    ) -> None:
        pass

    @app.command()
    def other(model: Annotated[str, typer.Argument()]) -> None:
        pass

    found = questions_of(typer.main.get_command(app))
    assert list(found) == ["robustness"]
    question = found["robustness"]
    assert question.options == ("data", "fast", "loud")
    assert question.setting("data", "points.npz").reads == "points.npz"
    assert question.setting("fast", False).arguments == ("--thorough",)
    assert question.setting("fast", True).arguments == ("--fast",)
    assert question.setting("loud", False).arguments == ()
    with pytest.raises(OptionError, match="true or false"):
        question.setting("loud", 1)
    with pytest.raises(OptionError, match="--data"):
        question.require_whole([question.setting("fast", True)])
    question.require_whole([question.setting("data", "points.npz")])


@pytest.mark.parametrize(("name", "known", "end"), [
    ("modles", ["models", "questions"], "; did you mean 'models'?"), ("x", ["models"], "; known are models.")])
def test_the_nearest_name_is_offered(name: str, known: list[str], end: str) -> None:
    assert nearest(name, known) == end
