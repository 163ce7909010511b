"""The audit log: entries, their numbers and hash chain, and their export."""
