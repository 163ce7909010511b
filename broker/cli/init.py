"""`scan-login init`: write the files of a new installation."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.support import usage_error

if TYPE_CHECKING:
    from broker.cli.init_files import GeneratedFile


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
    from broker.cli.init_report import report
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
    print(report(generated, answers, settings, folder=folder, program=program))


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
