"""The build hook of `make compiled`: some pure modules of the server become extension modules, by mypyc.

It is off unless HATCH_BUILD_HOOK_ENABLE_CUSTOM is set. docs/compiled.md says which modules, why these, and what differs.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MODULES = (
    "applying", "auditing", "batcher", "clients", "door", "driver", "effects", "fair_queue", "front", "leading",
    "lease_clock", "leases", "origin", "outbox", "peer_codec", "proposals", "reads", "snapshots", "timers", "writing",
)  # fmt: skip
"""Of raftlock/server."""

SETUP = """
import sys
from mypyc.build import mypycify
from setuptools import setup

folder, sources = sys.argv.pop(), sys.argv.pop().split(",")
modules = mypycify(["--ignore-missing-imports", *sources], opt_level="3", debug_level="0", target_dir=folder)
setup(name="compiled", packages=[], ext_modules=modules)
"""


class CompiledHook(BuildHookInterface[Any]):
    """Compiles the modules, and adds them to the wheel beside their source."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """See BuildHookInterface."""
        if self.target_name != "wheel" or version == "editable":
            return
        self._folder = tempfile.TemporaryDirectory(prefix="raftlock-compiled-")
        built = Path(self._folder.name)
        sources = ",".join(f"raftlock/server/{name}.py" for name in MODULES)
        setup = built / "setup.py"
        setup.write_text(SETUP)
        # A process of its own, in a copy: module names follow from the paths there, and the source stays as it is.
        for package in ("raftlock", "wire"):
            shutil.copytree(Path(self.root) / package, built / package)
        subprocess.run(
            [
                sys.executable, str(setup), "build_ext", f"--build-lib={built / 'lib'}",
                f"--build-temp={built / 'temp'}", sources, str(built / "c"),
            ],
            cwd=built,
            env={**os.environ, "MYPYPATH": "wire", "MYPY_CACHE_DIR": str(built / "cache")},
            check=True,
        )  # fmt: skip
        for file in (built / "lib").rglob("*.so"):
            build_data["force_include"][str(file)] = str(file.relative_to(built / "lib"))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, *_: Any) -> None:
        """See BuildHookInterface."""
        if hasattr(self, "_folder"):
            self._folder.cleanup()
