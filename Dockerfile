# One image for the web process, the workers and the courier; the command chooses (see docker-compose.yml).
FROM python:3.11-slim-bookworm AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ \
 && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir uv==0.13.8
WORKDIR /app
COPY requirements.txt .
# pydensecrf is compiled here; everything else is a wheel. torch from PyPI runs on CPU and on NVIDIA GPUs.
RUN uv venv /opt/venv && uv pip sync --python /opt/venv/bin/python --no-cache requirements.txt

FROM python:3.11-slim-bookworm
RUN useradd --create-home --uid 1000 car
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY model model
COPY backend backend
# Weights that are downloaded at first use lie in the cache: mount a volume there.
RUN mkdir -p /home/car/.cache && chown -R car:car /home/car/.cache
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER car
EXPOSE 9090
ENTRYPOINT ["python", "-m", "backend"]
CMD ["serve", "--host", "0.0.0.0"]
