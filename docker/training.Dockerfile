# The training side. Build it from the root of the repository:
#   docker build --file docker/training.Dockerfile --tag sfsc-training .

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="sfsc-training" \
      org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /source
# Named volumes inherit the folders' mode, so that the container may run as any user.
RUN python -m venv --without-pip /opt/sfsc && mkdir --mode=1777 /data /runs /models
ENV INSTALL="python -m pip --python /opt/sfsc/bin/python install --no-cache-dir --disable-pip-version-check"

# A layer of dependencies alone, which only a change of pyproject.toml rebuilds.
COPY pyproject.toml ./
RUN mkdir -p bundle/sfsc_bundle service/sfsc_service training/sfsc_training training/recipes vehicles/sfsc_vehicles \
        models/demo \
    && touch README.md LICENSE \
    && $INSTALL ".[training]"

COPY README.md LICENSE ./
COPY bundle bundle
COPY service service
COPY training training
COPY vehicles vehicles
COPY models/demo models/demo
RUN $INSTALL --no-deps --force-reinstall .

# The user has no home folder; libraries write their caches to /tmp.
ENV PATH=/opt/sfsc/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp
WORKDIR /runs
USER 1000:1000
ENTRYPOINT ["sfsc-train"]
CMD ["--help"]
