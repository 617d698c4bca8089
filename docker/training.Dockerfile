# The training side. Build it from the root of the repository:
#   docker build --file docker/training.Dockerfile --tag sfsc-training .

# `make pin-images` adds the digest.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /source
RUN python -m venv --without-pip /opt/build
COPY docker/lock/build.txt docker/lock/training.txt docker/lock/
RUN python -m pip --python /opt/build/bin/python install --no-cache-dir --disable-pip-version-check --no-deps \
        --require-hashes --requirement docker/lock/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY bundle bundle
COPY service service
COPY training training
COPY vehicles vehicles
COPY models/demo models/demo
RUN python -m pip --python /opt/build/bin/python wheel --no-deps --no-build-isolation --no-index --wheel-dir /dist . \
    && /opt/build/bin/cyclonedx-py requirements --output-reproducible --output-format JSON \
        --output-file /dist/sbom.cdx.json docker/lock/training.txt

FROM ${BASE}
LABEL org.opencontainers.image.title="sfsc-training" \
      org.opencontainers.image.licenses="Apache-2.0"
# Named volumes inherit the folders' mode, so that the container may run as any user.
RUN python -m venv --without-pip /opt/sfsc && mkdir --mode=1777 /data /runs /models
ENV INSTALL="python -m pip --python /opt/sfsc/bin/python install --no-cache-dir --disable-pip-version-check --no-deps"

# A layer of dependencies alone, which only another lock rebuilds (`make lock`).
COPY docker/lock/training.txt /opt/sfsc/
RUN $INSTALL --require-hashes --requirement /opt/sfsc/training.txt
COPY --from=build /dist /opt/sfsc/dist
RUN $INSTALL --no-index /opt/sfsc/dist/*.whl \
    && python -m pip --python /opt/sfsc/bin/python check \
    && mv /opt/sfsc/dist/sbom.cdx.json /opt/sfsc/

# The user has no home folder; libraries write their caches to /tmp.
ENV PATH=/opt/sfsc/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp
WORKDIR /runs
USER 1000:1000
ENTRYPOINT ["sfsc-train"]
CMD ["--help"]
