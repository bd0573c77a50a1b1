# One file, three images: bridge (no torch), worker, flower. `docker build --target bridge .`
FROM python:3.11-slim AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --create-home --uid 10001 lowtide
WORKDIR /home/lowtide

# The dependencies of each part, pinned by hash, in a layer of their own: our code changes more often than they do.
FROM base AS bridge-dependencies
COPY requirements/bridge.txt .
RUN pip install --require-hashes -r bridge.txt

FROM base AS worker-dependencies
COPY requirements/worker.txt .
RUN pip install --require-hashes -r worker.txt

FROM base AS flower-dependencies
COPY requirements/flower.txt .
RUN pip install --require-hashes -r flower.txt

FROM base AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-deps --wheel-dir /wheel .

FROM bridge-dependencies AS bridge
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel pip install --no-deps /wheel/*.whl
USER lowtide
CMD ["lowtide", "bridge", "--create"]

FROM flower-dependencies AS flower
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel pip install --no-deps /wheel/*.whl
USER lowtide
CMD ["lowtide", "flower"]

FROM worker-dependencies AS worker
# torch's wheels bring CUDA; the NVIDIA container runtime brings the driver when a device is reserved.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel pip install --no-deps /wheel/*.whl
USER lowtide
CMD ["lowtide", "worker"]
