"""State dicts of convolutional implicit networks, against modules that compute them on bordered images in torch."""

import numpy as np
import pytest
from netgain.layers import ModelError, load
from netgain.solvers.implicit.weighted_log_norm import weighted_log_norm
from netgain.verify.constraints import constraint_rows
from netgain.verify.implicit.layer_report import WellPosedness, layer_report

torch = pytest.importorskip("torch")
from torch.nn import functional  # noqa: E402

COLOURS, CHANNELS, Q = 2, 3, 4


class Core(torch.nn.Module):
    """Convolutions around a torus, as the authors compute them."""

    def __init__(self, form, size, m, g):
        super().__init__()
        self.form, self.m, self.reach = form, m, size // 2
        self.U = torch.nn.Conv2d(COLOURS, CHANNELS, size)
        self.A = torch.nn.Conv2d(CHANNELS, CHANNELS, size, bias=False)
        self.g = torch.nn.Parameter(torch.tensor(g))
        if form == "mon":
            self.B = torch.nn.Conv2d(CHANNELS, CHANNELS, size, bias=False)
            self.h = torch.nn.Parameter(torch.tensor(-0.7))

    def around(self, x):
        return functional.pad(x, 4 * (self.reach,), mode="circular")

    def transposed(self, x, weight):
        wide = functional.conv_transpose2d(self.around(x), weight)
        inner = slice(2 * self.reach, -2 * self.reach)
        return wide[:, :, inner, inner]

    def multiply(self, z):
        A = self.A.weight / self.A.weight.norm()
        if self.form == "mon":
            B = self.h * self.B.weight / self.B.weight.norm()
            inner = functional.conv2d(self.around(z), A)
            skew = functional.conv2d(self.around(z), B) - self.transposed(z, B)
            return (1 - self.m) * z - self.g * self.transposed(inner, A) + skew
        A = self.g * A
        t = A.abs().max() * CHANNELS if self.form == "published" else A.abs().sum((1, 2, 3)).max()
        return (self.m - t) * z + functional.conv2d(self.around(z), A)

    def bias(self, u):
        return functional.conv2d(self.around(u), self.U.weight, self.U.bias)


class Net(torch.nn.Module):
    def __init__(self, form, size, image, pool, m=0.4, g=1.3):
        super().__init__()
        self.mon = torch.nn.Module()
        self.mon.linear_module = Core(form, size, m, g)
        counts = [(side + 2 * (size // 2)) // pool for side in image]
        self.Wout = torch.nn.Linear(CHANNELS * counts[0] * counts[1], Q)


def stored(form, size=3, pool=2):
    torch.manual_seed(size)
    net = Net(form, size, (5, 6), pool).double()
    shift = {"shift": "row sums"} if form == "sums" else {}
    return net, {"state_dict": net.state_dict(), "m": 0.4, "image": (5, 6), "pool": pool} | shift


@pytest.mark.parametrize("pool", [1, 2, 4])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("form", ["mon", "published", "sums"])
def test_the_network_is_the_module(form, size, pool, tmp_path):
    net, content = stored(form, size, pool)
    torch.save(content, tmp_path / "net.pt")
    graph, core, reach = load(tmp_path / "net.pt"), net.mon.linear_module, size // 2
    u = np.random.default_rng(0).standard_normal((3, COLOURS, 5, 6))
    with torch.no_grad():
        z = functional.pad(torch.randn(2, CHANNELS, 5, 6, dtype=torch.float64), 4 * (reach,))
        inner = core.multiply(z)[:, :, reach:-reach, reach:-reach].numpy().reshape(2, -1)
        bare = z[:, :, reach:-reach, reach:-reach].numpy().reshape(2, -1)
        np.testing.assert_allclose(bare @ graph.layer("fixedpoint").matrix((CHANNELS, 5, 6)).T, inner, atol=1e-12)
        try:
            values = graph.values(u)
        except ArithmeticError:
            assert form == "published"
            return
        x = functional.pad(torch.tensor(values["fixedpoint"]), 4 * (reach,))
        fed = core.multiply(x) + core.bias(functional.pad(torch.tensor(u), 4 * (reach,)))
        inside = torch.relu(fed)[:, :, reach:-reach, reach:-reach].numpy()
        np.testing.assert_allclose(values["fixedpoint"], inside, atol=1e-9)
        y = net.Wout(functional.avg_pool2d(x, pool).flatten(1))
        np.testing.assert_allclose(graph.forward(u), y.numpy(), atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_what_the_parametrisations_promise(seed, tmp_path):
    """MON: A + A^T <= 2 (1 - m) I. NEMON with sums over rows: mu_1(A) <= m, and as published not."""
    rows = {}
    for form in ("mon", "published", "sums"):
        net, content = stored(form)
        with torch.no_grad():
            torch.manual_seed(seed)
            net.mon.linear_module.A.weight.uniform_(-1, 1)
        torch.save(content, tmp_path / "net.pt")
        graph = load(tmp_path / "net.pt")
        rows[form] = graph.layer("fixedpoint").matrix((CHANNELS, 5, 6)), layer_report(constraint_rows(graph).loops[0])
    A = rows["mon"][0]
    assert np.linalg.eigvalsh(A + A.T)[-1] <= 2 * 0.6 + 1e-12
    log_norms = {form: weighted_log_norm(A, np.ones(len(A))) for form, (A, _) in rows.items()}
    assert log_norms["sums"] <= 0.4 + 1e-12
    assert log_norms["published"] > 1
    for form in ("mon", "sums"):
        assert rows[form][1].verdict is WellPosedness.PROVED


@pytest.mark.parametrize(("form", "changes", "message"), [
    ("mon", {"image": None}, "of what size the images are"),
    ("mon", {"image": (5, 0)}, "of what size the images are"),
    ("mon", {"image": (7, 6)}, "Wout.weight has the shape"),
    ("mon", {"pool": 0}, "side of the windows"),
    ("mon", {"m": None}, "`m`, which is no parameter"),
    ("sums", {"shift": "rows"}, "must be one of"),
])
def test_what_is_refused(form, changes, message, tmp_path):
    torch.save(stored(form)[1] | changes, tmp_path / "net.pt")
    with pytest.raises(ModelError, match=message):
        load(tmp_path / "net.pt")


def test_weights_that_do_not_fit(tmp_path):
    for key, value, message in (("A.weight", torch.zeros(3, 3, 3, 3), "divides by its norm"),
                                ("B.weight", torch.ones(3, 3, 5, 5), "odd k, as A.weight"),
                                ("U.weight", torch.ones(3, 2, 5, 5), "channels of the image"),
                                ("g", torch.ones(2), "expected one number")):
        _, content = stored("mon")
        content["state_dict"][f"mon.linear_module.{key}"] = value.double()
        torch.save(content, tmp_path / "net.pt")
        with pytest.raises(ModelError, match=message):
            load(tmp_path / "net.pt")


def test_options_of_convolutions_beside_other_forms(tmp_path):
    state = {"linear.U.weight": torch.ones(2, 3), "linear.U.bias": torch.ones(2), "linear.Wp": torch.zeros(2, 2),
             "Wout.weight": torch.ones(1, 2), "Wout.bias": torch.ones(1)}
    torch.save({"state_dict": state, "image": (5, 5)}, tmp_path / "net.pt")
    with pytest.raises(ModelError, match="an option of convolutions"):
        load(tmp_path / "net.pt")
