"""Render the nginx configuration of this folder with the ports and paths of one run."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent

TEMPORARY_FOLDERS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
"""nginx creates a folder for each of these at its start, even if it is not used."""


def render(folder: Path, *, name: str = "nginx.conf", port: int, proxy: str | None = None) -> Path:
    """Write the configuration to `folder` and return the path of the main file.

    proxy: an address whose X-Forwarded-For header nginx trusts, or None.
    """
    folder.chmod(0o711)  # if root starts nginx, its workers run as another user
    shutil.copytree(HERE / "scan-login", folder / "scan-login", dirs_exist_ok=True)
    conf = Path(shutil.copy(HERE / name, folder))
    temporary = "".join(f"    {kind}_temp_path {folder}/{kind};\n" for kind in TEMPORARY_FOLDERS)
    changes = {
        "listen 8000 ": f"listen 127.0.0.1:{port} ",
        "/var/log/nginx/": f"{folder}/",
        "http {\n": f"http {{\n{temporary}",
        "192.0.2.1": proxy or "192.0.2.1",
    }
    for file in [conf, *(folder / "scan-login").iterdir()]:
        text = file.read_text()
        for old, new in changes.items():
            text = text.replace(old, new)
        file.write_text(text)
    return conf


def write_brokers(folder: Path, addresses: Iterable[str]) -> None:
    """Replace the list of brokers. Each server keeps the parameters of the original file."""
    text = (HERE / "scan-login" / "brokers.conf").read_text()
    [parameters, *_] = re.findall(r"^server \S+(.*;)$", text, re.MULTILINE)
    servers = [f"server {address}{parameters}\n" for address in addresses]
    (folder / "scan-login" / "brokers.conf").write_text("".join(servers))


def command(conf: Path, *options: str) -> list[str]:
    """Return the command that runs nginx with `conf`, in the foreground and without root."""
    folder = conf.parent
    program = (
        shutil.which("nginx") or "/usr/sbin/nginx"
    )  # on Debian, /usr/sbin is only in the PATH of root
    return [
        *(program, "-p", str(folder), "-c", str(conf), "-e", "stderr"),
        *("-g", f"daemon off; pid {folder}/nginx.pid;", *options),
    ]
