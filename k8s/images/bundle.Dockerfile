# syntax=docker/dockerfile:1
# An image that carries one bundle. Its tag is the bundle's digest without `sha256:`
#   docker build -f k8s/images/bundle.Dockerfile -t ghcr.io/kafka-reranker/model:<64 hex digits> build/model
# (the last argument is the folder of the bundle). Being built on the worker's image, it adds only
# the bundle to what a node has already.
ARG WORKER=ghcr.io/kafka-reranker/worker:0.1.0
FROM ${WORKER}
COPY --chown=0:0 . /bundle
