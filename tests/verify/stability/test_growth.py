"""Growth of blocks too large for all their eigenvalues: waves, windows, sparse searches, traces in double precision."""

import numpy as np
import pytest
import scipy.sparse
from netgain import layers
from netgain.layers.stable_block import Border, StableBlock
from netgain.solvers.stability.sparse_growth import sparse_frozen_growth
from netgain.solvers.stability.spectral_growth import frozen_growth, growth_of
from netgain.verify.stability import facts as sizes
from netgain.verify.stability import growth as search
from netgain.verify.stability.block_symbols import BlockSymbols
from netgain.verify.stability.claims import Claim, Kind, holds, windowed
from netgain.verify.stability.conditions import SlopeBox
from netgain.verify.stability.facts import BlockFacts
from netgain.verify.stability.spectral_witness import proved_growth, proved_wave_growth


def facts(seed, channels, taps, image, border, activation, scale=1.0):
    rng = np.random.default_rng(seed)
    kernel = scale * rng.standard_normal((channels, channels, *taps)) / np.sqrt(channels * np.prod(taps))
    kernel[(np.arange(channels), np.arange(channels), *(extent // 2 for extent in taps))] -= 1
    block = StableBlock((kernel,), (rng.standard_normal((channels, 1, *taps)),), (rng.standard_normal(channels),),
                        activation, 0.9, 4, border)
    return BlockFacts(block, (1, *image))


@pytest.fixture
def _small(monkeypatch):
    """Blocks that count as large, so that the matrices to compare with are not."""
    monkeypatch.setattr(sizes, "DENSE", 4)


def radius(case, patterns):
    """The growth of these slopes on the block written out."""
    return growth_of(case.block.matrices(case.input_shape)[0], case.box.step, patterns)


@pytest.mark.parametrize("border", list(Border))
@pytest.mark.parametrize(("taps", "image"), [((3,), (7,)), ((3, 5), (5, 6)), ((5,), (3,))])
def test_the_sparse_state_matrix_is_the_convolution(border, taps, image):
    case = facts(0, 2, taps, image, border, layers.Relu())
    if border is Border.CIRCULAR and case.wraps:
        with pytest.raises(ValueError, match="meet"):
            case.state_matrix()
        return
    assert np.array_equal(case.state_matrix().toarray(), case.block.matrices(case.input_shape)[0])


@pytest.mark.parametrize("seed", range(6))
def test_arnoldi_finds_what_all_eigenvalues_find(seed):
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((8, 8)) - np.eye(8)
    lower = (0.1, -0.2)[seed % 2]
    found = sparse_frozen_growth(scipy.sparse.csr_array(weights), 0.8, lower, 1.0, starts=12)
    assert found.value == pytest.approx(growth_of(weights, 0.8, found.slopes[None]), rel=1e-6)
    assert found.value >= frozen_growth(weights, 0.8, lower, 1.0).value * (1 - 0.1)
    jacobian = np.eye(8) + 0.8 * found.slopes[:, None] * weights
    image = jacobian @ found.vector
    assert abs(np.vdot(found.vector, image)) == pytest.approx(np.linalg.norm(image), rel=1e-5)


def test_arnoldi_ends_when_the_time_is_up():
    assert sparse_frozen_growth(-np.eye(50), 1.0, 0.1, 1.0, seconds=0.0) is None


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count", [1, 2])
def test_traces_in_double_precision_are_below_the_growth_and_close(seed, count):
    """Also for powers that would over- or underflow, and matrices far from normal."""
    rng = np.random.default_rng(seed)
    n, scale = 60, (1.0, 3e4, 1e-3, 1.0)[seed]
    weights = scale * (rng.standard_normal((n, n)) / 8 + (10 * np.triu(np.ones((n, n)), 1) if seed == 3 else 0))
    box = SlopeBox(0.7, -0.5, 1.0)
    patterns = rng.uniform(-0.5, 1.0, (count, n))
    exact, proved = growth_of(weights, box.step, patterns), proved_growth(weights, box, patterns)
    assert proved <= exact * (1 + 1e-10)
    assert proved >= exact * (1 - (0.2 if seed == 3 else 0.02))


def test_what_is_nilpotent_does_not_grow_beyond_one():
    """I + N has the spectral radius 1, however large N is; rounding of powers must not claim more."""
    weights = 100 * np.triu(np.ones((60, 60)), 1)
    assert proved_growth(weights, SlopeBox(1.0, 0.0, 1.0), np.ones((1, 60))) <= 1


@pytest.mark.parametrize("channels", [2, 25])
@pytest.mark.parametrize("count", [1, 2])
def test_growth_on_waves_is_growth_of_the_image(channels, count):
    """By eigenvalues in balls for few channels, by traces for many."""
    case = facts(1, channels, (3,), (4,), Border.CIRCULAR, layers.LeakyRelu(0.1))
    rng, symbols = np.random.default_rng(0), BlockSymbols(case)
    patterns = rng.choice((0.1, 1.0), (count, channels))
    proved = [proved_wave_growth(symbols, np.array([n]), case.box, patterns) for n in range(4)]
    exact = radius(case, np.repeat(patterns, 4, axis=1))
    assert proved[1] == pytest.approx(proved[3])
    assert max(proved) <= exact * (1 + 1e-12)
    assert max(proved) == pytest.approx(exact, rel=1e-9 if channels == 2 else 1e-2)
    zeros = facts(1, 2, (3,), (4,), Border.ZEROS, layers.Relu())
    with pytest.raises(ValueError, match="circular"):
        proved_wave_growth(BlockSymbols(zeros), np.array([1]), zeros.box, np.ones((1, 2)))
    with pytest.raises(ValueError, match="integers"):
        proved_wave_growth(symbols, np.array([1, 1]), case.box, patterns)


@pytest.mark.parametrize("border", list(Border))
def test_slopes_of_zero_around_a_window_leave_the_block_of_a_smaller_image(border):
    case = facts(2, 2, (3,), (8,), border, layers.Relu())
    within = windowed(case, (5,))
    rng = np.random.default_rng(0)
    for count in (1, 3):
        patterns = rng.choice((0.0, 1.0), (count, 10))
        image = np.zeros((count, 2, 8))
        image[:, :, 2:7] = patterns.reshape(count, 2, 5)
        assert radius(case, image.reshape(count, 16)) == pytest.approx(max(radius(within, patterns), 1), rel=1e-6)
    for other in ((0,), (9,), (2, 2)) + (((8,),) if border is Border.CIRCULAR else ()):
        assert windowed(case, other) is None
    assert windowed(facts(2, 2, (3,), (8,), border, layers.LeakyRelu(0.1)), (5,)) is None


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize(("border", "activation", "most", "has"), [
    (Border.ZEROS, layers.LeakyRelu(0.1), 2048, set()),
    (Border.ZEROS, layers.Relu(), 2048, set()),
    (Border.ZEROS, layers.Relu(), 20, {"window"}),
    (Border.CIRCULAR, layers.LeakyRelu(0.1), 20, {"frequency"}),
])
def test_large_blocks_that_grow_are_disproved(border, activation, most, has, monkeypatch):
    for module in (sizes, search):
        monkeypatch.setattr(module, "MOST", most)
    monkeypatch.setattr("netgain.verify.stability.claims.MOST", most)
    case = facts(5, 2, (3,), (12,), border, activation, 2.5)
    claim, pair = search.growth(case, [], 0, 10.0)
    assert (claim.kind, pair.kind) == (Kind.GROWTH, Kind.EXPANSION)
    assert claim.value > 1
    assert holds(claim, case)
    assert holds(pair, case)
    assert set(claim.data) == {"patterns"} | has
    assert pair.value > 1
    x, u = pair.data["starts"], np.stack([pair.data["input"]] * 2)
    first = np.linalg.norm(x[0] - x[1])
    for _ in range(pair.depth):
        x = case.block.advance(x, u)
    assert np.linalg.norm(x[0] - x[1]) / first == pytest.approx(pair.value, rel=1e-6)
    # Better than what the matrices written out can show is refused, and so are data of another form.
    patterns = claim.data["patterns"]
    assert not holds(Claim(Kind.GROWTH, claim.value * 1.02, claim.slopes, None, claim.data), case)
    for wrong in ({"patterns": patterns[:, 1:]}, {"patterns": patterns + 1}, {"frequency": np.array([0.5])},
                  {"frequency": np.array([1.0, 2.0])}, {"window": np.array([13.0])}, {"window": np.array([np.inf])}):
        assert not holds(Claim(Kind.GROWTH, claim.value, claim.slopes, None, dict(claim.data) | wrong), case)


@pytest.mark.usefixtures("_small")
def test_what_contracts_is_not_disproved():
    for border in Border:
        for activation, least in ((layers.LeakyRelu(0.3), 0.3), (layers.Relu(), 1.0)):
            case = facts(6, 2, (3,), (6,), border, activation, 0.2)
            claims = list(search.growth(case, [], 0, 5.0))
            assert [claim.kind for claim in claims] == [Kind.GROWTH]
            assert least <= claims[0].value <= 1
            assert holds(claims[0], case)
