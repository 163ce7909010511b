"""Codes drawn in advance."""
