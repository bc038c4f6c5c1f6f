"""Our solvers beside other people's on trained networks."""
