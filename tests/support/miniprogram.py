"""Runs suites of the mini program in WeChat's simulator, in Node."""

from __future__ import annotations

import asyncio
import os

from tests.support.environment import ROOT, miss, need

FOLDER = ROOT / "tests" / "clients" / "miniprogram"
JEST = FOLDER / "node_modules" / "jest" / "bin" / "jest.js"
SUITE_TIMEOUT = 150.0


async def run_suite(suite: str, **environment: str) -> None:
    """Run the tests of miniprogram/<suite>.test.js, and fail with their output if one fails."""
    if not JEST.exists():
        miss("the simulator is not installed: make test does so, by npm")
    jest = await asyncio.create_subprocess_exec(
        *(need("node"), str(JEST), "--ci", "--runInBand", f"{suite}.test.js"),
        cwd=FOLDER,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(jest.communicate(), SUITE_TIMEOUT)
    finally:
        if jest.returncode is None:
            jest.kill()
            await jest.wait()

    assert jest.returncode == 0, output.decode()
