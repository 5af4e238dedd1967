"""Checks of the manifests: `python -m k8s.checks`, or `make manifests`."""
