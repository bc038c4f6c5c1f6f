"""Certified robustness of classifiers: inputs within a Euclidean ball that provably keep their class."""
