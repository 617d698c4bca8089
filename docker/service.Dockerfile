# The serving side. Build it from the root of the repository:
#   docker build --file docker/service.Dockerfile --tag sfsc-service:cpu .
#   docker build --file docker/service.Dockerfile --build-arg VARIANT=gpu --tag sfsc-service:gpu .

FROM python:3.11-slim-bookworm AS build
ARG VARIANT=cpu
WORKDIR /source
# No pip inside: the base image's pip installs into it.
RUN python -m venv --without-pip /opt/sfsc
ENV INSTALL="python -m pip --python /opt/sfsc/bin/python install --no-cache-dir --no-compile --disable-pip-version-check"

# A layer of dependencies alone, which only a change of pyproject.toml rebuilds.
COPY pyproject.toml ./
RUN mkdir -p bundle/sfsc_bundle service/sfsc_service training/sfsc_training training/recipes vehicles/sfsc_vehicles \
        models/demo \
    && touch README.md LICENSE \
    && $INSTALL ".[service,$VARIANT]"

COPY README.md LICENSE ./
COPY bundle bundle
COPY service service
COPY training training
COPY vehicles vehicles
COPY models/demo models/demo
COPY docker/strip.py docker/
RUN $INSTALL --no-deps --force-reinstall . && python docker/strip.py /opt/sfsc

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="sfsc" \
      org.opencontainers.image.description="Visual search in which model size is a per-request decision" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/sfsc /opt/sfsc
COPY --chown=10001:10001 docker/healthcheck.py /app/
RUN mkdir /data /models && chown 10001:10001 /data \
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
