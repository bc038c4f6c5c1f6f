"""Contraction of neural ODEs: logarithmic norms over slope intervals, from below, exactly, and from above."""
