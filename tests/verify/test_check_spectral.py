"""Certificates with one multiplier per channel: against the unrolled inequality on the whole torus, and the network."""

import dataclasses
import functools
import itertools
import math

import cvxpy as cp
import numpy as np
import pytest
from flint import arb
from netgain.layers import (
    Add,
    Affine,
    AveragePool,
    BatchNormalization,
    Convolution,
    Flatten,
    Graph,
    GraphBuilder,
    LeakyRelu,
    MaxPool,
    Relu,
    sequential,
)
from netgain.layers.shift_invariant import Kernel
from netgain.verify import Certificate, Outcome, check, load_certificate
from netgain.verify.assembly import matrix_in_balls, matrix_in_double
from netgain.verify.balls import BALLS, precision
from netgain.verify.channelwise import Channelwise, Head, ModeError, channelwise
from netgain.verify.check_spectral import Part, SpectralChecker, Twiddles, _head_terms, _terms, frequencies, split
from netgain.verify.constraints import constraint_rows
from netgain.verify.mode import Mode
from netgain.verify.stages import cuts, stages

from .image_networks import random_network

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))


def residual(before: int = 0) -> Graph:
    """A convolution, so many activations each with a convolution, and a residual block."""
    builder = GraphBuilder()
    start = builder.add(Convolution(normal(2, 1, 3), padding=((1,), (1,))), builder.input((1, 4)))
    for _ in range(before):
        start = builder.add(Convolution(normal(2, 2, 3), padding=((1,), (1,))), builder.add(Relu(), start))
    inner = builder.add(Relu(), builder.add(Convolution(normal(2, 2, 3), padding=((1,), (1,))), start))
    total = builder.add(Add((1, 1)), builder.add(Convolution(normal(2, 2, 2), padding=((0,), (1,))), inner), start)
    return builder.build(builder.add(Relu(), total), "residual")


SAME = ((1,), (1,))
NETWORKS = {
    "plain": sequential((1, 5), [Convolution(normal(2, 1, 3), padding=SAME), Relu(),
                                 Convolution(normal(1, 2, 3), padding=SAME)]),
    "plane": sequential((1, 2, 2), [Convolution(normal(2, 1, 2, 2), padding=((0, 1), (1, 0))), LeakyRelu(-0.5),
                                    Convolution(normal(1, 2, 2, 2))]),
    "strided": sequential((1, 6), [Convolution(normal(2, 1, 3), strides=(2,), padding=SAME), LeakyRelu(0.2),
                                   Convolution(normal(2, 2, 2))]),
    "masked": sequential((1, 4), [Convolution(normal(2, 1, 3), padding=SAME),
                                  AveragePool((3,), (1,), padding=SAME, count_include_pad=True), Relu()]),
    "max pooling": sequential((1, 6), [Convolution(normal(1, 1, 3)), MaxPool((2,), (2,)), Relu()]),
    "residual": residual(),
    "head": sequential((1, 5), [Convolution(normal(2, 1, 3), padding=SAME), Relu(), AveragePool((2,), (2,)), Flatten(),
                                Affine(normal(3, 4)), Relu(), Affine(normal(2, 3))]),
    "normalised": sequential((2, 4), [BatchNormalization(*RNG.uniform(0.5, 2, (4, 2)), trailing=1),
                                      Convolution(normal(2, 2, 2), dilations=(3,), padding=((2,), (1,))), Relu(),
                                      Flatten(), Affine(normal(3, 8)), Relu()]),
    "two stages": residual(1),
    "strides in stages": sequential((1, 8), [Convolution(normal(2, 1, 3), strides=(2,), padding=SAME), LeakyRelu(-0.3),
                                             Convolution(normal(2, 2, 3), padding=SAME), LeakyRelu(0.1),
                                             Convolution(normal(3, 2, 2), strides=(2,)), Relu(),
                                             Convolution(normal(1, 3, 2))]),
    "stages and a head": sequential((1, 6), [Convolution(normal(2, 1, 3), padding=SAME), MaxPool((2,), (2,)),
                                             Convolution(normal(2, 2, 3), padding=SAME), Relu(), Flatten(),
                                             Affine(normal(3, 6)), Relu(), Affine(normal(2, 3))]),
}
INTERFACES = {"two stages": ("relu",), "strides in stages": ("leakyrelu", "leakyrelu_2"),
              "stages and a head": ("maxpool",)}
