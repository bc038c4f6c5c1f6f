"""Implicit networks, proved: well-posedness, enclosures of fixed points, Lipschitz constants."""
