"""What is said to be installed."""

import importlib.metadata

import pytest
from netgain.solvers.availability import Licence
from netgain.verify.doctor import diagnose


def test_versions_are_those_of_the_distributions() -> None:
    libraries = diagnose().libraries
    assert libraries["numpy"] == importlib.metadata.version("numpy")
    assert libraries["netgain"] == importlib.metadata.version("netgain")


def test_what_is_absent_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("netgain.verify.doctor.importlib.metadata.version", absent)
    monkeypatch.setattr("netgain.solvers.availability.importlib.util.find_spec", lambda name: None)
    diagnosis = diagnose()
    assert set(diagnosis.libraries.values()) == {None}
    assert not any(backend.usable for backend in diagnosis.backends)


def test_every_backend_that_cannot_be_used_has_a_remedy() -> None:
    for backend in diagnose().backends:
        assert backend.usable == (backend.remedy == "")
        assert backend.licence in Licence


def test_the_machine_is_described() -> None:
    machine = diagnose().machine
    assert machine.cores >= 1
    assert machine.memory > 2**27
    assert machine.python.startswith("3.")
