"""Relying parties: sites and mini programs."""
