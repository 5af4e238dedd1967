"""Builds the engine's kernels while a wheel or an editable installation is made.

They are an extra: where no C compiler is found, or the CPU is no x86-64, the engine computes the
same with ONNX Runtime's own operators.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("engine/kernels")
LIBRARY = FOLDER / "kernels.so"
FLAGS = ("-std=gnu11", "-O3", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-Wall", "-Wextra")
# What runs before the CPU is known must run on any.
PLAIN = "-march=x86-64"
AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni", "-mfma")
COMPILERS = ("cc", "gcc", "clang")


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
        (root / LIBRARY).unlink(missing_ok=True)  # of an earlier version, which may score otherwise
        if sys.platform != "linux" or platform.machine() != "x86_64":
            return False
        compiler = _compiler()
        if compiler is None:
            self.app.display_warning("engine without kernels of its own: no C compiler (cc)")
            return False
        with tempfile.TemporaryDirectory() as scratch:
            for command in _commands(compiler, root, Path(scratch)):
                try:
                    subprocess.run(command, check=True, capture_output=True, text=True)
                except (OSError, subprocess.CalledProcessError) as error:
                    reason = getattr(error, "stderr", None) or error
                    self.app.display_warning(f"engine without kernels of its own: {reason}")
                    return False
        return True


def _compiler() -> list[str] | None:
    """Return what `CC` says, or the first compiler there is."""
    if named := os.environ.get("CC"):
        return shlex.split(named)
    return next(([name] for name in COMPILERS if shutil.which(name)), None)


def _commands(compiler: list[str], root: Path, scratch: Path) -> Iterator[list[str]]:
    objects = []
    for source in sorted((root / FOLDER).glob("*.c")):
        objects.append(str(scratch / f"{source.stem}.o"))
        features = AVX512 if "avx512.h" in source.read_text(encoding="utf-8") else ()
        yield [*compiler, *FLAGS, PLAIN, *features, "-c", str(source), "-o", objects[-1]]
    yield [*compiler, "-shared", *objects, "-lm", "-o", str(root / LIBRARY)]
