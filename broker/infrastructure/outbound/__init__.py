"""Requests to other servers: HTTP client, circuit breaker, SSRF protection."""
