"""Implicit networks x = s(Ax + Bu + b): well-posedness, fixed points and Lipschitz constants."""
