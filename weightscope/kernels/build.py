"""Has the C files beside it compiled while the package is built; without a compiler it does without.

Hatchling calls this: see pyproject.toml.
"""

from __future__ import annotations

import subprocess
import sysconfig
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# By its path: the package cannot be imported where it is built.
_spec = spec_from_file_location("weightscope_compiling", Path(__file__).with_name("compiling.py"))
assert _spec is not None and _spec.loader is not None  # noqa: S101, PT018
compiling = module_from_spec(_spec)
_spec.loader.exec_module(compiling)


class KernelsBuildHook(BuildHookInterface):  # type: ignore[misc]
    """Adds the library to a wheel, and to the checkout that an editable install points to."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; a failure is a warning."""
        if self.target_name != "wheel":
            return
        try:
            compiling.compile_kernels(compiling.LIBRARY)
        except (OSError, subprocess.CalledProcessError) as error:
            self.app.display_warning(
                f"The C files of weightscope were not compiled ({error}): it will work, and be slower."
            )
            return
        build_data["artifacts"].append("weightscope/kernels/_kernels.so")
        if version != "editable":
            build_data["pure_python"] = False
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"py3-none-{platform}"  # nothing of Python's: any version
