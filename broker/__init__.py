"""A broker for login by scan: a phone confirms, and the waiting browser gets a signed token.

    app.py          composition: creates shared services and mounts features
    context.py      what features are mounted with
    backends.py     opens backends as the settings say; the server and the commands use it
    settings.py     all settings groups, and the checks that involve two of them
    errors.py       base classes of errors

Features: values, rules, ports (protocols of storage), service, endpoints, settings, errors

    login/          one login from begin to token
    sessions/       phone sessions
    identity/       who holds the phone: providers and directories
    apps/           relying parties: sites and mini programs
    users/          registered users
    pool/           codes drawn in advance
    tokens/         JWT issuer, signing keys, JWKS endpoint
    widget/         drop-in script and index page
    monitoring/     health, readiness, version and metrics endpoints

Backends: implement the ports, and are exchangeable

    state/          short-lived data: logins, sessions, leases         memory, Redis
    bus/            notices to one instance                            memory, Redis
    records/        durable data                                       SQLite, PostgreSQL
    blobs/          pictures                                           folder, object store
    providers/      draw codes and verify who holds the phone          pretend, WeChat
    directories/    map an identity to a subject                       open, SQL, webhook

    infrastructure/ technical code without knowledge of any feature: transport, Redis, HTTP, crypto
    cli/            the command scan-login

A feature imports no backend, and infrastructure imports no feature; tests/contract/test_layout.py
checks every rule.  docs/tour.md follows one login through these files.
"""

__version__ = "0.1.0"
