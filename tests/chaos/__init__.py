"""Faults under load: nothing that a phone was told is confirmed may be lost."""
