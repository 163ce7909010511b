"""Rules for the code, the docs and the interface descriptions. Needs nothing but Python."""
