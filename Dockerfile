# syntax=docker/dockerfile:1
# Target `worker` (the default): serves, without torch. Target `export`: makes and moves bundles.

FROM python:3.11-slim AS build
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
RUN pip install --no-cache-dir uv==0.13.9
# For the kernels of the engine; it does without, and is slower then.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && \
    rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml hatch_build.py requirements.lock README.md LICENSE ./
COPY schemas ./schemas
COPY engine ./engine
COPY worker ./worker
COPY export ./export
COPY training ./training
COPY demo ./demo
COPY bench ./bench

FROM build AS build-worker
# `s3` is for bundles out of an object store, `gs` the same for Google's, `qdrant` for candidates
# from Qdrant. `gpu` in place of `cpu` brings CUDA's libraries, and leaves the driver to the node:
#   docker build --build-arg EXTRAS=gpu,s3 -t ghcr.io/kafka-reranker/worker:0.1.0-gpu .
ARG EXTRAS=cpu,s3
# The lock constrains the versions; only what the worker needs is installed.
RUN uv venv /opt/venv && \
    uv pip install --python /opt/venv/bin/python -c requirements.lock ".[${EXTRAS}]"

FROM build AS build-export
# With --build-arg UV_TORCH_BACKEND=cpu torch comes from its own index, without 3.4 GB for GPUs.
ARG UV_TORCH_BACKEND
RUN uv venv /opt/venv && \
    uv pip install --python /opt/venv/bin/python -c requirements.lock ".[cpu,export,s3]"

FROM python:3.11-slim AS runtime
RUN groupadd --gid 10001 reranker && useradd --uid 10001 --gid 10001 --no-create-home reranker
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /bundles
USER 10001:10001

FROM runtime AS export
COPY --from=build-export /opt/venv /opt/venv
ENTRYPOINT ["python", "-m", "export"]

FROM runtime AS worker
COPY --from=build-worker /opt/venv /opt/venv
ENV RERANKER_HTTP__PORT=8080
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/livez', timeout=2)"]
ENTRYPOINT ["python", "-m", "worker"]
