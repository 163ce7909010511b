"""Encrypted secrets and private key files."""
