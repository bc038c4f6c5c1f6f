"""Contraction of neural ODEs, proved: fields, checkers, certificates and reports."""
