# Included by the Makefile.
.PHONY: manifests

manifests: install  ## render every overlay and check schemas, policies, settings, alerts
	$(BIN)/python -m k8s.checks
