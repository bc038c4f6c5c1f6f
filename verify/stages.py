r"""A network that treats every pixel alike, cut into stages at tensors through which everything passes.

Where an activation's answer v is all that what follows reads, the increments of the network satisfy, for a symmetric
matrix Q on the channels of v,

    rho |u|^2 >= sum over pixels of v^T Q v    and    sum over pixels of v^T Q v >= |y|^2,

if each of two smaller networks satisfies its half. Each half is an inequality for each frequency of a torus of its own
(`netgain.verify.channelwise`), with strides of its own: v is zero outside its image on both. One metric for all
frequencies is a restriction, so that fewer stages certify less as a rule. Not always: every stage sets v to zero
outside its image anew, on a torus that need not hold the other stages' strides and windows.

**Source:** dissipation inequalities joined by metrics on channels are those of Pauli, Gramlich, Allgoewer, arXiv
2405.01125; there a stage is a state-space system in place of its frequency response, and a residual block is one stage.
"""

from netgain.layers import FLOAT, Activation, Arithmetic, Graph, GraphBuilder, MaxPool

from .channelwise import Channelwise, ModeError, _interface, _shift_invariant, channelwise


def cuts(graph: Graph) -> tuple[str, ...]:
    """The nodes where a network can be cut, in order: activations or max poolings that all paths from the input to the
    output lead through, and after which another comes that treats every pixel alike.

    **Raises:** `ModeError` as `channelwise` does.
    """
    alike = _shift_invariant(graph)
    last = _interface(graph, alike)
    order = [node for node in graph.order if node in alike]
    furthest = {node: place for place, node in enumerate(order)}
    for node in order:
        for source in graph.inputs(node):
            furthest[source] = max(furthest[source], order.index(node))
    found, reach = [], 0
    for place, node in enumerate(order[: order.index(last)]):
        if isinstance(alike[node], Activation | MaxPool) and reach <= place:
            found.append(node)
        reach = max(reach, furthest[node])
    # What is linear alone is left to the stage before.
    nonlinear = [place for place, node in enumerate(order) if isinstance(alike[node], Activation | MaxPool)]
    return tuple(node for node in found if nonlinear and order.index(node) < nonlinear[-1])


def stages(graph: Graph, interfaces: tuple[str, ...] = (), arithmetic: Arithmetic = FLOAT, in_double: bool = False
           ) -> tuple[Channelwise, ...]:
    """The rows of every stage between these nodes, which are some of `cuts`; the last stage has the head, if there is
    one. `in_double` is that of `constraint_rows`.

    **Raises:** `ModeError` if the network has none, or cannot be cut there.
    """
    if interfaces:
        possible = cuts(graph)
        if interfaces != tuple(node for node in possible if node in interfaces):
            raise ModeError(f"{graph.name} can be cut at {', '.join(map(repr, possible)) or 'no node'}, in this order; "
                            f"got {', '.join(map(repr, interfaces))}.")
    ends = (*interfaces, graph.inputs(graph.output)[0])
    return tuple(channelwise(between(graph, start, end), arithmetic, in_double)
                 for start, end in zip((graph.input, *interfaces), ends, strict=True))


def between(graph: Graph, start: str, end: str) -> Graph:
    """The network from what `start` answers to what `end` answers, two nodes of `cuts`, the input or the output."""
    if start == graph.input and end == graph.inputs(graph.output)[0]:
        return graph
    order = graph.order
    builder = GraphBuilder()
    builder.input(graph.shape(start), start)
    for node in order[order.index(start) + 1 : order.index(end) + 1]:
        builder.add(graph.layer(node), *graph.inputs(node), name=node)
    return builder.build(end, graph.name)
