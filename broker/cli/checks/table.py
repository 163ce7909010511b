"""All checks of `scan-login doctor`, in their order."""

from __future__ import annotations

from collections.abc import Sequence

from broker.cli.checks import (
    discovery,
    files,
    keys,
    owners,
    provider,
    public_url,
    records,
    settings,
    state,
    webhooks,
)
from broker.cli.checks.model import Check
from broker.infrastructure.settings_sources import PREFIX

VALUES = "settings: values"
ANSWER = "public URL: answer"
WEBSOCKET = "public URL: WebSocket"
STATE = "state: round trip"
TABLES = "records: tables"
SEAL_KEYS = "records: seal keys"
KEY_FILE = "keys: file"
PROVIDER = "provider: code"
ISSUER = "discovery: issuer"

CLOCK_FIX = "run chrony or systemd-timesyncd on both machines"

PROVIDER_FIX = "correct the account of the app; see docs/wechat.md"

PROXY_FIX = (
    f"set {PREFIX}TRUSTED_PROXIES to the address from which the proxy connects to the broker, "
    "and let the proxy set X-Forwarded-For"
)

CHECKS: Sequence[Check] = (
    Check(VALUES, settings.check_values, "correct these settings; docs/settings.md lists all"),
    Check("settings: names", settings.check_names, "correct or remove these names"),
    Check(
        "settings: pretend",
        settings.check_pretend,
        f"set {PREFIX}PROVIDER=wechat, unless this is a trial in a network that you trust",
        (VALUES,),
    ),
    Check("settings: trusted proxies", settings.check_trusted_proxies, PROXY_FIX, (VALUES,)),
    Check(
        "public URL: name",
        public_url.check_name,
        f"add a DNS record for the name, or correct {PREFIX}PUBLIC_URL",
        (VALUES,),
    ),
    Check(
        ANSWER,
        public_url.check_answer,
        "start the broker and the proxy, open the port in the firewall, or correct "
        f"{PREFIX}PUBLIC_URL",
        ("public URL: name",),
    ),
    Check(
        "public URL: certificate",
        public_url.check_certificate,
        "renew the certificate, and serve it with its chain (fullchain.pem)",
        ("public URL: name",),
    ),
    Check(
        WEBSOCKET,
        public_url.check_websocket,
        "let the proxy pass Upgrade and Connection; docs/deploy.md has configurations",
        (ANSWER,),
    ),
    Check(
        STATE,
        state.check_state,
        f"start the server in {PREFIX}STATE_URL, or correct the URL and its password",
        (VALUES,),
    ),
    Check("state: version", state.check_version, "install Redis 6.2 or later, or Valkey", (STATE,)),
    Check("state: eviction", state.check_eviction, "set maxmemory-policy noeviction", (STATE,)),
    Check("state: persistence", state.check_persistence, "set appendonly yes", (STATE,)),
    Check(
        "state: permissions",
        state.check_permissions,
        "give the user the permissions that docs/alerts.md lists",
        (VALUES,),
    ),
    Check(
        "bus: notice",
        state.check_bus,
        f"start the server in {PREFIX}BUS_URL, and allow publish and subscribe",
        (STATE,),
    ),
    Check("clock: state", state.check_state_clock, CLOCK_FIX, (STATE,)),
    Check("clock: public URL", state.check_public_clock, CLOCK_FIX, (ANSWER,)),
    Check(
        TABLES,
        records.check_tables,
        f"start the database, or correct {PREFIX}RECORDS_URL",
        (VALUES,),
    ),
    Check(
        SEAL_KEYS,
        records.check_seal_keys,
        "restore the seal file from a backup, or set the secrets again with scan-login app set",
        (TABLES,),
    ),
    Check(
        KEY_FILE,
        keys.check_file,
        "restore the file from a backup",
        (VALUES,),
    ),
    Check("keys: age", keys.check_age, "run scan-login key rotate", (KEY_FILE,)),
    Check("keys: next", keys.check_next, CLOCK_FIX, (KEY_FILE,)),
    Check(
        "files: owners",
        owners.check_owners,
        "give these files to the broker's user with chown; nothing if the broker runs as root",
        (VALUES,),
    ),
    Check(PROVIDER, provider.check_draw, PROVIDER_FIX, (VALUES,)),
    Check("provider: apps", provider.check_apps, PROVIDER_FIX, (SEAL_KEYS,)),
    Check(
        "provider: pools",
        provider.check_pools,
        "start the broker, which fills them, or run scan-login pool fill",
        (SEAL_KEYS,),
    ),
    Check(
        "public URL: client address",
        public_url.check_client_address,
        PROXY_FIX,
        (WEBSOCKET, PROVIDER),
    ),
    Check(
        "files: store",
        files.check_store,
        f"correct {PREFIX}FILES_URL, and give the broker's user permission to read, write, list "
        "and delete; see docs/files.md",
        (VALUES,),
    ),
    Check(
        "files: scanner",
        files.check_scanner,
        f"start clamd, and let the broker's user connect to the socket in {PREFIX}CLAMD",
        (VALUES,),
    ),
    Check(
        "webhooks: directory",
        webhooks.check_directory,
        "start the site's server, and give it the secret of the broker; see docs/users.md",
        (VALUES,),
    ),
    Check(
        "webhooks: tunnels",
        webhooks.check_tunnels,
        "start the app's server, and answer tunnel.verify with the challenge; see docs/tunnels.md",
        (VALUES,),
    ),
    Check(
        "webhooks: chat",
        webhooks.check_chat,
        "start the site's server, and answer room.admit; see docs/chat.md",
        (VALUES,),
    ),
    Check(
        "webhooks: files",
        webhooks.check_files,
        "start the app's server, and answer file.offered; see docs/files.md",
        (SEAL_KEYS,),
    ),
    Check(
        "webhooks: audit",
        webhooks.check_audit,
        "start the receiver of audit.entry, and let it answer with 2xx",
        (VALUES,),
    ),
    Check(
        ISSUER,
        discovery.check_issuer,
        f"set {PREFIX}PUBLIC_URL to the URL that browsers use; let the proxy pass /.well-known/",
        (ANSWER,),
    ),
    Check(
        "discovery: key set",
        discovery.check_key_set,
        "give every instance the same key file, and run this command next to it",
        (ISSUER, KEY_FILE),
    ),
)
