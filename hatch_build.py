"""Builds the engine's kernels while a wheel or an editable installation is made.

They are an extra: where no C compiler is found, or the CPU is no x86-64, the engine computes the
same with ONNX Runtime's own operators.
"""

import os
import platform
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("engine/kernels")
LIBRARY = FOLDER / "kernels.so"
SOURCES = (
    "attention.c",
    "elementwise.c",
    "gelu_tail.c",
    "ops.c",
    "product.c",
    "tensors.c",
)
FLAGS = ("-std=gnu11", "-O3", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra")


class KernelsHook(BuildHookInterface[Any]):
    """See the module."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Compile, and put the library into the wheel."""
        if self.target_name != "wheel" or not self._compile(Path(self.root)):
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["artifacts"].append(str(LIBRARY))

    def _compile(self, root: Path) -> bool:
        if sys.platform != "linux" or platform.machine() != "x86_64":
            return False
        compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
        sources = [str(root / FOLDER / name) for name in SOURCES]
        command = [*shlex.split(compiler), *FLAGS, *sources, "-lm", "-o", str(root / LIBRARY)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except OSError as error:
            self.app.display_warning(f"engine without kernels of its own: no C compiler: {error}")
        except subprocess.CalledProcessError as error:
            self.app.display_warning(f"engine without kernels of its own: {error.stderr}")
        else:
            return True
        return False
