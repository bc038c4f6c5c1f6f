"""How a command ends: the exit codes, and every failure as a message on stderr."""

import contextlib
import enum
import sys
import traceback
from collections.abc import Iterator
from typing import NoReturn

import numpy as np
import typer
from netgain.layers import ModelError
from netgain.solvers.availability import SolverUnavailable
from rich.console import Console

from .certificate import CertificateError
from .memory import TooLargeError


class ExitCode(enum.IntEnum):
    """How a command ended."""

    PROVED = 0
    NOT_PROVED = 1
    USAGE = 2
    MODEL = 3
    NUMERICAL = 4
    REFUSED = 5
    INTERRUPTED = 130


def error_console() -> Console:
    return Console(stderr=True)


def fail(code: ExitCode, message: object) -> NoReturn:
    error_console().print(str(message), style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(code)


@contextlib.contextmanager
def failures_explained() -> Iterator[None]:
    """Turns what can go wrong in a command into a message and an exit code; a fault of ours also shows where it is."""
    try:
        # What overflows proves nothing, and is told of as such.
        with np.errstate(all="ignore"):
            yield
    except (typer.Exit, typer.BadParameter):
        raise
    except ModelError as error:
        fail(ExitCode.MODEL, error)
    except CertificateError as error:
        fail(ExitCode.REFUSED, error)
    except SolverUnavailable as error:
        fail(ExitCode.USAGE, error)
    except TooLargeError as error:
        fail(ExitCode.NUMERICAL, error)
    except MemoryError as error:
        reason = f" ({error})" if str(error) else ""
        fail(ExitCode.NUMERICAL, f"Out of memory{reason}. `netgain inspect` predicts what a model needs; "
                                 "--solver closed-form needs least.")
    except (ArithmeticError, np.linalg.LinAlgError) as error:
        # Errors of overflow begin with the number that the system gives them.
        why = error.args[-1] if error.args else error
        fail(ExitCode.NUMERICAL, f"The numbers of this model are out of reach: {why}")
    except BrokenPipeError:
        raise
    except OSError as error:
        fail(ExitCode.USAGE, f"The result could not be written: {error}.")
    except KeyboardInterrupt:
        fail(ExitCode.INTERRUPTED, "Interrupted before there was a result.")
    except Exception:  # the end of every command: what nobody foresaw is shown whole, and ends with a code of its own
        traceback.print_exc(file=sys.stderr)
        fail(ExitCode.NUMERICAL, "This is a fault of netgain, not of the model: nothing is proved. Please report it.")
