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
REPORT = Path("build/audit.json")
UNREACHABLE = ("ConnectionError", "ProxyError", "Timeout", "SSLError", "ServiceError", "HTTPError")


def main(lock: Path = LOCK, report: Path = REPORT) -> int:
    """Audit, say what was found, and return the exit code."""
    command = [str(Path(sys.executable).with_name("pip-audit")), "--vulnerability-service", "osv"]
    command += ["--disable-pip", "--no-deps", "--format", "json", "--requirement", str(lock)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        return _skip(f"{type(error).__name__}: {error}", report)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        if any(name in done.stderr for name in UNREACHABLE):
            return _skip(last[:200], report)
        sys.stderr.write(f"audit: failed: {last[:500]}\n")
        return 1
    packages = found["dependencies"]
    weak = [package for package in packages if package.get("vulns")]
    for package in weak:
        for each in package["vulns"]:
            fixed = ", ".join(each["fix_versions"]) or "no version"
            sys.stdout.write(
                f"{package['name']} {package['version']}: {each['id']}, fixed in {fixed}\n"
            )
    left_out = sum("skip_reason" in package for package in packages)
    said = (
        f"{len(packages) - left_out} packages, {len(weak)} with known weaknesses, "
        f"{left_out} not looked up"
    )
    sys.stdout.write(f"audit: {said}\n")
    _write(report, said)
    return 1 if weak or left_out else 0


def _write(report: Path, said: str) -> None:
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps({"said": said}) + "\n")


def _skip(reason: str, report: Path) -> int:
    said = "SKIPPED, nothing was audited"
    sys.stderr.write(f"audit: {said}: {reason}\n")
    _write(report, f"{said}: {reason.split(': ', maxsplit=1)[0]}")
    return 1 if os.environ.get("CI") == "true" else 0


if __name__ == "__main__":
    sys.exit(main())
