"""Technical code without knowledge of any feature."""