each = pytest.mark.parametrize("name", NETWORKS)


def unrolled(kernel: Kernel, cells: tuple[int, ...]) -> np.ndarray:
    """The circular map on all cells, entries ordered by component, then cell."""
    count, result = math.prod(cells), 0.0
    places = np.stack(np.unravel_index(np.arange(count), cells), axis=-1)
    for shift, coefficient in zip(kernel.shifts, kernel.coefficients, strict=True):
        read = np.ravel_multi_index(tuple(np.mod(places + shift, cells).T), cells)
        result = result + np.kron(coefficient, np.eye(count)[read])
    return result


@dataclasses.dataclass(frozen=True)
class Unrolled:
    """An inequality as matrices: M = rho S + sum_k lam_k T_k - C^T W C, T_k for the multipliers of each layer."""

    size: int
    start: int
    terms: list[list[np.ndarray]]
    output: np.ndarray

    @staticmethod
    def of(size: int, layers: list, output: dict) -> "Unrolled":
        """`layers`: (maps, lower, upper, kept, group of each row)."""
        sizes = [size, *(len(kept) for _, _, _, kept, _ in layers)]
        starts, terms = np.cumsum([0, *sizes]), []
        whole = np.eye(starts[-1])

        def joined(maps: dict) -> np.ndarray:
            return sum(a @ whole[starts[j] : starts[j + 1]] for j, a in maps.items())

        for k, (maps, lower, upper, kept, group) in enumerate(layers, 1):
            v, z = joined(maps), np.zeros((len(lower), starts[-1]))
            z[kept] = whole[starts[k] : starts[k + 1]]
            p, q = z - lower[:, None] * v, z - upper[:, None] * v
            terms.append([p[group == g].T @ q[group == g] + q[group == g].T @ p[group == g]
                          for g in range(group.max() + 1)])
        return Unrolled(int(starts[-1]), size, terms, joined(output))


def on_torus(model: Channelwise) -> Unrolled:
    cells, count = model.cells, math.prod(model.cells)
    layers = []
    for rows in model.constraints:
        kept = np.arange(len(rows.lower)) if rows.kept is None else rows.kept
        every = (kept[:, None] * count + np.arange(count)).ravel()
        layers.append(({j: unrolled(kernel, cells) for j, kernel in rows.maps.items()}, np.repeat(rows.lower, count),
                       np.repeat(rows.upper, count), every, np.repeat(rows.channel, count)))
    return Unrolled.of(model.input_size * count, layers, {j: unrolled(c, cells) for j, c in model.output.items()})


