# Two targets: `docker build --target cpu .` and `docker build --target cuda .`
# Each step is one that `make` runs on any machine, so that the tests exercise it too.
# Python's packages are installed by their hashes, and the base images are named by the digests of their indexes, of all
# platforms. Dependabot raises those two; `--build-arg PYTHON_IMAGE=…` and `CUDA_IMAGE=…` take others, such as a mirror's.

ARG PYTHON_IMAGE=pinned-python
ARG CUDA_IMAGE=pinned-cuda

FROM python:3.11-slim@sha256:db3ff2e1800a8581e2c48a27c3995339d47bdf046da21c7627accd3d51053a93 AS pinned-python
FROM nvidia/cuda:12.8.1-base-ubuntu24.04@sha256:133c78a0575303be34164d0b90137a042172bdf60696af01a3c424ab402d86e2 AS pinned-cuda

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
