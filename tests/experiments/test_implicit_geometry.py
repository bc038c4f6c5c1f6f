"""Kernels as matrices: what convolutions of torch do to images, and what the parametrisations promise of them."""

import numpy as np
import pytest
from netgain.solvers.implicit.weighted_log_norm import least_log_norm, weighted_log_norm

torch = pytest.importorskip("torch")
from netgain.experiments.training.implicit_geometry import Convolutional  # noqa: E402
from netgain.experiments.training.implicit_layer import ImplicitClassifier  # noqa: E402
from netgain.experiments.training.implicit_recipe import Method  # noqa: E402
from torch.nn.functional import conv2d  # noqa: E402


@pytest.mark.parametrize(("side", "stride", "kernel"), [(8, 4, 3), (7, 2, 3), (5, 1, 5), (6, 3, 1)])
def test_matrices_are_convolutions(side, stride, kernel):
    geometry, generator = Convolutional(side**2, 3, kernel, stride), torch.Generator().manual_seed(side)
    T = torch.randn(*geometry.square, generator=generator, dtype=torch.float64)
    B = torch.randn(*geometry.injection, generator=generator, dtype=torch.float64)
    x = torch.randn(2, 3, geometry.pixels, geometry.pixels, generator=generator, dtype=torch.float64)
    expected = conv2d(x, T, padding=kernel // 2).flatten(1)
    assert torch.allclose(x.flatten(1) @ geometry.squared(T).T, expected, atol=1e-12)
    u = torch.randn(2, 1, side, side, generator=generator, dtype=torch.float64)
    wide = B.shape[-1]
    padding = (wide - stride) // 2
    # Zeros enough behind the image, of which the last windows may read some.
    fed = conv2d(torch.nn.functional.pad(u, (padding, wide, padding, wide)), B, stride=stride)
    expected = fed[:, :, : geometry.pixels, : geometry.pixels].flatten(1)
    assert torch.allclose(u.flatten(1) @ geometry.injected(B).T, expected, atol=1e-12)
    assert geometry.neurons == 3 * geometry.pixels**2 == len(geometry.spread(torch.arange(3)))
    sums = geometry.squared(T).abs().sum(1)
    assert torch.all(geometry.row_sums(T) >= sums - 1e-12)
    if geometry.pixels >= kernel:
        assert torch.allclose(geometry.row_sums(T).amax(), sums.amax())


@pytest.mark.parametrize("seed", range(3))
def test_the_promises_hold_for_convolutions(seed):
    geometry = Convolutional(64, 2, 3, 2)

    def classifier(method, level):
        generator = torch.Generator().manual_seed(seed)
        network = ImplicitClassifier(method, 64, 0, 3, level, generator, geometry).double()
        with torch.no_grad():
            network.d.copy_(0.3 * torch.randn(2, generator=generator))
        return network

    nemon = classifier(Method.NEMON, 0.3)
    A = nemon.matrix().detach().numpy()
    eta = geometry.spread(torch.exp(-nemon.d)).detach().numpy()
    assert weighted_log_norm(A, eta) <= 0.3 + 1e-9
    assert least_log_norm(A).value <= 0.3 + 1e-9
    monotone = np.eye(32) - classifier(Method.MON, 0.7).matrix().detach().numpy()
    assert np.linalg.eigvalsh(monotone + monotone.T)[0] >= 1.4 - 1e-9


def test_images_that_are_not_square():
    with pytest.raises(ValueError, match="square images"):
        Convolutional(12, 2, 3, 2)
