"""Conformance tests: each backend of a family keeps the guarantees of the family."""
