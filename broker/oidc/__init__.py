"""The OpenID Connect provider: any product signs its users in by scan."""
