"""The file of jobs: products in order, ids that follow what is asked, and everything wrong told at once."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import typer
from netgain.verify import cli
from netgain.verify.batch.job import Job, JobLimits
from netgain.verify.batch.jobs_file import JobsFileError, read_jobs
from netgain.verify.batch.questions import questions_of

QUESTIONS = questions_of(typer.main.get_command(cli.app))


def jobs_of(folder: Path, text: str, version: str = "1") -> list[Job]:
    path = folder / "jobs.yaml"
    path.write_text(text)
    return read_jobs(path, QUESTIONS, version)


def complaints(folder: Path, text: str) -> list[str]:
    with pytest.raises(JobsFileError) as caught:
        jobs_of(folder, text)
    return str(caught.value).splitlines()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.npz", "b.npz", "sub/c.onnx", "sub/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def test_questions_times_models_times_axes(folder: Path) -> None:
    jobs = jobs_of(folder, """
models: ["*.npz", sub/c.onnx, a.npz]
defaults: {time_limit: 5, memory_limit: 2 GiB}
questions:
  - verify
  - question: lipschitz
    options: {seed: [0, 1], mode: [neuron, spectral], below: 3}
    models: [b.npz]
    time_limit: 7
    threads: 2
""")
    assert [(job.question, job.model) for job in jobs[:3]] == [
        ("verify", "a.npz"), ("verify", "b.npz"), ("verify", "sub/c.onnx")]
    assert [job.options for job in jobs[3:]] == [
        {"seed": seed, "mode": mode, "below": 3} for seed in (0, 1) for mode in ("neuron", "spectral")]
    assert jobs[4].arguments == ("--seed=0", "--mode=spectral", "--below=3")
    assert jobs[0].limits == JobLimits(time_limit=5.0, memory_limit=2 * 2**30)
    assert jobs[4].limits == JobLimits(time_limit=7.0, memory_limit=2 * 2**30, threads=2)
    assert len({job.id for job in jobs}) == len(jobs) == 7


def test_ids_change_with_the_answer_and_with_nothing_else(folder: Path) -> None:
    text = "models: [a.npz]\nquestions: [{question: verify, options: {seed: 3}}]\n"
    first = jobs_of(folder, text)[0].id
    same = ["# a comment\n" + text, text + "defaults: {memory_limit: 1000, threads: 4, attempts: 2}",
            text.replace("a.npz", "'[a].npz'"), text.replace("seed", "--seed")]
    assert {jobs_of(folder, other)[0].id for other in same} == {first}
    others = [text.replace("seed: 3", "seed: 4"), text.replace("verify", "lipschitz"), text.replace("a.npz", "b.npz"),
              text + "defaults: {time_limit: 5}"]
    ids = {jobs_of(folder, other)[0].id for other in others} | {jobs_of(folder, text, "2")[0].id}
    (folder / "a.npz").write_text("other weights")
    ids.add(jobs_of(folder, text)[0].id)
    assert len(ids - {first}) == 6


def test_the_same_job_is_listed_once(folder: Path) -> None:
    assert len(jobs_of(folder, "models: [a.npz, a.npz]\nquestions: [verify, {question: verify}]")) == 1


def test_weights_beside_a_model_travel_with_it(folder: Path) -> None:
    weights = onnx.numpy_helper.from_array(np.ones((2, 2), dtype=np.float32), "W")
    node = onnx.helper.make_node("MatMul", ["x", "W"], ["y"])
    ports = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 2]) for name in "xy"]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", ports[:1], ports[1:], [weights]))
    onnx.save(model, folder / "sub" / "c.onnx", save_as_external_data=True, location="c.weights", size_threshold=0)
    job, = jobs_of(folder, "models: [sub/c.onnx]\nquestions: [verify]")
    assert [file.name for file in job.files] == ["model/c.onnx", "model/c.weights"]
    assert job.model_argument == "../input/model/c.onnx"
    (folder / "sub" / "c.weights").write_bytes(b"other")
    other, = jobs_of(folder, "models: [sub/c.onnx]\nquestions: [verify]")
    assert other.id != job.id


def test_everything_wrong_is_told_at_once_with_its_line(folder: Path) -> None:
    lines = complaints(folder, """models: [none.npz, "*.onnx", sub/notes.txt]
