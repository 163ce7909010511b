"""A broker for login by scan: a phone confirms, and the waiting browser gets a signed token.

    app.py          composition root: creates the shared services and mounts the features
    services.py     builds the services that several features share
    operators.py    builds the authentication of operators
    context.py      settings, backends and services that a feature is mounted with
    backends.py     opens the backends that the settings name, for server and commands
    settings.py     list of the settings groups, and checks that involve two of them
    errors.py       base classes of errors

Features: values, rules, ports (protocols of storage), service, endpoints, settings, errors

    login/          one login from begin to token
    sessions/       phone sessions
    identity/       who holds the phone: providers and directories
    apps/           relying parties: sites and mini programs
    users/          registered users
    oidc/           OpenID Connect provider
    pool/           codes drawn in advance
    files/          uploads and downloads of mini programs
    tokens/         JWT issuer, signing keys, JWKS endpoint
    tunnels/        WebSockets that the broker holds for backends of apps
    wafer/          Wafer's wire for sessions and tunnels
    chat/           chat rooms
    audit/          numbers, exports and hash chain of the audit log
    admin/          page for operators, its sign-in, settings and events
    widget/         drop-in script and index page
    monitoring/     health, readiness, version and metrics endpoints

Backends: implement the ports, and are exchangeable

    state/          short-lived data: logins, sessions, leases         memory, Redis
    bus/            notices to one instance                            memory, Redis
    records/        durable data                                       SQLite, PostgreSQL
    blobs/          pictures, files                                    folder, object store
    providers/      draw codes and verify who holds the phone          pretend, WeChat
    directories/    map an identity to a subject                       open, SQL, webhook
    policies/       judge scans that may be phishing                   built-in, webhook

    infrastructure/ technical code without knowledge of any feature: transport, Redis, HTTP, crypto
    cli/            the command scan-login

A feature imports no backend, and infrastructure imports no feature; tests/contract/test_layout.py
checks every rule. docs/tour.md follows one login through these files.
"""

__version__ = "0.1.0"
