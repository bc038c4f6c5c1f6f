"""The residual network of explicit Euler steps u <- u + h f(u), in which every step repeats the field's layers."""

from netgain.layers import Add, Graph, GraphBuilder, Input, ModelError, Output, Scale


def euler_network(field: Graph, duration: float, steps: int) -> Graph:
    """`steps` Euler steps of length h = duration / steps, as a network from u(0) to u(duration).

    h enters as that quotient, which need not be a float64 number: what is proved holds for the exact one.

    **Raises:** `ValueError` for a duration or a number of steps that is not positive; `ModelError` if the field does
    not give as many numbers as it takes.
    """
    if not duration > 0 or steps < 1:
        raise ValueError(f"`duration` and `steps` must be positive, got {duration!r} and {steps!r}.")
    shapes = [field.shape(node) for node in (field.input, field.output)]
    if shapes[0] != shapes[1]:
        raise ModelError(f"{field.name} takes the shape {shapes[0]} and gives {shapes[1]}; u' = f(u) needs the same.")
    builder = GraphBuilder()
    state = builder.input(shapes[0], name="u")
    for step in range(1, steps + 1):
        names = {field.input: state}
        for node in field.order[1:]:
            layer = field.layer(node)
            inputs = [names[name] for name in field.inputs(node)]
            if isinstance(layer, Input | Output):
                names[node] = inputs[0]
                continue
            names[node] = builder.add(layer, *inputs, name=f"{node}@{step}")
        slope = builder.add(Scale(float(duration), float(steps)), names[field.output], name=f"h f@{step}")
        state = builder.add(Add((1, 1)), state, slope, name=f"u@{step}")
    return builder.build(state, f"{field.name}, {steps} Euler steps")
