"""What can be wrong with a network or the file that holds it."""


class ModelError(ValueError):
    """A network, or the file it is read from, cannot be used as it is; the text says what to do."""


class ShapeError(ModelError):
    """Shapes of a layer and of what is fed to it do not fit."""


class UnsupportedModelError(ModelError):
    """The model uses something this package has no exact meaning for; every offender is listed.

    **Attributes:** `offenders`: one line per offending node.
    """

    def __init__(self, source: str, offenders: list[str]):
        self.offenders = tuple(offenders)
        lines = "\n".join(f"  - {line}" for line in offenders)
        super().__init__(
            f"{source}: {len(offenders)} thing(s) in this model are not supported:\n{lines}\n"
            "Nothing was skipped or approximated. Remove or replace these operators, or export the model differently."
        )


class ConvergenceError(ArithmeticError):
    """An iteration for the solution of an implicit layer did not come to its tolerance."""


class MismatchError(ModelError):
    """The imported graph does not compute what the file says."""
