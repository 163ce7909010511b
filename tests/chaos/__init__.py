"""Faults under load: no login that a phone has confirmed may be lost."""
