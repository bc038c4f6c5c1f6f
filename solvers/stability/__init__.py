"""Stable blocks x+ = x + h s(Ax + Bu + C): projections, spectral radii and contraction rates over slope boxes."""
