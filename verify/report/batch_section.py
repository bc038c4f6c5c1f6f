"""The jobs of `netgain batch`: how each ended. The results among them have sections of their own."""

from .content import Block, Section, Table
from .fields import FieldError, content_of
from .section import Context, duration, remaining

_SAID = ("schema", "id", "inputs", "limits", "version", "exit_code", "attempts", "host", "finished", "files")


def _reason(reason: str | None, stderr: str | None) -> str:
    """Why a job was stopped, or the last that it said."""
    said = (stderr or "").strip().splitlines()
    return reason or (said[-1] if said else "")


def batch_section(context: Context) -> Section:
    """The section of the jobs of one file, under `jobs`."""
    fields = context.fields
    rows = []
    for job in fields.objects("jobs"):
        options = job.anything("options") or {}
        if not isinstance(options, dict):
            raise FieldError("`options` of a job is no object")
        rows.append((job.text("model"), job.text("question"),
                     " ".join(f"{name}={content_of(value)}" for name, value in options.items()),
                     job.text("status").replace("_", " "), duration(job.number("seconds")),
                     f"{job.number('peak_memory') / 2**20:.0f} MiB",
                     _reason(job.text_or_none("reason"), job.text_or_none("stderr"))))
        job.ignore(*_SAID)
    ended = [row[3] for row in rows]
    counts = ", ".join(f"{ended.count(status)} {status}" for status in dict.fromkeys(ended))
    headings = ("model", "question", "options", "status", "time", "memory", "reason")
    table: Block = Table("The jobs and how they ended", headings, rows, numeric=frozenset({4, 5}), wide=True)
    fields.ignore("schema")
    return Section(context.identifier, "Jobs", "many at once", ("", counts), [("results", context.document.origin)],
                   [table, *remaining(fields)])
