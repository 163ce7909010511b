"""tools/pip-install prints progress, and pip's output if pip fails."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.support.environment import ROOT


@pytest.mark.parametrize(
    ("requirement", "code", "output"),
    [
        ("pip", 0, r"\s*0 packages in \d+ s\n"),
        ("./no-such-folder", 1, r"(?s).*no-such-folder.*"),
    ],
    ids=["success", "failure"],
)
def test_result_of_pip_is_printed(requirement: str, code: int, output: str) -> None:
    command = [sys.executable, str(ROOT / "tools/pip-install"), "--no-index", requirement]

    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )

    assert done.returncode == code, done.stdout
    assert re.fullmatch(output, done.stdout)
