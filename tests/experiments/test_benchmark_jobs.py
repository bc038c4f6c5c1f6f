import dataclasses

import numpy as np
import pytest
import scipy.io
from netgain.experiments.benchmarks.__main__ import app
from netgain.experiments.benchmarks.contenders import CONTENDERS, REFERENCE, contender
from netgain.experiments.benchmarks.job import Job, launch, peak_memory
from netgain.experiments.benchmarks.outcome import Outcome, Record
from typer.testing import CliRunner


@pytest.fixture
def job(tmp_path) -> Job:
    """One hidden layer on 4 inputs, in a folder of the benchmark's layout."""
    rng = np.random.default_rng(4)
    (tmp_path / "digits").mkdir()
    arrays = {"fc1_weight": rng.normal(size=(4, 3)), "fc1_bias": np.zeros((1, 3)),
              "fc2_weight": rng.normal(size=(3, 10)), "fc2_bias": np.zeros((1, 10))}
    scipy.io.savemat(tmp_path / "digits" / "fnn2_seed0_weights.mat", arrays)
    return Job(folder=str(tmp_path), network="fnn2_seed0", contender=REFERENCE, tolerance=1e-6, time_limit=30.0,
               memory_limit=8 * 2**30)


def test_job_measures_a_proved_bound(job):
    record = launch(job)
    assert record.outcome is Outcome.DONE, record.detail
    assert record.bound is not None
    assert record.proved is not None
    assert record.bound * (1 - 1e-9) <= record.proved <= record.bound * (1 + 1e-4)
    assert record.peak_mb is not None
    assert 10 < record.peak_mb < 4000


@pytest.fixture
def images(job, tmp_path) -> Job:
    """The chain of two convolutions of 3x4 images with two channels, in the same folder."""
    rng = np.random.default_rng(6)
    (tmp_path / "cnn").mkdir()
    params = {"linear_0_weight": rng.normal(size=(10, 2)), "linear_0_bias": np.zeros((1, 10))}
    for k in range(3):
        params |= {f"conv_{k}_weight": rng.normal(size=(2, 2 if k else 1, 3, 3)), f"conv_{k}_bias": np.zeros((1, 2))}
    scipy.io.savemat(tmp_path / "cnn" / "cnn_C3_CH2.mat",
                     {"params": params, "metadata": {"input_shape": np.array([1, 3, 4])}})
    return dataclasses.replace(job, network="cnn_C3_CH2 conv_1..conv_2")


def test_modes_are_proved_and_ordered(images):
    names = ("interior point", "spectral", "spectral, Clarabel", "roesser", "roesser, Clarabel")
    records = {name: launch(dataclasses.replace(images, contender=name)) for name in names}
    for record in records.values():
        assert record.outcome is Outcome.DONE, record.detail
        assert record.proved == pytest.approx(record.bound, rel=1e-4)
    neuron, spectral, conic, roesser, by_backend = (record.proved for record in records.values())
    assert neuron <= spectral * (1 + 1e-5)
    assert spectral == pytest.approx(conic, rel=1e-5)
    assert spectral <= roesser * (1 + 1e-5)
    assert roesser == pytest.approx(by_backend, rel=1e-4)


def test_modes_do_not_apply_to_every_network(images):
    perceptron = dataclasses.replace(images, network="fnn2_seed0", contender="spectral")
    with_head = dataclasses.replace(images, network="cnn_C3_CH2 as trained", contender="spectral, Clarabel")
    for job in (perceptron, with_head):
        record = launch(job)
        assert record.outcome is Outcome.NOT_APPLICABLE, record.detail
        assert record.detail


def test_job_is_ended_from_outside(job):
    record = launch(dataclasses.replace(job, time_limit=0.05), grace=0.0)
    assert record.outcome is Outcome.TIMEOUT


def test_crash_of_a_job_is_a_row(job):
    record = launch(dataclasses.replace(job, folder="/nonexistent"))
    assert record.outcome is Outcome.FAILED
    assert "exit code 1: " in record.detail
    assert "no mlp" in record.detail


def test_command_prints_and_records(job, tmp_path):
    lines = tmp_path / "lines.jsonl"
    result = CliRunner().invoke(app, ["lipschitz", "--weights", job.folder, "--contender", "closed form", "--no-peers",
                                      "--json", str(lines)])
    assert result.exit_code == 0, result.output
    assert "closed form" in result.output
    (line,) = lines.read_text().splitlines()
    assert '"machine"' in line
    record = Record.from_json(line)
    assert (record.network, record.contender, record.outcome) == ("fnn2_seed0", "closed form", Outcome.DONE)


def test_command_refuses_an_empty_choice(job):
    for wrong in (["--only", "absent"], ["--contender", "absent"]):
        assert CliRunner().invoke(app, ["lipschitz", "--weights", job.folder, *wrong]).exit_code == 2


def test_contenders_are_found_by_name():
    assert all(contender(candidate.name) is candidate for candidate in CONTENDERS)
    with pytest.raises(ValueError, match="No contender is called 'absent'"):
        contender("absent")


def test_missing_module_is_not_installed():
    assert not dataclasses.replace(CONTENDERS[0], module="absent_module").installed()


def test_peak_memory_is_of_this_process():
    assert 1 < peak_memory() < 1e5