def of_head(head: Head) -> Unrolled:
    rows = head.rows
    layers = [(r.maps, r.lower, r.upper, np.arange(r.size), np.arange(len(r.lower)) // r.coupled)
              for r in rows.activations]
    return Unrolled.of(rows.input_size, layers, rows.output)


def models_of(name: str, *arithmetic: object) -> tuple[Channelwise, ...]:
    return stages(NETWORKS[name], INTERFACES.get(name, ()), *arithmetic)


def places(name: str) -> tuple[int, ...]:
    return tuple(NETWORKS[name].order.index(node) for node in INTERFACES.get(name, ()))


def checker_of(name: str) -> SpectralChecker:
    return SpectralChecker(NETWORKS[name], places(name))


def unrolled_parts(models: tuple[Channelwise, ...]) -> list[Unrolled]:
    return [*map(on_torus, models), *([of_head(models[-1].head)] if models[-1].head else [])]


def matrix(part: Unrolled, start: np.ndarray, metric: np.ndarray, multipliers: list) -> np.ndarray:
    first = np.eye(part.start, part.size)
    terms = itertools.chain.from_iterable(part.terms)
    lam = np.concatenate([np.zeros(0), *multipliers])
    return (first.T @ start @ first - part.output.T @ metric @ part.output
            + sum(factor * term for factor, term in zip(lam, terms, strict=True)))


@functools.cache
def optimum(name: str) -> Certificate:
    """The optimum over multipliers and metric, of the unrolled inequality and by another solver; no exponents."""
    checker = checker_of(name)
    parts = unrolled_parts(models_of(name))
    rho = cp.Variable()
    lam = [[cp.Variable(len(terms), nonneg=True) for terms in part.terms] for part in parts]
    metrics = [cp.Variable((n, n), symmetric=True) for n in checker.metrics]
    sides = []
    for index, part in enumerate(parts):
        first, c = np.eye(part.start, part.size), part.output
        side = sum(x[g] * t for x, terms in zip(lam[index], part.terms, strict=True) for g, t in enumerate(terms))
        if index == 0:
            side = side + rho * (first.T @ first)
        else:
            before = metrics[index - 1]
            side = side + first.T @ cp.kron(before, np.eye(part.start // before.shape[0])) @ first
        if index < len(metrics):
            after = metrics[index]
            side = side - c.T @ cp.kron(after, np.eye(len(c) // after.shape[0])) @ c
        else:
            side = side - c.T @ c
        sides.append((side + side.T) / 2 >> 0)
    cp.Problem(cp.Minimize(rho), sides).solve(solver=cp.CLARABEL)
    multipliers = tuple(np.maximum(x.value, 0) for group in lam for x in group)
    return Certificate(float(np.sqrt(rho.value)), NETWORKS[name].digest, multipliers, (0,) * checker.blocks, 0,
                       "Clarabel", mode=Mode.SPECTRAL, metrics=tuple((q.value + q.value.T) / 2 for q in metrics),
                       interfaces=places(name))


@functools.cache
def near_optimum(name: str) -> Certificate:
    """A step of 1e-5 from the optimum to multipliers that are strictly feasible: M is affine in all, and in rho."""
    best, safe, share = optimum(name), feasible(NETWORKS[name], places(name)), 1e-5
    value = math.sqrt((1 - share) * best.value**2 + share * 1.5 * safe.value**2)

    def mixed(left: tuple, right: tuple) -> tuple:
        return tuple((1 - share) * a + share * b for a, b in zip(left, right, strict=True))

    return dataclasses.replace(best, value=value, multipliers=mixed(best.multipliers, safe.multipliers),
                               metrics=mixed(best.metrics, safe.metrics))


def least_proved(name: str) -> Certificate:
    """These multipliers with the least value that is proved."""
    given = near_optimum(name)
    low, high = given.value * 0.9, given.value
    assert check(given, NETWORKS[name], balls=False).proved
    for _ in range(40):
        middle = (low + high) / 2
        proved = check(dataclasses.replace(given, value=middle), NETWORKS[name], balls=False).proved
        low, high = (low, middle) if proved else (middle, high)
    return dataclasses.replace(given, value=high)


def outcome(name: str, given: Certificate, **changes: object) -> Outcome:
    return check(dataclasses.replace(given, **changes), NETWORKS[name]).outcome


@each
def test_the_optimum_is_proved_and_nothing_below_it(name: str) -> None:
    best, given = optimum(name), near_optimum(name)
    verdict = check(given, NETWORKS[name])
    assert verdict.proved
    assert verdict.arithmetic == "double"
    assert given.value <= best.value * 1.001
    for factor in (1 - 1e-6, 0.9, 1e-9, 0.0):
        for other in (best, given):
            assert outcome(name, other, value=best.value * factor) is Outcome.NOT_PROVED


@each
def test_it_survives_the_file(name: str, tmp_path) -> None:
    given = near_optimum(name)
    given.save(tmp_path / "c.json")
    assert check(load_certificate(tmp_path / "c.json"), NETWORKS[name]).proved
    assert outcome(name, given, digest="0" * 64) is Outcome.OTHER_MODEL


def randomised(name: str, rng: np.random.Generator) -> Certificate:
    """A certificate of the right shape, in arbitrary units."""
    checker = checker_of(name)
    metrics = tuple(root @ root.T for root in (rng.standard_normal((n, n)) for n in checker.metrics))
    return Certificate(rng.uniform(0.5, 2), NETWORKS[name].digest,
                       tuple(rng.uniform(0.1, 2, n) for n in checker.multipliers),
                       tuple(map(int, rng.integers(-3, 4, checker.blocks))), int(rng.integers(-3, 4)), "random",
                       mode=Mode.SPECTRAL, metrics=metrics, interfaces=places(name))


def of_blocks(blocks: dict, count: int) -> np.ndarray:
    sizes = [blocks[k, k].shape[-1] for k in range(count)]
    shape = np.broadcast_shapes(*(block.shape[:-2] for block in blocks.values()))
    rows = [[blocks[i, j] if (i, j) in blocks else np.zeros((*shape, sizes[i], sizes[j])) for j in range(count)]
            for i in range(count)]
    lower = np.concatenate([np.concatenate([np.broadcast_to(b, (*shape, *b.shape[-2:])) for b in row], axis=-1)
                            for row in rows], axis=-2)
    return np.tril(lower) + np.tril(lower, -1).swapaxes(-1, -2)


@each
def test_the_spectrum_is_that_of_the_unrolled_inequality(name: str) -> None:
    given, models, checker = randomised(name, np.random.default_rng(1)), models_of(name), checker_of(name)
    with precision(128):
        exact = models_of(name, BALLS)
    shares = split(given, models)
    for unrolled_part, share, model, balls, own in zip(unrolled_parts(models), shares, models, exact, checker.stages,
                                                       strict=False):
        part, count = unrolled_part, math.prod(model.cells)
        whole = in_units(part, share, np.array(model.sizes) * count)
        n = frequencies(model.cells)
        terms = _terms(share, own.enclosed, functools.partial(own.twiddles.symbols, n=n))
        middle, radius = matrix_in_double(terms)
        stack = {key: np.broadcast_to(b, (len(n), *b.shape[-2:])) for key, b in middle.items()}
        spectra = np.linalg.eigvalsh(of_blocks(stack, len(model.sizes)))
        alone = np.all(np.mod(-n, model.cells) == n, axis=1)  # these come once, the others with their opposite
        found = np.sort(np.concatenate([spectra[alone, ::2].ravel(), spectra[~alone].ravel()]))
        np.testing.assert_allclose(found, np.linalg.eigvalsh(whole), atol=1e-9 * np.abs(whole).max())
        for index in {0, len(n) - 1}:
            with precision(128):
                one = functools.partial(own.twiddles.symbol_in_balls, n=n[index])
                for key, exactly in matrix_in_balls(_terms(share, balls, one)).items():
                    low = np.array([[float(b.mid()) for b in row] for row in exactly.tolist()])
                    error = np.broadcast_to(radius[key], stack[key].shape)[index]
                    difference = np.abs(low - stack[key][index])
                    difference = np.tril(difference) if key[0] == key[1] else difference
                    assert np.all(difference <= error * (1 + 1e-9) + 1e-30)
                    assert np.all(error <= 1e-12 * (1 + np.abs(stack[key]).max()))
    if head := models[-1].head:
        expected = in_units(of_head(head), shares[-1], np.array(head.rows.sizes))
        middle, _ = matrix_in_double(_head_terms(shares[-1], head))
        np.testing.assert_allclose(of_blocks(middle, len(head.rows.sizes)), expected, atol=1e-10)


def in_units(part: Unrolled, share: Part, sizes: np.ndarray) -> np.ndarray:
    """The unrolled matrix, in the coordinates of the network, and then scaled."""
    e, o = share.exponents, share.output_exponent
    units = np.repeat(2.0 ** np.array(e), sizes)
    if isinstance(share.start, tuple):
        start = math.ldexp(share.start[0], share.start[1] - e[0]) ** 2 * np.eye(part.start)
    else:
        start = np.kron(share.start, np.eye(part.start // len(share.start))) / 4.0 ** e[0]
    metric = np.eye(len(part.output))
    if share.metric is not None:
        metric = np.kron(share.metric, np.eye(len(part.output) // len(share.metric)))
    multipliers = [lam / 4.0 ** e[k] for k, lam in enumerate(share.multipliers, 1)]
    return units[:, None] * matrix(part, start, metric / 4.0**o, multipliers) * units


@pytest.mark.parametrize("cells", [(1,), (2,), (7,), (8,), (1, 1), (4, 6), (5, 3), (2, 3, 4)])
def test_every_frequency_or_its_opposite_is_there_once(cells: tuple[int, ...]) -> None:
    kept = {tuple(n) for n in frequencies(cells).tolist()}
    assert len(kept) == len(frequencies(cells))
    for n in itertools.product(*map(range, cells)):
        opposite = tuple(-i % size for i, size in zip(n, cells, strict=True))
        assert (n in kept) + (opposite in kept) == (2 if n == opposite else 1)


@pytest.mark.parametrize("cells", [(1,), (12,), (4, 6), (3, 5, 2)])
def test_symbols_enclose_the_sums_of_exponentials(cells: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    shifts = np.unique(rng.integers(-20, 20, (6, len(cells))), axis=0)
    kernel, n, twiddles = Kernel(shifts, rng.standard_normal((len(shifts), 2, 3))), frequencies(cells), Twiddles(cells)
    found = twiddles.symbols(kernel, n)
    for index, one in enumerate(n):
        with precision(128):
            balls = [sum((arb(float(c)) * arb.cos_pi(2 * sum(arb(int(a)) * int(s) / int(m) for a, s, m in
                                                             zip(one, shift, cells, strict=True)))
                          for shift, c in zip(shifts, kernel.coefficients[:, i, j], strict=True)), arb(0))
                     for i in range(2) for j in range(3)]
        exact = np.exp(2j * np.pi * (shifts / np.array(cells)) @ one)
        symbol = np.tensordot(exact, kernel.coefficients, axes=(0, 0))
        expected = np.block([[symbol.real, -symbol.imag], [symbol.imag, symbol.real]])
        np.testing.assert_allclose(found.mid[index], expected, atol=1e-13)
        real = np.array([float(b.mid()) for b in balls]).reshape((2, 3))
        assert np.all(np.abs(found.mid[index, :2, :3] - real) <= found.rad[index, :2, :3])
    assert found.rad.max() < 1e-13


@each
def test_numbers_that_do_not_fit_are_malformed(name: str) -> None:
    given = optimum(name)
    arrays = given.multipliers
    others = [arrays[:-1], (*arrays, np.ones(1)), *((*arrays[:k], other, *arrays[k + 1 :]) for k in range(len(arrays))
              for other in (-arrays[k] - 1, np.append(arrays[k], 1.0), arrays[k][:, None], arrays[k] * math.nan,
                            arrays[k] + math.inf, arrays[k].astype(np.float32)))]
    for multipliers in others:
        assert outcome(name, given, multipliers=multipliers) is Outcome.MALFORMED
    size = given.metrics[0] if given.metrics else np.eye(2)
    tilted = size + np.triu(np.full(size.shape, 1e-15), 1)
    bad = [(np.eye(len(size) + 1),), (size, size), (size[0],), (size * math.nan,), (size[None],), (tilted,)]
    for metrics in [*((*other, *given.metrics[1:]) for other in bad), () if given.metrics else (size,)]:
        assert outcome(name, given, metrics=metrics) is Outcome.MALFORMED
    nodes = tuple(range(-1, len(NETWORKS[name].order) + 1))
    for interfaces in [*((node,) for node in nodes), given.interfaces[::-1], given.interfaces * 2, nodes]:
        if interfaces != given.interfaces:
            assert outcome(name, given, interfaces=interfaces) is Outcome.MALFORMED
    for exponents in (given.exponents[:-1], (*given.exponents, 0), (2**20 + 1, *given.exponents[1:])):
        assert outcome(name, given, exponents=exponents) is Outcome.MALFORMED
    assert outcome(name, given, mode=Mode.ROESSER) is Outcome.MALFORMED


def test_a_perceptron_has_no_channels() -> None:
    graph = sequential((2,), [Affine(np.eye(2)), Relu(), Affine(np.eye(2))])
    given = Certificate(9.0, graph.digest, (np.ones(2),), (0, 0), 0, "", mode=Mode.SPECTRAL)
    assert check(given, graph).outcome is Outcome.MALFORMED


@each
def test_tampering_with_a_tight_proof_is_seen(name: str) -> None:
    tight = least_proved(name)
    for k, array in enumerate(tight.multipliers):
        position = int(np.argmax(array))
        for factor in (0.0, 0.9, 1.1):
            other = array.copy()
            other[position] *= factor
            multipliers = (*tight.multipliers[:k], other, *tight.multipliers[k + 1 :])
            assert outcome(name, tight, multipliers=multipliers) is Outcome.NOT_PROVED
    for k, metric in enumerate(tight.metrics):
        for factor in (0.9, 1.1, -1.0):
            metrics = (*tight.metrics[:k], factor * metric, *tight.metrics[k + 1 :])
            assert outcome(name, tight, metrics=metrics) is Outcome.NOT_PROVED
    for k in range(1, len(tight.exponents)):  # that of the input is a unit and no more
        exponents = tuple(e + (j == k) for j, e in enumerate(tight.exponents))
        assert outcome(name, tight, exponents=exponents) is Outcome.NOT_PROVED
    assert outcome(name, tight, output_exponent=1) is Outcome.NOT_PROVED


@each
def test_other_units_prove_the_same(name: str) -> None:
    tight, models = least_proved(name), models_of(name)
    moves = tuple(int(m) for m in np.random.default_rng(3).integers(-5, 6, len(tight.exponents)))
    shares = split(dataclasses.replace(tight, exponents=moves), models)
    powers = [4.0**move for share in shares for move in share.exponents[1:]]
    moved = dataclasses.replace(
        tight, exponents=moves, value=tight.value * (1 + 1e-9),
        multipliers=tuple(p * lam for p, lam in zip(powers, tight.multipliers, strict=True)),
        metrics=tuple(q * 4.0 ** share.exponents[0] for q, share in zip(tight.metrics, shares[1:], strict=True)))
    assert check(moved, NETWORKS[name]).proved
    assert not check(dataclasses.replace(moved, value=tight.value * (1 - 1e-6)), NETWORKS[name]).proved


@pytest.mark.parametrize("peak", range(5))
def test_one_violated_frequency_is_enough(peak: int) -> None:
    """y = sum_s cos(2 pi peak s / 9) x(q + s) over the whole torus of 9 cells amplifies one frequency alone."""
    weight = np.cos(2 * np.pi * peak * np.arange(-4, 5) / 9)
    graph = sequential((1, 5), [Convolution(weight[None, None], padding=((4,), (4,)))])
    assert channelwise(graph).cells == (9,)
    gain = 9.0 if peak == 0 else 4.5
    for factor, proved in ((1 + 1e-9, True), (1 - 1e-9, False)):
        given = Certificate(gain * factor, graph.digest, (), (0,), 0, "", mode=Mode.SPECTRAL)
        assert check(given, graph).proved == proved


def test_balls_decide_what_double_precision_leaves_open() -> None:
    graph = sequential((1, 4), [Convolution(np.array([[[1.0, 0.0, 0.0]]]), padding=((1,), (1,)))])
    given = Certificate(math.nextafter(1.0, 2.0), graph.digest, (), (0,), 0, "", mode=Mode.SPECTRAL)
    verdict = check(given, graph)
    assert verdict.proved
    assert verdict.arithmetic.endswith("bits")
    assert not check(given, graph, balls=False).proved
    assert not check(dataclasses.replace(given, value=math.nextafter(1.0, 0.0)), graph).proved
    # Asked first, balls take nothing for decided.
    assert not SpectralChecker(graph).proved_in_balls(dataclasses.replace(given, value=0.5))


def test_a_constant_map_may_claim_anything() -> None:
    graph = sequential((1, 4), [Convolution(np.zeros((1, 1, 2)))])
    for value in (0.0, 1.0):
        assert check(Certificate(value, graph.digest, (), (0,), 0, "", mode=Mode.SPECTRAL), graph).proved


def feasible(graph: Graph, interfaces: tuple[int, ...] = ()) -> Certificate | None:
    """Multipliers from the last layer to the first, each as large as what follows needs, and the least value proved."""
    try:
        checker = SpectralChecker(graph, interfaces)
    except ModeError:
        return None
    multipliers, metrics = [np.zeros(size) for size in checker.multipliers], [np.zeros((n, n)) for n in checker.metrics]

    def given(value: float) -> Certificate:
        return Certificate(value, graph.digest, tuple(multipliers), (0,) * checker.blocks, 0, "", mode=Mode.SPECTRAL,
                           metrics=tuple(metrics), interfaces=interfaces)

    def needed(terms, sizes, last) -> float:
        """What block `last` lacks, given all blocks after it."""
        middle, _ = matrix_in_double(terms)
        stack = of_blocks(middle, len(sizes))
        cut = int(np.sum(sizes[:last]))
        rest, own = int(np.sum(sizes[: last + 1])), slice(cut, int(np.sum(sizes[: last + 1])))
        schur = stack[..., own, own] - stack[..., own, rest:] @ np.linalg.solve(
            stack[..., rest:, rest:], stack[..., rest:, own])
        return 1.2 * max(0.0, -float(np.linalg.eigvalsh(schur).min())) + 1e-6

    parts = len(checker.stages) + (checker.head is not None)
    first = np.cumsum([0, *(len(share.multipliers) for share in split(given(0.0), checker.models))])
    for index in range(parts - 1, -1, -1):
        is_head = index == len(checker.stages)
        sizes = checker.head.rows.sizes if is_head else [2 * size for size in checker.stages[index].model.sizes]
        for k in range(len(sizes) - 1, -1, -1):
            share = split(given(0.0), checker.models)[index]
            if is_head:
                lack = needed(_head_terms(share, checker.head), sizes, k)
            else:
                own = checker.stages[index]
                n = frequencies(own.model.cells)
                symbol = functools.partial(own.twiddles.symbols, n=n)
                lack = needed(_terms(share, own.enclosed, symbol), sizes, k)
            if k:
                multipliers[first[index] + k - 1][:] = lack / 2
            elif index:
                metrics[index - 1][:] = lack * np.eye(len(metrics[index - 1]))
    return given(math.sqrt(lack))


def drawn_interfaces(graph: Graph, rng: np.random.Generator) -> tuple[int, ...]:
    try:
        return tuple(graph.order.index(node) for node in cuts(graph) if rng.random() < 0.5)
    except ModeError:
        return ()


@pytest.mark.parametrize("batch", range(4))
def test_no_slopes_and_no_inputs_exceed_what_is_proved(batch: int) -> None:
    rng, proved = np.random.default_rng(batch), 0
    for seed in range(12 * batch, 12 * batch + 12):
        graph = random_network(seed)
        given = feasible(graph, drawn_interfaces(graph, rng))
        if given is None or not check(given, graph, balls=False).proved:
            continue
        proved += 1
        rows = constraint_rows(graph)
        x = rng.standard_normal((50, *graph.shape(graph.input)))
        y = x + rng.standard_normal(x.shape) * 10.0 ** rng.uniform(-3, 1, (50, *(1,) * (x.ndim - 1)))
        moved, change = ((a - b).reshape((50, -1)) for a, b in ((x, y), (graph.forward(x), graph.forward(y))))
        assert np.all(np.linalg.norm(change, axis=1) <= given.value * np.linalg.norm(moved, axis=1) * (1 + 1e-9))
        if any(layer.coupled > 1 for layer in rows.activations):
            continue
        for _ in range(5):
            blocks = [np.eye(rows.input_size)]
            for layer in rows.activations:
                slope = np.where(rng.random(len(layer.lower)) < 0.5, layer.lower, layer.upper)
                blocks.append(slope[:, None] * sum(a @ blocks[j] for j, a in layer.maps.items()))
            norm = np.linalg.norm(sum(c @ blocks[j] for j, c in rows.output.items()), 2)
            assert norm <= given.value * (1 + 1e-12)
    assert proved > 4
