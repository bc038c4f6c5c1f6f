"""Results without figures of their own, such as those of `check` and `inspect`: everything they say, as a table."""

from pathlib import PurePath

from ..result_json import CHECK, DOCTOR, INSPECTION
from .content import Section, Table
from .fields import flat
from .section import Context

SCHEMAS = (CHECK, INSPECTION, DOCTOR, "netgain-contract-result/1")


def other_section(context: Context) -> Section:
    """The section of one result."""
    body = dict(context.document.body)
    model = body.get("model")
    path = model.get("path") if isinstance(model, dict) else None
    title = PurePath(path).stem if isinstance(path, str) else context.document.origin
    rows = [line for name, value in body.items() for line in flat(name, value)]
    question = str(body.get("question") or body["schema"])
    return Section(context.identifier, title, question, ("", ""), [("result", context.document.origin)],
                   [Table("What the result says", ("field", "content"), rows, wide=True)])
