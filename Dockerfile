# Two targets: `docker build --target cpu .` and `docker build --target cuda .`
# Each step is one that `make` runs on any machine, so that the tests exercise it too.
# Python's packages are installed by their hashes. The images are named by tags, which move: for a build that can be
# repeated, name them with digests, `--build-arg PYTHON_IMAGE=python:3.11-slim@sha256:…`, as your registry lists them.

ARG PYTHON_IMAGE=python:3.11-slim
ARG CUDA_IMAGE=nvidia/cuda:12.8.1-base-ubuntu24.04

FROM ${PYTHON_IMAGE} AS base-cpu
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*

# CTranslate2 wants cuBLAS 12, which the extra `cuda` brings, and no cuDNN; the driver is the host's (`--gpus all`).
FROM ${CUDA_IMAGE} AS base-cuda
RUN apt-get update && apt-get install -y --no-install-recommends make python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

FROM base-cpu AS cpu
ENV LIVE_ASR_SERVER__HOST=0.0.0.0 LIVE_ASR_STORAGE__DATA=/data LIVE_ASR_MODELS__DIR=/models
WORKDIR /app
COPY Makefile pyproject.toml constraints.txt requirements.lock requirements-cuda.lock README.md LICENSE ./
COPY live_asr live_asr
COPY web web
RUN make install LOCKED=1 EXTRAS=server,jobs \
    && useradd --create-home --uid 10001 live-asr \
    && mkdir /data /models && chown live-asr /data /models
USER live-asr
VOLUME ["/data", "/models"]
EXPOSE 8765
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s CMD ["make", "-s", "health"]
CMD ["make", "-s", "serve"]

FROM base-cuda AS cuda
ENV LIVE_ASR_SERVER__HOST=0.0.0.0 LIVE_ASR_STORAGE__DATA=/data LIVE_ASR_MODELS__DIR=/models \
    CUDA_CACHE_PATH=/models/.cuda NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /app
COPY Makefile pyproject.toml constraints.txt requirements.lock requirements-cuda.lock README.md LICENSE ./
COPY live_asr live_asr
COPY web web
RUN make install LOCKED=1 EXTRAS=server,cuda,jobs \
    && useradd --create-home --uid 10001 live-asr \
    && mkdir /data /models && chown live-asr /data /models
USER live-asr
VOLUME ["/data", "/models"]
EXPOSE 8765
HEALTHCHECK --interval=30s --timeout=5s --start-period=300s CMD ["make", "-s", "health"]
CMD ["make", "-s", "serve"]
