"""Result files are read whole, or refused with every offender and reason."""

import json

import pytest
from netgain.verify.report.fields import FieldError, Fields, content_of
from netgain.verify.report.reading import BATCH, ReportError, read_documents

KNOWN = ("netgain-result/1", "netgain-flow-result/1")


def write(folder, name, text):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


WRONG = {
    "cut.json": ('{"schema": "netgain-result/1", "upper": 1.', "cut short"),
    "nan.json": ('{"schema": "netgain-result/1", "upper": NaN}', "holds NaN"),
    "infinite.json": ('{"schema": "netgain-result/1", "upper": -Infinity}', "holds -Infinity"),
    "huge.json": ('{"schema": "netgain-result/1", "upper": 1e999}', "beyond float64"),
    "huge_integer.json": ('{"schema": "netgain-result/1", "upper": 1' + 400 * "0" + "}", "beyond float64"),
    "empty.json": (" \n", "is empty"),
    "list.json": ("[1, 2]", "holds a JSON array"),
    "number.json": ("3", "holds a JSON number"),
    "plain.json": ("{}", "no schema"),
    "later.json": ('{"schema": "netgain-result/2"}', "'netgain-result/2'; known are netgain-flow-result/1"),
    "other.json": ('{"schema": ["x"]}', "the schema ['x']"),
    "sealed.json": ('{"schema": "netgain-certificate/2", "sha256": "0"}', "is a certificate"),
    "binary.json": (b"\xff\xfe\x00", "not text in UTF-8"),
    "deep.json": ('{"a":' + 200_000 * "[", "nested too deeply"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_result_is_refused_with_its_reason(name, tmp_path):
    content, reason = WRONG[name]
    path = write(tmp_path, name, content)
    with pytest.raises(ReportError) as caught:
        read_documents([path], KNOWN)
    assert str(path) in str(caught.value)
    assert reason in str(caught.value)


def test_all_offenders_are_named_at_once(tmp_path):
    good = write(tmp_path, "good.json", '{"schema": "netgain-result/1"}')
    paths = [write(tmp_path, name, content) for name, (content, _) in WRONG.items()]
    with pytest.raises(ReportError) as caught:
        read_documents([*paths, good, tmp_path / "missing.json"], KNOWN)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(WRONG) + 1
    for (_, reason), line in zip(WRONG.values(), lines, strict=False):
        assert reason in line
    assert "missing.json cannot be read" in lines[-1]


def test_lines_are_results_of_their_own_and_formatted_objects_are_one(tmp_path):
    results = [{"schema": name, "upper": k} for k, name in enumerate(KNOWN)]
    lines = write(tmp_path, "lines.jsonl", "\n".join(map(json.dumps, results)) + "\n")
    pretty = write(tmp_path, "pretty.json", json.dumps(results[0], indent=1))
    found = read_documents([lines, pretty], KNOWN)
    assert [document.body for document in found] == [*results, results[0]]
    assert [document.origin for document in found] == [f"{lines}, line 1", f"{lines}, line 2", str(pretty)]
    broken = write(tmp_path, "broken.jsonl", json.dumps(results[0]) + "\n" + '{"schema": "netg')
    with pytest.raises(ReportError, match="line 2 is not complete JSON"):
        read_documents([broken], KNOWN)


def test_results_of_batches_follow_the_list_of_their_jobs(tmp_path):
    def job(name, status, result):
        return json.dumps({"schema": BATCH, "id": name, "status": status, "result": result})

    result = {"schema": KNOWN[0], "upper": 1}
    path = write(tmp_path, "jobs.jsonl", "\n".join([
        job("a", "died", None), job("b", "proved", result), job("a", "proved", {**result, "upper": 2}),
        job("c", "timed_out", None)]))
    listed, *results = read_documents([path], [BATCH, *KNOWN])
    assert listed.schema == BATCH
    assert [(entry["id"], entry["status"]) for entry in listed.body["jobs"]] == [
        ("a", "proved"), ("b", "proved"), ("c", "timed_out")]
    assert [document.body["upper"] for document in results] == [2, 1]
    unknown = write(tmp_path, "unknown.jsonl", job("a", "proved", {"schema": "netgain-dream/1"}))
    with pytest.raises(ReportError, match=r"unknown\.jsonl.*'netgain-dream/1', which is not known"):
        read_documents([unknown], [BATCH, *KNOWN])


def test_what_cannot_be_shown_is_replaced(tmp_path):
    body = {"schema": KNOWN[0], "name": "a\x00b\u202ec\ud800d\x85e\nf — é 数"}
    path = write(tmp_path, "odd.json", json.dumps(body))
    assert read_documents([path], KNOWN)[0].body["name"] == "a�b�c�d�e\nf — é 数"


def test_fields_that_nobody_reads_are_left_over():
    fields = Fields({"a": 1, "b": {"c": [1, 2], "d": "x"}, "e": [{"f": 1, "g": [0.5] * 20}], "h": {}})
    assert fields.number("a") == 1
    assert fields.object("b").text("d") == "x"
    assert [entry.integer("f") for entry in fields.objects("e")] == [1]
    assert fields.rest() == [("b.c", "1, 2"), ("e[0].g", "20 numbers from 0.5 to 0.5"), ("h", "nothing")]


@pytest.mark.parametrize(("read", "message"), [
    (lambda f: f.number("text"), r"`text` is x, expected a number"),
    (lambda f: f.number("flag"), r"`flag` is yes, expected a number"),
    (lambda f: f.number("none"), r"`none` is missing, expected a number"),
    (lambda f: f.text("number"), r"`number` is 1.5, expected a text"),
    (lambda f: f.integer("number"), r"expected a whole number"),
    (lambda f: f.flag("number"), r"expected true or false"),
    (lambda f: f.numbers("mixed"), r"`mixed` is 1, nothing, expected a list of numbers"),
    (lambda f: f.texts("mixed"), r"expected a list of texts"),
    (lambda f: f.objects("mixed"), r"expected a list of objects"),
    (lambda f: f.object("text"), r"expected an object"),
    (lambda f: f.object("inner").object("deeper").number("x"), r"`inner.deeper.x` is missing"),
    (lambda f: f.objects("list")[1].text("y"), r"`list\[1\].y` is missing"),
])
def test_fields_of_another_kind_are_named(read, message):
    fields = Fields({"text": "x", "flag": True, "none": None, "number": 1.5, "mixed": [1, None],
                     "inner": {"deeper": {}}, "list": [{}, {}]})
    with pytest.raises(FieldError, match=message):
        read(fields)


def test_long_lists_are_summed_up():
    assert content_of(list(range(100))) == "100 numbers from 0 to 99"
    image = [[[0.5] * 28] * 28]
    assert content_of(image) == "784 numbers from 0.5 to 0.5"
    mixed = Fields({"x": image, "y": [[1], [{}]]})
    assert mixed.rest() == [("x", content_of(image)), ("y[0]", "1"), ("y[1][0]", "nothing")]
    assert content_of(["a"] * 10) == "a, a, a, a, a, a, a, a, and 2 more"
    assert content_of([]) == content_of(None) == content_of({}) == "nothing"
