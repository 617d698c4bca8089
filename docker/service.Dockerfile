# The serving side. Build it from the root of the repository:
#   docker build --file docker/service.Dockerfile --tag sfsc-service:cpu .
#   docker build --file docker/service.Dockerfile --build-arg VARIANT=gpu --tag sfsc-service:gpu .
#   docker build --file docker/service.Dockerfile --build-arg VARIANT=milvus --tag sfsc-service:milvus .

# `make pin-images` adds the digest.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ARG VARIANT=cpu
WORKDIR /source
# No pip inside: the base image's pip installs into both, /opt/build for this stage alone.
RUN python -m venv --without-pip /opt/sfsc && python -m venv --without-pip /opt/build
ENV OPTIONS="--no-cache-dir --no-compile --disable-pip-version-check --no-deps"

# Layers that only another lock rebuilds (`make lock`): what builds the package, and what it depends on.
COPY docker/lock/build.txt docker/lock/
RUN python -m pip --python /opt/build/bin/python install $OPTIONS --require-hashes --requirement docker/lock/build.txt
COPY docker/lock/service-${VARIANT}.txt docker/lock/
RUN python -m pip --python /opt/sfsc/bin/python install $OPTIONS --require-hashes \
        --requirement docker/lock/service-${VARIANT}.txt

COPY pyproject.toml README.md LICENSE ./
COPY bundle bundle
COPY service service
COPY training training
COPY vehicles vehicles
COPY models/demo models/demo
COPY docker/strip.py docker/
RUN python -m pip --python /opt/build/bin/python wheel --no-deps --no-build-isolation --no-index --wheel-dir /dist . \
    && python -m pip --python /opt/sfsc/bin/python install $OPTIONS --no-index /dist/*.whl \
    && python -m pip --python /opt/sfsc/bin/python check \
    && /opt/build/bin/cyclonedx-py environment --output-reproducible --output-format JSON \
        --output-file /opt/sfsc/sbom.cdx.json /opt/sfsc/bin/python \
    && python docker/strip.py /opt/sfsc

FROM ${BASE}
LABEL org.opencontainers.image.title="sfsc" \
      org.opencontainers.image.description="Visual search in which model size is a per-request decision" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/sfsc /opt/sfsc
COPY --chown=10001:10001 docker/healthcheck.py /app/
RUN mkdir /data /models /shared-images && chown 10001:10001 /data /shared-images \
    && ln -s /opt/sfsc/lib/python3.*/site-packages/sfsc_service/demo /models/demo
ENV PATH=/opt/sfsc/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SFSC_HOST=0.0.0.0 \
    SFSC_PORT=8000 \
    SFSC_NICE=19
# Paths of bundles and galleries are relative, as in a checkout: models/NAME is mounted, data/NAME lies on a volume.
WORKDIR /
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-IS", "/app/healthcheck.py"]
ENTRYPOINT ["sfsc"]
CMD ["demo"]
