"""Tests of hostile and faulty clients, and of secrets that must not leak."""
