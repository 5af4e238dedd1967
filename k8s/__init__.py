"""Manifests for Kubernetes, and the checks of them."""
