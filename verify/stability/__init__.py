"""Stable non-autonomous blocks, proved: conditions, contraction and gains."""
