"""JWTs and their signing keys."""
