"""Identities of phones: providers verify them, directories map them to subjects."""
