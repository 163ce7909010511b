"""Apache with mod_auth_openidc, as a process of this user with its own configuration."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from deploy.processes import listening_process
from tests.support.environment import miss, need_file

MODULES = Path("/usr/lib/apache2/modules")

LOADED = ["mpm_event", "authn_core", "authz_core", "authz_user", "alias", "dir", "env"]

CONFIGURATION = """
{user}ServerRoot {folder}
ServerName 127.0.0.1
PidFile {folder}/apache.pid
Mutex file:{folder} default
Listen 127.0.0.1:{port}
ErrorLog /dev/stderr
LogLevel warn auth_openidc:info
DocumentRoot {folder}/pages
OIDCProviderMetadataURL {issuer}/.well-known/openid-configuration
OIDCClientID apache
OIDCClientSecret {secret}
OIDCRedirectURI http://127.0.0.1:{port}/cb
OIDCCryptoPassphrase a-passphrase-of-this-test
OIDCScope "openid profile offline_access"
OIDCPKCEMethod S256
OIDCInfoHook iat access_token access_token_expires id_token userinfo refresh_token session
OIDCRefreshAccessTokenBeforeExpiry 0
OIDCPassUserInfoAs claims
<Location />
    AuthType openid-connect
    Require valid-user
</Location>
"""


@asynccontextmanager
async def running_apache(folder: Path, port: int, issuer: str, secret: str) -> AsyncIterator[str]:
    """Run Apache with a page that requires a sign-in at `issuer`; yields its URL."""
    program = need_file("/usr/sbin/apache2")
    if not (MODULES / "mod_auth_openidc.so").exists():
        miss("libapache2-mod-auth-openidc is not installed: run make test as root on Debian")
    pages = folder / "pages"
    pages.mkdir(parents=True)
    (pages / "index.html").write_text("welcome")
    loaded = "".join(f"LoadModule {name}_module {MODULES}/mod_{name}.so\n" for name in LOADED)
    loaded += f"LoadModule auth_openidc_module {MODULES}/mod_auth_openidc.so\n"
    conf = folder / "httpd.conf"
    user = "User www-data\nGroup www-data\n" if os.geteuid() == 0 else ""
    values = {"user": user, "folder": folder, "port": port, "issuer": issuer, "secret": secret}
    conf.write_text(loaded + CONFIGURATION.format(**values))
    command = [program, "-DFOREGROUND", "-f", str(conf)]
    async with listening_process("apache", command, folder, port):
        yield f"http://127.0.0.1:{port}"
