"""Hostile and faulty clients, and what must not leak."""
