# Two images:
#
#   docker build --target web -t car-web .          the web process, the courier and all commands but `worker`; no torch
#   docker build --target worker -t car-worker .    the worker: NVIDIA GPUs, or CPUs
FROM python:3.11-slim-bookworm AS base
# Weights that are downloaded at first use lie in the cache: mount a volume there.
RUN useradd --create-home --uid 1000 car \
 && mkdir --parents /home/car/.cache \
 && chown --recursive car:car /home/car/.cache
WORKDIR /app
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["python", "-m", "backend"]

FROM python:3.11-slim-bookworm AS uv
RUN pip install --no-cache-dir uv==0.13.8
WORKDIR /app

FROM uv AS web-packages
COPY requirements-web.txt .
RUN uv venv /opt/venv && uv pip sync --python /opt/venv/bin/python --no-cache requirements-web.txt

FROM uv AS worker-packages
# pydensecrf is compiled here; everything else is a wheel. torch from PyPI runs on CPUs and, with its own CUDA, on GPUs.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ \
 && rm -rf /var/lib/apt/lists/*
COPY requirements.txt .
RUN uv venv /opt/venv && uv pip sync --python /opt/venv/bin/python --no-cache requirements.txt

FROM base AS worker
COPY --from=worker-packages /opt/venv /opt/venv
COPY model model
COPY backend backend
USER car
CMD ["worker"]

FROM base AS web
COPY --from=web-packages /opt/venv /opt/venv
COPY model model
COPY backend backend
USER car
EXPOSE 9090
CMD ["serve", "--host", "0.0.0.0"]
