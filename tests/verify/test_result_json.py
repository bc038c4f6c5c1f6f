"""The JSON results against their schema."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from netgain.layers import Affine, Graph, Relu, sequential
from netgain.layers.formats import describe_source, save_npz
from netgain.solvers.closed_form import ClosedForm
from netgain.verify import CertificateError, check, lipschitz
from netgain.verify.claim import judge
from netgain.verify.result_json import check_json, refusal_json, result_json

NUMBER = (int, float)
RESULT: dict[str, Any] = {
    "schema": str,
    "tool": {"name": str, "version": str},
    "model": {"path": str, "sha256": str, "format": str, "digest": str, "input_shape": list, "output_shape": list},
    "question": str,
    "norm": {"input": str, "output": str, "region": str, "arithmetic": str},
    "method": str,
    "upper": NUMBER,
    "upper_decimal": str,
    "lower": {"value": NUMBER, "decimal": str, "witness": {"x": list, "x_prime": list}, "slope": NUMBER},
    "norm_product": NUMBER,
    "gap": NUMBER,
    "proved": bool,
    "mode": str,
    "claim": {"below": NUMBER, "verdict": str},
    "solver": {"name": str, "version": str, "status": str, "explanation": str, "detail": str, "iterations": int,
               "bound": NUMBER, "dual_bound": NUMBER},
    "graph": list,
    "course": list,
    "seed": int,
    "seconds": {"solve": NUMBER, "prove": NUMBER, "lower": NUMBER, "total": NUMBER},
    "certificate": str,
    "notes": list,
}


@pytest.fixture
def graph() -> Graph:
    return sequential((2,), [Affine(np.array([[1.0, 2.0], [0.0, 1.0]])), Relu(), Affine(np.eye(2))])


@pytest.fixture
def content(graph: Graph, tmp_path: Path) -> dict[str, Any]:
    save_npz(tmp_path / "net.npz", graph)
    report = lipschitz(graph)
    return result_json(report, graph, describe_source(tmp_path / "net.npz"), 3, "net.json", judge(report, 1.0))


def fits(content: Any, schema: Any) -> bool:
    if isinstance(schema, dict):
        return content.keys() == schema.keys() and all(fits(content[key], schema[key]) for key in schema)
    return isinstance(content, schema)


def test_every_field_is_there_and_of_its_type(content: dict[str, Any]) -> None:
    assert fits(content, RESULT)
    assert content["schema"] == "netgain-result/1"
    assert len(content["model"]["sha256"]) == len(content["model"]["digest"]) == 64


def test_standard_json_reads_it_back_exactly(content: dict[str, Any]) -> None:
    assert json.loads(json.dumps(content, allow_nan=False)) == content


def test_the_witness_can_be_replayed(content: dict[str, Any], graph: Graph) -> None:
    x, other = (np.array(content["lower"]["witness"][key]).reshape(1, 2) for key in ("x", "x_prime"))
    values = [graph.values(point)[graph.output] for point in (x, other)]
    ratio = np.linalg.norm(values[0] - values[1]) / np.linalg.norm(x - other)
    assert ratio == pytest.approx(content["lower"]["value"], rel=1e-6)
    assert ratio <= content["upper"]


def test_numbers_that_are_missing_are_null(graph: Graph, tmp_path: Path) -> None:
    save_npz(tmp_path / "net.npz", graph)
    report = lipschitz(graph, ClosedForm(), lower_bounds=False)
    unproved = dataclasses.replace(report, upper=math.inf, certificate=None, norm_product=math.inf)
    content = result_json(unproved, graph, describe_source(tmp_path / "net.npz"), 0, "")
    assert content["upper"] is content["upper_decimal"] is content["norm_product"] is content["gap"] is None
    assert content["certificate"] is content["claim"] is content["lower"]["witness"] is None
    json.dumps(content, allow_nan=False)


def test_check_results_say_what_was_claimed(graph: Graph) -> None:
    certificate = lipschitz(graph).certificate
    assert certificate is not None
    content = check_json(certificate, graph, check(certificate, graph))
    assert content["proved"]
    assert content["value"] == certificate.value
    assert content["norm"]["region"] == "all inputs"
    assert refusal_json(CertificateError("cut short"))["explanation"] == "cut short"
