"""Compiles the ballot coder when tallynode is installed, where there is a C compiler.

Without one the install goes on: the same coder in Python makes the same bytes. An sdist or a wheel
made without a compiler runs everywhere; a wheel with the compiled coder is for its platform only.
"""

import os
import shlex
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("tallynode/protocol/coding/_fast.c")


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Called by hatchling for `pip install .` and `pip install -e .` alike."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or os.name != "posix":
            return
        source = Path(self.root) / SOURCE
        library = source.with_suffix(".so")
        compiler = shlex.split(os.environ.get("CC", "cc"))
        command = [*compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(source)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=120)
        except (OSError, subprocess.SubprocessError) as error:
            library.unlink(missing_ok=True)
            self.app.display_warning(f"ballot coder not compiled, Python's is used: {error}")
            return
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"
        build_data["force_include"][str(library)] = str(SOURCE.with_suffix(".so"))
