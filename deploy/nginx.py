"""nginx' files as an operator takes them, with the ports and paths of one run in them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent

TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
"""nginx makes a folder for each at its start, whether it is used or not."""


def render(folder: Path, *, name: str = "nginx.conf", port: int, proxy: str | None = None) -> Path:
    """Copy nginx' files to `folder`, with its ports and paths in them; return the main one."""
    folder.chmod(0o711)  # where root starts nginx, its workers are nobody
    shutil.copytree(HERE / "scan-login", folder / "scan-login", dirs_exist_ok=True)
    conf = Path(shutil.copy(HERE / name, folder))
    temporary = "".join(f"    {kind}_temp_path {folder}/{kind};\n" for kind in TEMPORARY)
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
    """Put the brokers at these addresses on nginx' list, each with the words that follow there."""
    text = (HERE / "scan-login" / "brokers.conf").read_text()
    [after, *_] = re.findall(r"^server \S+(.*;)$", text, re.MULTILINE)
    servers = [f"server {address}{after}\n" for address in addresses]
    (folder / "scan-login" / "brokers.conf").write_text("".join(servers))


def command(conf: Path, *options: str) -> list[str]:
    """What runs nginx by `conf`, in the foreground and without root."""
    folder = conf.parent
    program = shutil.which("nginx") or "/usr/sbin/nginx"  # Debian has it where only root looks
    return [
        *(program, "-p", str(folder), "-c", str(conf), "-e", "stderr"),
        *("-g", f"daemon off; pid {folder}/nginx.pid;", *options),
    ]
