"""Ctrl-C as the verification sees it."""

import signal
import threading

import pytest
from netgain.verify.interruption import Interruption


def test_the_first_ends_what_is_under_way() -> None:
    with Interruption() as interruption:
        assert not interruption
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert interruption


def test_a_proof_is_finished_unless_asked_twice() -> None:
    with Interruption() as interruption:
        interruption.shielded = True
        signal.raise_signal(signal.SIGINT)
        assert interruption
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_the_handler_before_is_restored() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interruption():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_may_verify_too() -> None:
    entered = []

    def work() -> None:
        with Interruption() as interruption:
            entered.append(bool(interruption))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert entered == [False]
