"""Results of all commands for networks small enough to be bounded in seconds, made once."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx.helper
import onnx.numpy_helper
import pytest
from netgain.layers import LeakyRelu
from netgain.layers.formats import save_stable_npz
from netgain.layers.stable_block import StableBlock, StableNetwork
from netgain.verify import cli
from netgain.verify.report import certificates
from netgain.verify.report.certificates import Checker
from netgain.verify.report.page import SECTIONS, page, sections_of
from netgain.verify.report.reading import Document, read_documents
from typer.testing import CliRunner

QUICK = ("--steps", "1,2", "--pieces", "1", "--time-limit", "20")


def run(*arguments: object):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def save_residual(path: Path, blocks: int = 2) -> None:
    """An ONNX network of residual blocks of width 3, from R^2 to R^2."""
    rng = np.random.default_rng(0)
    nodes, weights = [], []

    def gemm(source: str, out: int, size: int, name: str) -> str:
        weights.append(onnx.numpy_helper.from_array(rng.standard_normal((out, size)) / np.sqrt(size), f"W_{name}"))
        weights.append(onnx.numpy_helper.from_array(rng.standard_normal(out), f"b_{name}"))
        nodes.append(onnx.helper.make_node("Gemm", [source, f"W_{name}", f"b_{name}"], [name], name=name, transB=1))
        return name

    value = gemm("x", 3, 2, "stem")
    for k in range(blocks):
        nodes.append(onnx.helper.make_node("Relu", [gemm(value, 3, 3, f"in_{k}")], [f"relu_{k}"], name=f"relu_{k}"))
        nodes.append(onnx.helper.make_node("Add", [gemm(f"relu_{k}", 3, 3, f"out_{k}"), value], [f"sum_{k}"],
                                           name=f"sum_{k}"))
        value = f"sum_{k}"
    gemm(value, 2, 3, "head")
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, [1, 2]) for name in ("x", "head")]
    graph = onnx.helper.make_graph(nodes, "residual", ends[:1], ends[1:], weights)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)


TABLE: dict[str, Any] = {
    "schema": "netgain-table/1", "name": "depth", "title": "Bounds over depth",
    "source": {"paper": "A paper", "arxiv": "0000.00000", "table": "Table 1"}, "made": {"seconds": 3.5},
    "columns": [{"name": "network", "unit": None, "kind": "label", "proved": None},
                {"name": "LipSDP", "unit": None, "kind": "upper", "proved": True},
                {"name": "published", "unit": None, "kind": "published", "proved": None}],
    "rows": [["FC-2", 1.25, 1.26], ["FC-4", 2.5, None]],
    "deviations": [{"row": 0, "column": "LipSDP", "ours": 1.25, "published": 1.26, "relative": -0.008,
                    "explanation": "the solver of the paper stops early"}],
    "notes": ["Trained with seed 0."],
    "figures": [{"title": "Bound over depth", "x": {"label": "depth", "log": False},
                 "y": {"label": "bound", "log": True},
                 "series": [{"label": "ours", "kind": "line", "x": [2, 4], "y": [1.25, 2.5], "published": False},
                            {"label": "paper", "kind": "line", "x": [2, 4], "y": [1.26, None], "published": True}]}],
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, results (`NAME.json`) and certificates, as the commands leave them."""
    place = tmp_path_factory.mktemp("results")
    before = Path.cwd()
    os.chdir(place)
    try:
        save_residual(Path("residual.onnx"))
        np.savez("ode.npz", A=[[-2, 1.2], [0.8, -1.5]], activation="leaky_relu:0.1")
        np.savez("implicit.npz", A=[[-0.5, 0.4], [-0.2, 0.1]], B=np.eye(2), C=[[1.0, 1.0]], activation="relu")
        states, inputs = np.array([[-0.7, 0.1], [0.1, -0.6]]), np.array([[1.0], [0.5]])
        block = StableBlock((states,), (inputs,), (), LeakyRelu(0.2), 1.0, 4)
        save_stable_npz("blocks.npz", StableNetwork((block,), (1,), "blocks"))
        np.savez("data.npz", x=np.random.default_rng(1).standard_normal((6, 2)), y=[0, 1, 0, 1, 0, 1])
        for name, arguments in {
            "lipschitz": ("verify", "residual.onnx"), "contractivity": ("contractivity", "ode.npz"),
            "implicit": ("implicit", "implicit.npz"), "stability": ("stability", "blocks.npz"),
            "flow": ("flow", "ode.npz", *QUICK), "comparison": ("compare", "implicit.npz", "--time-limit", "20"),
            "inspection": ("inspect", "residual.onnx"),
            "robustness": ("robustness", "residual.onnx", "--data", "data.npz", "--attack-steps", "5"),
        }.items():
            result = run(*arguments, "--json")
            assert result.exit_code in (0, 1), result.stderr
            Path(f"{name}.json").write_text(result.stdout)
        Path("table.json").write_text(json.dumps(TABLE))
    finally:
        os.chdir(before)
    return place


RESULTS = ("lipschitz", "contractivity", "implicit", "stability", "flow", "comparison", "inspection", "table",
           "robustness")


def made(documents: list[Document]) -> str:
    """The page of some results, without any check of certificates."""
    return page(sections_of(documents, Checker()), documents, None)


@pytest.fixture(scope="session")
def documents(folder: Path) -> list[Document]:
    return read_documents([folder / f"{name}.json" for name in RESULTS], SECTIONS)


@pytest.fixture(scope="session")
def whole(documents: list[Document]) -> str:
    """The page of all results."""
    return made(documents)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """`netgain check` without a process of its own, which takes longer than what it checks here."""

    def checked(certificate: Path, model: Path) -> tuple[dict[str, Any] | None, str]:
        result = run("check", certificate, model, "--json")
        return (json.loads(result.stdout), "") if result.stdout else (None, result.stderr)

    monkeypatch.setattr(certificates, "_checked", checked)


@pytest.fixture
def body(folder: Path) -> dict[str, Any]:
    """The result of `netgain verify`, to be changed."""
    return json.loads((folder / "lipschitz.json").read_text())
