"""Wafer's session and tunnel services, for business servers with its unmodified SDKs."""
