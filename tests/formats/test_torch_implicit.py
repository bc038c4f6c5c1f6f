"""State dicts of implicit networks: each parametrisation against modules that compute it in torch."""

import numpy as np
import pytest
from netgain.layers import ModelError, Tanh, load

torch = pytest.importorskip("torch")

N, M, Q = 5, 3, 2


def linear(inputs, outputs, bias=True):
    return torch.nn.Linear(inputs, outputs, bias=bias)


class Core(torch.nn.Module):
    """The linear module of a parametrisation; `matrix` is A as its authors state it."""

    def __init__(self, form, m, gamma):
        super().__init__()
        self.form, self.m, self.gamma = form, m, gamma
        if form == "bounded":
            self.B, self.G = linear(M, N), linear(N, Q)
        else:
            self.U = linear(M, N)
        if form == "nemon":
            self.A, self.d = linear(N, N, False), torch.nn.Parameter(torch.randn(N) / 2)
        elif form == "mon":
            self.A, self.B = linear(N, N, False), linear(N, N, False)
        elif form == "free":
            self.Wp = torch.nn.Parameter(torch.randn(N, N) / 4)
        else:
            self.V, self.S = linear(N, N, False), linear(N, N, False)
            self.psi = torch.nn.Parameter(torch.randn(N) / 2)

    def multiply(self, z):
        """A z for a batch of rows z, product by product."""
        if self.form == "nemon":
            w = torch.exp(self.d)
            return self.m * z + (z * w) @ self.A.weight.T / w - z * self.A.weight.abs().sum(1)
        if self.form == "mon":
            return (1 - self.m) * z - self.A(z) @ self.A.weight + self.B(z) - z @ self.B.weight
        if self.form == "free":
            return z @ self.Wp.T
        psi = torch.exp(self.psi)
        inner = self.V(z) @ self.V.weight + self.m * z + z @ self.S.weight - self.S(z)
        if self.form == "bounded":
            inner = inner + z @ self.G.weight.T @ self.G.weight / (2 * self.gamma)
            inner = inner + (z / psi) @ self.B.weight @ self.B.weight.T / psi / (2 * self.gamma)
        return z - psi * inner


class Net(torch.nn.Module):
    def __init__(self, form, m=0.3, gamma=2.0):
        super().__init__()
        self.mon = torch.nn.Module()
        self.mon.linear_module = Core(form, m, gamma)
        if form != "bounded":
            self.Wout = linear(N, Q)


@pytest.mark.parametrize("activation", [None, "tanh"])
@pytest.mark.parametrize("form", ["nemon", "mon", "lben", "bounded", "free"])
def test_the_network_is_the_module(form, activation, tmp_path):
    torch.manual_seed(len(form))
    net = Net(form).double()
    content = {"state_dict": net.state_dict(), "m": 0.3, "gamma": 2.0}
    torch.save(content | ({} if activation is None else {"activation": activation}), tmp_path / "net.pt")
    graph = load(tmp_path / "net.pt")
    core = net.mon.linear_module
    z = torch.randn(4, N, dtype=torch.float64)
    with torch.no_grad():
        np.testing.assert_allclose(z.numpy() @ graph.layer("fixedpoint").recurrence.weight.T, core.multiply(z).numpy(),
                                   atol=1e-12)
        u = torch.randn(4, M, dtype=torch.float64)
        fed, readout = (core.B, core.G) if form == "bounded" else (core.U, net.Wout)
        values = graph.values(u.numpy())
        x = torch.tensor(values["fixedpoint"])
        s = torch.relu if activation is None else torch.tanh
        np.testing.assert_allclose(x.numpy(), s(core.multiply(x) + fed(u)).numpy(), atol=1e-9)
        np.testing.assert_allclose(graph.forward(u.numpy()), readout(x).numpy(), atol=1e-9)
    assert isinstance(graph.layer("fixedpoint").activation, Tanh) is (activation == "tanh")


def test_a_state_dict_alone_will_do_where_nothing_is_lost(tmp_path):
    torch.manual_seed(0)
    torch.save(Net("free").state_dict(), tmp_path / "net.pth")
    assert load(tmp_path / "net.pth").shape("output") == (Q,)


@pytest.mark.parametrize(("content", "message"), [
    (lambda: Net("mon").state_dict(), "`m`, which is no parameter"),
    (lambda: {"state_dict": Net("bounded").state_dict(), "m": 1.0}, "`gamma`, which is no parameter"),
    (lambda: {"state_dict": Net("mon").state_dict(), "m": 1.0, "alpha": 2.0}, "not understood beside"),
    (lambda: {"state_dict": Net("mon").state_dict(), "m": 1.0, "activation": "unheard"}, "not known"),
    (lambda: torch.nn.Linear(2, 2).state_dict(), "no parametrisation that is known"),
    (lambda: {"state_dict": [1.0]}, "holds tensors by name"),
    (lambda: [1.0], "expected a state dict"),
    (lambda: Net("mon"), "no file of tensors alone"),
    (lambda: {key: value for key, value in Net("free").state_dict().items() if "Wout" not in key}, "no readout"),
    (lambda: {**Net("free").state_dict(), "mon.linear_module.Wp": torch.ones(N, 2)}, "expected"),
    (lambda: {**Net("free").state_dict(), "mon.linear_module.Wp": torch.full((N, N), torch.nan)}, "NaN"),
])
def test_what_is_refused(content, message, tmp_path):
    torch.save(content(), tmp_path / "net.pt")
    with pytest.raises(ModelError, match=message):
        load(tmp_path / "net.pt")


def test_files_that_are_no_archives_of_torch(tmp_path):
    (tmp_path / "net.pt").write_bytes(b"neither tensors nor a pickle")
    with pytest.raises(ModelError, match="no file of tensors alone"):
        load(tmp_path / "net.pt")