modles: [a.npz]
defaults:
  time_limit: -3
  memory_limit: much
  thread: 2
questions:
  - verfy
  - question: verify
    options:
      belwo: 3
      seed: [0, -1]
      mode: []
      solver: {a: 1}
      json: true
  - question: lipschitz
    attempts: 0
    threads: true
  - option: {}
  - question: verify
    models: [b.npz]
    options: {seed: 1, --seed: 2}
  - question: contract
    models: [b.npz]
""")
    expected = [
        (1, "models[0]: 'none.npz' is no file"), (1, "models[1]: no file matches '*.onnx'"),
        (1, "models[2]: 'sub/notes.txt' is no model"), (2, "modles: unknown key; did you mean 'models'?"),
        (4, "defaults.time_limit: Input should be greater than 0, not -3."), (5, "defaults.memory_limit: could not"),
        (6, "defaults.thread: unknown key; did you mean 'threads'?"),
        (8, "questions[0].question: 'verfy' is no question; did you mean 'verify'?"),
        (11, "questions[1].options.belwo: verify has no option 'belwo'; did you mean 'below'?"),
        (12, "questions[1].options.seed: 'seed' of verify cannot be -1"),
        (13, "questions[1].options.mode: an empty list"), (14, "questions[1].options.solver: {'a': 1} is no number"),
        (15, "questions[1].options.json: 'json' is set by batch"),
        (17, "questions[2].attempts: Input should be greater"), (18, "questions[2].threads: Input should be a valid"),
        (19, "questions[3].option: unknown key; did you mean 'options'?"), (19, "questions[3].question: is missing."),
        (22, "questions[4].options: --seed is given twice."), (23, "questions[5]: contract: Missing option '--output'"),
    ]
    assert len(lines) == len(expected), lines
    for line, (number, text) in zip(lines, expected, strict=True):
        assert line.startswith(f"{folder / 'jobs.yaml'}, line {number}: {text}"), line


@pytest.mark.parametrize(("text", "why"), [
    ("", "no mapping"), ("- verify", "no mapping"), ("models: [a.npz", "line 1: expected ',' or ']'"),
    ("models: [a.npz]\nmodels: [b.npz]", "line 2: found duplicate key"),
    ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
    ("questions: [verify]", "there are no 'models'"), ("models: [a.npz]", "questions: is missing"),
    ("models: [a.npz]\nquestions: []", "at least 1 item"), ("models: a.npz\nquestions: [verify]", "valid list"),
    ("models: [3]\nquestions: [verify]", "valid string"), ("models: [a.npz]\nquestions: [3]", "3 is no mapping"),
    ("models: [a.npz]\nquestions: [verify]\ndefaults: 3", "3 is no mapping"),
    ("models: [a.npz]\nquestions: [{question: verify, options: [seed]}]", "is no mapping"),
    ("models: [a.npz]\nquestions: [{question: verify, options: {seed: 2020-01-01}}]", "is no number"),
])
def test_what_is_no_file_of_jobs_is_refused(text: str, why: str, folder: Path) -> None:
    assert any(why in line for line in complaints(folder, text)), complaints(folder, text)


def test_the_jobs_of_the_repository_ask_every_question_that_fits_its_models() -> None:
    path = Path(__file__).resolve().parents[3] / "experiments" / "jobs" / "models.yaml"
    jobs = read_jobs(path, QUESTIONS, "1")
    assert {job.question for job in jobs} == {"lipschitz", "compare", "contractivity", "flow", "implicit", "stability"}
    assert len(jobs) == 6 + 2 + 2 + 3 + 3 + 1 + 2


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(JobsFileError, match="cannot be read"):
        read_jobs(tmp_path / "none.yaml", QUESTIONS, "1")
