"""One part of the broker at a time. Needs nothing but Python."""
