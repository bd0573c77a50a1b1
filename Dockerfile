# One file, five images: bridge, autoscaling and flower (no torch), worker, and cloud, which stands for Google Cloud in
# compose.yaml. `docker build --target bridge .`
# The dependencies of each part, pinned by hash, are a layer of their own: our code changes more often than they do.
FROM python:3.11-slim AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --create-home --uid 10001 lowtide
WORKDIR /home/lowtide

FROM base AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-deps --wheel-dir /wheel .

FROM base AS bridge
COPY requirements/bridge.txt .
RUN pip install --require-hashes -r bridge.txt
COPY --from=wheel /wheel /wheel
RUN pip install --no-deps /wheel/*.whl
USER lowtide
CMD ["lowtide", "bridge", "--create"]

FROM base AS autoscaling
COPY requirements/autoscaling.txt .
RUN pip install --require-hashes -r autoscaling.txt
COPY --from=wheel /wheel /wheel
RUN pip install --no-deps /wheel/*.whl
USER lowtide
CMD ["lowtide", "autoscale"]

FROM base AS flower
COPY requirements/flower.txt .
RUN pip install --require-hashes -r flower.txt
COPY --from=wheel /wheel /wheel
RUN pip install --no-deps /wheel/*.whl
USER lowtide
CMD ["lowtide", "flower"]

FROM base AS cloud
COPY requirements/autoscaling.txt requirements/bridge.txt ./
RUN pip install --require-hashes -r autoscaling.txt -r bridge.txt
COPY --from=wheel /wheel /wheel
RUN pip install --no-deps /wheel/*.whl
USER lowtide
CMD ["python", "-m", "lowtide.local.cloud", "--host", "0.0.0.0"]

FROM base AS worker
# torch's wheels bring CUDA; the NVIDIA container runtime brings the driver when a device is reserved.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY requirements/worker.txt .
RUN pip install --require-hashes -r worker.txt
COPY --from=wheel /wheel /wheel
RUN pip install --no-deps /wheel/*.whl
USER lowtide
# Of this user, when a volume is mounted there: downloaded weights.
RUN mkdir .cache
CMD ["lowtide", "worker"]
