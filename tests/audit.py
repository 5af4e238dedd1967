"""`make audit`: known weaknesses of the locked dependencies, by pip-audit from OSV.

Where the data source can't be reached, nothing was audited: that is said, it is exit code 0 on a
laptop and a failure with `CI=true`, and nowhere is it a pass.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"
UNREACHABLE = ("ConnectionError", "ProxyError", "Timeout", "SSLError", "ServiceError", "HTTPError")


def main(lock: Path = LOCK) -> int:
    """Audit, say what was found, and return the exit code."""
    command = [str(Path(sys.executable).with_name("pip-audit")), "--vulnerability-service", "osv"]
    command += ["--disable-pip", "--no-deps", "--format", "json", "--requirement", str(lock)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        return _skip(f"{type(error).__name__}: {error}")
    try:
        report = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        if any(name in done.stderr for name in UNREACHABLE):
            return _skip(last[:200])
        sys.stderr.write(f"audit: failed: {last[:500]}\n")
        return 1
    packages = report["dependencies"]
    weak = [package for package in packages if package.get("vulns")]
    for package in weak:
        for found in package["vulns"]:
            fixed = ", ".join(found["fix_versions"]) or "no version"
            sys.stdout.write(
                f"{package['name']} {package['version']}: {found['id']}, fixed in {fixed}\n"
            )
    left_out = sum("skip_reason" in package for package in packages)
    sys.stdout.write(
        f"audit: {len(packages) - left_out} packages, {len(weak)} with known weaknesses, "
        f"{left_out} not looked up\n"
    )
    return 1 if weak or left_out else 0


def _skip(reason: str) -> int:
    sys.stderr.write(f"audit: SKIPPED, nothing was audited: {reason}\n")
    return 1 if os.environ.get("CI") == "true" else 0


if __name__ == "__main__":
    sys.exit(main())
