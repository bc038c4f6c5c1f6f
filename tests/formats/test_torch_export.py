"""Networks exported by torch compute in the graph what they compute in torch."""

import warnings

import numpy as np
import pytest
from netgain.layers import load

torch = pytest.importorskip("torch")
ACTIVATIONS = ["ReLU", "Tanh", "Sigmoid", "LeakyReLU", "PReLU", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish",
               "Hardswish", "Hardsigmoid", "Hardtanh", "ReLU6", "Softplus", "Softsign", "Tanhshrink"]


def agree(tmp_path, module, shape, opset):
    module = module.eval()
    path = tmp_path / "net.onnx"
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x,), str(path), dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "batch"}},
                          opset_version=opset)
    graph = load(path)
    expected = module.double()(x.double()).detach().numpy()
    np.testing.assert_allclose(graph.forward(x.double().numpy()), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("opset", [11, 20])
def test_activation(tmp_path, name, opset):
    if name == "CELU" and opset == 11:
        pytest.skip("torch exports it since operator set 12")
    torch.manual_seed(0)
    nn = torch.nn
    agree(tmp_path, nn.Sequential(nn.Linear(6, 5), getattr(nn, name)(), nn.Linear(5, 3)), (6,), opset)


@pytest.mark.parametrize("opset", [9, 13, 18])
def test_flatten_normalisation_and_residual(tmp_path, opset):
    nn = torch.nn
    torch.manual_seed(0)

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Linear(8, 8))
            self.inner[1].running_var.fill_(0.3)

        def forward(self, x):
            x = (x.view(x.size(0), -1) - 0.1307) / 0.3081
            return x[:, 2:6] + self.inner(x)[:, :4]

    agree(tmp_path, Residual(), (2, 4), opset)


@pytest.mark.parametrize("opset", [9, 13, 18])
def test_convolutional_blocks(tmp_path, opset):
    nn = torch.nn
    torch.manual_seed(0)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(
                nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2)), nn.BatchNorm2d(4), nn.ReLU(),
                nn.Conv2d(4, 8, 3, padding="same", groups=2, bias=False), nn.BatchNorm2d(8))
            self.inner[1].running_mean.fill_(0.2)
            self.inner[4].running_var.fill_(0.3)
            self.projection = nn.Conv2d(3, 8, 1, stride=(2, 1))
            # Without ceil_mode in operator set 9, torch writes it as padding, here as -1.
            self.pool = nn.AvgPool2d(2, stride=3, padding=1, ceil_mode=opset > 9)
            self.pad = nn.ZeroPad2d((1, 0, 2, 1))
            self.head = nn.Sequential(nn.Conv2d(8, 8, 2, groups=8), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                      nn.Linear(8, 3))

        def forward(self, x):
            h = self.inner(x)
            return self.head(self.pad(self.pool(torch.relu(h + self.projection(nn.functional.pad(x, (1, 1)))))))

    agree(tmp_path, Block(), (3, 6, 5), opset)


@pytest.mark.parametrize("opset", [9, 18])
def test_lenet_with_max_pooling(tmp_path, opset):
    nn = torch.nn
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))
    agree(tmp_path, module, (1, 28, 28), opset)


@pytest.mark.parametrize("opset", [11, 20])
def test_a_residual_network_with_max_pooling(tmp_path, opset):
    """The parts of ResNet: a stem with an overlapping pooling, blocks with and without a strided projection."""
    nn = torch.nn
    torch.manual_seed(0)

    class Block(nn.Module):
        def __init__(self, channels, out, stride):
            super().__init__()
            self.inner = nn.Sequential(
                nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(),
                nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out))
            self.skip = nn.Identity() if stride == 1 else nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

        def forward(self, x):
            return torch.relu(self.inner(x) + self.skip(x))

    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(3, 2, 1), Block(4, 4, 1),
        Block(4, 6, 2), nn.MaxPool2d((2, 1), ceil_mode=True), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(6, 3))
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for values in (part.running_mean, part.running_var, part.weight.data, part.bias.data):
                values.uniform_(0.3, 1.5)
    agree(tmp_path, module, (3, 12, 10), opset)


def test_convolution_and_pooling_of_sequences(tmp_path):
    nn = torch.nn
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv1d(2, 4, 3, padding=2, dilation=2), nn.GELU(), nn.AvgPool1d(2, padding=1, count_include_pad=False),
        nn.Conv1d(4, 3, 2, stride=2), nn.ReLU(), nn.MaxPool1d(2, 1, dilation=2), nn.Flatten(), nn.Linear(3, 2))
    agree(tmp_path, module, (2, 12), 20)
