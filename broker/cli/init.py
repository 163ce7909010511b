"""`scan-login init`: write the files of a new installation."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.support import usage_error

if TYPE_CHECKING:
    from broker.cli.init_files import GeneratedFile
    from broker.cli.init_questions import Answers

START: Mapping[str, Sequence[str]] = {
    "systemd": (
        "sudo install -D -m 0640 {folder}/scan-login.env /etc/scan-login/env",
        "sudo cp {folder}/scan-login.service /etc/systemd/system/",
        "sudo systemctl enable --now scan-login",
    ),
    "compose": (
        "docker build -t scan-login FOLDER_OF_THE_SOURCES",
        "docker compose --project-directory {folder} up --wait",
    ),
}

START_PROXY = {
    "caddy": "sudo cp {folder}/Caddyfile /etc/caddy/ && sudo systemctl reload caddy",
    "nginx": "sudo cp {folder}/nginx.conf /etc/nginx/conf.d/scan-login.conf && "
    "sudo systemctl reload nginx",
}
"""With systemd. Compose starts its proxy itself."""

CHECK = {
    "systemd": "sudo sh -c 'cd /var/lib/scan-login && set -a && . /etc/scan-login/env && "
    "{program} doctor'",
    "compose": "docker compose --project-directory {folder} exec broker scan-login doctor",
}

HOMES = ("/home", "/root")
"""Folders that the systemd unit hides (ProtectHome)."""

HOME_NOTE = """
The service cannot read the program or its Python below /home or /root. Install the broker into
/opt/scan-login first, as docs/install.md describes, and run init with that program."""


def init(
    answers_file: Annotated[
        Path | None,
        typer.Option(
            "--answers", help="TOML file with all answers. Default: ask.", show_default=False
        ),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder of the files.")] = Path("scan-login"),
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
) -> None:
    """Write settings, a systemd unit or a Compose file, a proxy's configuration and a login page.

    Asks for what it needs.
    """
    # Imported here, because the help does not need them.
    from broker.cli.init_files import generate, settings_for
    from broker.cli.init_questions import InvalidAnswer, ask_person, read_answers
    from broker.settings import load_settings

    try:
        answers = ask_person() if answers_file is None else read_answers(answers_file)
    except InvalidAnswer as error:
        usage_error(str(error))
    folder = output.absolute()
    program = str(Path(sys.executable).parent / "scan-login")
    settings = settings_for(answers)
    load_settings(None, **settings)  # raises InvalidSettings
    generated = generate(answers, settings, program=program)
    write(generated, folder, force=force)
    report(generated, answers, folder=folder, program=program)


def write(generated: Sequence[GeneratedFile], folder: Path, *, force: bool) -> None:
    """Write all files, or none if one exists. force: replace them."""
    existing = [file.name for file in generated if (folder / file.name).exists()]
    if existing and not force:
        sys.exit(
            f"{folder} already has {', '.join(existing)}: use another --output, or --force to "
            "replace them"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in generated:
            path = folder / file.name
            path.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL  # secrets are never in a readable file
            with os.fdopen(os.open(path, flags, file.mode), "w", encoding="utf-8") as opened:
                opened.write(file.text)
    except OSError as error:
        sys.exit(f"cannot write to {folder}: {error.strerror}")


def report(
    generated: Sequence[GeneratedFile], answers: Answers, *, folder: Path, program: str
) -> None:
    """Print the files, the login page and the next commands."""
    for file in generated:
        print(f"{folder / file.name}")
    page = next(file.text for file in generated if file.name == "login.html")
    print(f"\nThe login page, for {answers['origin']}:\n\n{page}")
    run_by, places = answers["run_by"], {"folder": shlex.quote(str(folder)), "program": program}
    start = [*START[run_by]]
    if run_by == "systemd" and answers["proxy"] in START_PROXY:
        start.append(START_PROXY[answers["proxy"]])
    print("\n  ".join(["Start the broker:\n", *start]).format(**places))
    print(f"\nThen check the installation:\n\n  {CHECK[run_by]}".format(**places))
    if run_by == "systemd" and is_in_a_home(program, os.path.realpath(sys.executable)):
        print(HOME_NOTE)


def is_in_a_home(*paths: str) -> bool:
    """Return whether one of these files is below a folder that the systemd unit hides."""
    return any(Path(path).is_relative_to(home) for path in paths for home in HOMES)
