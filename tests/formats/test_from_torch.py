"""Torch modules become graphs that compute what the modules compute, or are refused with every reason."""

import copy
import subprocess
import sys
import warnings

import numpy as np
import pytest
from netgain.layers import MismatchError, ModelError, UnsupportedModelError, from_torch, load
from netgain.layers.formats import torch_module
from netgain.verify import lipschitz

torch = pytest.importorskip("torch")
nn = torch.nn
functional = nn.functional

ACTIVATIONS = ["ReLU", "Tanh", "Sigmoid", "LeakyReLU", "PReLU", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish", "ReLU6",
               "Hardswish", "Hardsigmoid", "Hardtanh", "Softplus", "Softsign", "Tanhshrink", "LogSigmoid", "Softmax"]


class Function(nn.Module):
    """A formula, with submodules it may use."""

    def __init__(self, formula, **parts):
        super().__init__()
        self.formula = formula
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.formula(self, x)


def settled(module):
    """In evaluation mode, with normalisations that change something."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            for values in (part.running_mean, part.running_var, *part.parameters()):
                values.data.uniform_(0.3, 1.5)
    return module.eval()


def activations():
    widths = [layer for name in ACTIVATIONS for layer in
              (nn.Linear(4, 4), getattr(nn, name)(**({"dim": 1} if name == "Softmax" else {})))]
    return nn.Sequential(*widths)


def residual():
    body = nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True),
                         nn.Conv2d(4, 3, (3, 1), padding="same", groups=1), nn.BatchNorm2d(3, affine=False))
    return Function(lambda m, x: m.head(torch.relu(m.body(x) + x).mean((2, 3)) * 2 - 0.5), body=body,
                    head=nn.Linear(3, 2))


def moved(m, x):
    y = x.permute(0, 2, 3, 1).flip(1)[:, 1:, ::2].transpose(1, 2)
    y = torch.cat([y.flatten(1), functional.pad(x, (1, 0, 0, 2), value=0.5).view(x.size(0), -1)], dim=1)
    left, right = y.chunk(2, dim=1)
    y = torch.stack([left, 1 - right / 3], dim=2).unsqueeze(1).squeeze(1)
    return y.reshape(len(x), -1)[:, torch.tensor([3, 1, 1])] @ m.weight.t() + y.sum((1, 2)).unsqueeze(-1)


class Gates(nn.Module):
    def forward(self, x):
        smooth = x * torch.sigmoid(x) + torch.sigmoid(2 * x) * x - x * torch.tanh(functional.softplus(x))
        return smooth.clamp(-1, 2) + torch.maximum(x, torch.zeros(())) + torch.sub(x.clamp_min(0), x, alpha=3)


BANK = {
    "mlp": ((6,), lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4, bias=False), nn.Tanh(),
                                        nn.Dropout(), nn.Linear(4, 3))),
    "activations": ((4,), activations),
    "normalised": ((2, 3), lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.BatchNorm1d(5, eps=1e-3), nn.GELU(
        "tanh"), nn.Unflatten(1, (5, 1)), nn.BatchNorm1d(5))),
    "cnn": ((2, 9, 8), lambda: nn.Sequential(
        nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2), nn.ELU(0.5),
        nn.MaxPool2d(2, 1, 1), nn.AvgPool2d(2, 2, 1, ceil_mode=True, count_include_pad=False), nn.Flatten(),
        nn.LazyLinear(3))),
    "circular": ((2, 5, 5), lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular")),
    "sequence": ((2, 12), lambda: nn.Sequential(nn.Conv1d(2, 4, 3, padding=2, dilation=2), nn.AvgPool1d(2), nn.Softsign(
        ), nn.MaxPool1d(2, 1, dilation=2), nn.AdaptiveAvgPool1d(2), nn.Flatten(), nn.Linear(8, 2))),
    "adaptive": ((2, 6, 4), lambda: Function(lambda m, x: functional.adaptive_avg_pool2d(
        x, (3, None)).amax(3) - functional.adaptive_max_pool2d(x, (3, 1)).squeeze(3))),
    "residual": ((3, 6, 5), residual),
    "moves": ((2, 3, 4), lambda: Function(moved, weight=nn.Parameter(torch.randn(5, 3)))),
    "gates": ((5,), Gates),
    "addmm": ((4,), lambda: Function(lambda m, x: torch.addmm(m.b, x, m.w).mm(m.w), b=nn.Parameter(torch.randn(4)),
                                     w=nn.Parameter(torch.randn(4, 4)))),
}


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("name", BANK)
def test_agrees_with_the_module(name, samples):
    torch.manual_seed(0)
    shape, make = BANK[name]
    module = make()
    module(torch.zeros(2, *shape))  # lazy layers
    settled(module)
    graph = from_torch(module, torch.randn(samples, *shape))
    x = torch.randn(samples, *shape, dtype=torch.float64)
    expected = copy.deepcopy(module).double()(x).detach().numpy()
    np.testing.assert_allclose(graph.forward(x.numpy()), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_and_numbers_are_those_of_torch(dtype):
    module = nn.Sequential(nn.Linear(3, 2), nn.LeakyReLU(0.1)).to(dtype)
    graph = from_torch(module, torch.zeros(1, 3, dtype=dtype))
    affine, leaky = (graph.layer(node) for node in graph.order[1:3])
    assert np.array_equal(affine.weight, module[0].weight.detach().double().numpy())
    assert np.array_equal(affine.bias, module[0].bias.detach().double().numpy())
    assert float(leaky.slope) == torch.tensor(0.1, dtype=dtype).double().item()


@pytest.mark.parametrize("name", ["mlp", "cnn", "residual"])
def test_the_graph_is_that_of_the_exported_file(tmp_path, name):
    torch.manual_seed(1)
    shape, make = BANK[name]
    module = make()
    module(torch.zeros(2, *shape))
    settled(module)
    path, training = tmp_path / "net.onnx", torch.onnx.TrainingMode.EVAL
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (torch.zeros(2, *shape),), str(path), dynamo=False, input_names=["x"],
                          dynamic_axes={"x": {0: "batch"}}, opset_version=17, training=training)
    graph, exported = from_torch(module, torch.zeros(2, *shape)), load(path)
    x = np.random.default_rng(0).standard_normal((4, *shape))
    # Folded normalisations are rounded to float32 by the exporter.
    np.testing.assert_allclose(graph.forward(x), exported.forward(x), rtol=1e-5, atol=1e-6)
    if name == "mlp":
        assert graph.digest == exported.digest


def test_the_bound_of_a_module_is_proved():
    weight = torch.diag(torch.tensor([3.0, 0.5]))
    module = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    for part in (module[0], module[2]):
        part.weight.data, part.bias.data = weight.clone(), torch.ones(2)
    report = lipschitz(from_torch(module, torch.zeros(1, 2)))
    assert report.proved
    assert report.upper == pytest.approx(9, rel=1e-3)
    assert report.lower <= 9 <= report.upper


def refused(module, example):
    with pytest.raises(UnsupportedModelError) as caught:
        from_torch(module, example)
    return caught.value.offenders


def test_all_offenders_are_named_at_once():
    module = nn.Sequential(nn.Linear(5, 5), nn.LayerNorm(5), nn.Linear(5, 5), Function(lambda m, x: torch.sin(x) * x),
                           nn.Unflatten(1, (1, 5)), nn.AdaptiveAvgPool1d(3)).eval()
    offenders = refused(module, torch.zeros(2, 5))
    parts = [("layer_norm", "'1'"), ("sin", "'3'"), ("mul", "two activations"), ("adaptive_avg_pool1d", "no multiple")]
    assert len(offenders) == len(parts)
    for offender, words in zip(offenders, parts, strict=True):
        assert all(word in offender for word in words)


def test_training_mode_is_refused_where_it_matters():
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    before = copy.deepcopy(module.state_dict())
    offenders = " ".join(refused(module, torch.randn(3, 4)))
    assert "batch_norm" in offenders
    assert "dropout" in offenders
    assert "module.eval()" in offenders
    assert module.training
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert from_torch(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.randn(3, 4)).order


@pytest.mark.parametrize("formula", [
    lambda m, x: x - x.mean(0), lambda m, x: x.t() @ m.weight, lambda m, x: x.reshape(1, -1), lambda m, x: x.roll(1, 0),
    lambda m, x: x + m.weight, lambda m, x: x[:1], lambda m, x: x.expand(2, 2, 4)])
def test_samples_stay_apart(formula):
    refused(Function(formula, weight=nn.Parameter(torch.randn(2, 4))), torch.zeros(2, 4))


def test_weights_made_of_weights_are_refused():
    normalised = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3)).eval()
    assert any("remove_parametrizations" in offender for offender in refused(normalised, torch.zeros(1, 3)))
    nn.utils.parametrize.remove_parametrizations(normalised, "weight")
    assert from_torch(normalised, torch.zeros(1, 3)).order


@pytest.mark.parametrize(("module", "example", "words"), [
    (nn.Linear(3, 2), torch.zeros(1, 4), "cannot trace"),
    (nn.Linear(3, 2), torch.zeros(1, 3, dtype=torch.float64), "Double and Float|dtype"),
    (nn.Linear(3, 2), torch.zeros(3), "batch axis"),
    (nn.Linear(3, 2), torch.zeros(0, 3), "empty"),
    (nn.Linear(3, 2), torch.zeros(1, 3, dtype=torch.int64), "int64"),
    (nn.Linear(3, 2), np.zeros((1, 3)), "float64, expected one torch.Tensor"),
    ("weights.pt", torch.zeros(1, 3), "torch.nn.Module"),
    (Function(lambda m, x: (x, 2 * x)), torch.zeros(1, 3), "2 values"),
    (Function(lambda m, x: torch.zeros(1, 3)), torch.zeros(1, 3), "does not depend"),
    (Function(lambda m, x: x if x.sum() > 0 else -x), torch.zeros(1, 3), "control flow"),
])
def test_what_is_no_network_is_said(module, example, words):
    with pytest.raises(ModelError, match=words):
        from_torch(module, example)


def test_a_rounding_inside_is_refused():
    (offender,) = refused(Function(lambda m, x: x.half().float()), torch.zeros(1, 3))
    assert "float16" in offender


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_wrong_operator_is_found_out(monkeypatch, dtype):
    monkeypatch.setitem(torch_module.OPERATORS, "aten.tanh.default", torch_module.OPERATORS["aten.sigmoid.default"])
    with pytest.raises(MismatchError, match="the module"):
        from_torch(nn.Sequential(nn.Linear(3, 3), nn.Tanh()).to(dtype), torch.zeros(1, 3, dtype=dtype))


def test_torch_is_not_imported_with_the_layers():
    code = "import sys, netgain.layers, netgain.verify; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
