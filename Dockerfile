# The image of workers, dashboard and command line; docs/containers.md tells of it.
#
#   make image                     barque:local, with the commit in its labels
#   docker build -t barque:local .
#
# Packages come from wherever pip looks; behind a mirror, pass what the mirror needs and nothing of it
# stays in the final image:
#   docker build --build-arg PIP_INDEX_URL --build-arg PIP_EXTRA_INDEX_URL --build-arg PIP_TRUSTED_HOST .
# (each takes its value from the builder's environment; HTTP_PROXY and the like are known to Docker).
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# Two environments: one holds pip and the build backend, the other goes into the final image without.
RUN python3 -m venv /opt/build && python3 -m venv --without-pip /opt/barque
# Apart from the code, so that a change of code does not install the dependencies again.
# --only-binary: no compiler here or there; a platform without wheels fails at once and says so.
COPY constraints/build.txt constraints/runtime.txt constraints/
RUN /opt/build/bin/pip install --require-hashes --only-binary :all: -r constraints/build.txt \
 && /opt/build/bin/pip --python /opt/barque/bin/python install \
      --require-hashes --only-binary :all: -r constraints/runtime.txt
COPY . .
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
 && /opt/build/bin/pip --python /opt/barque/bin/python install --no-deps --no-index /dist/*.whl \
 && /opt/build/bin/pip --python /opt/barque/bin/python check

FROM ${PYTHON_IMAGE}
# 10001: above the ids a host gives its people, and a number, so that runAsNonRoot can check it.
RUN groupadd --gid 10001 barque \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin barque \
 && install -d -o 10001 -g 10001 -m 0750 /data && install -d /app \
 # Nothing here installs packages: the base image's own pip goes, and the one that its ensurepip holds.
 && find /usr -depth -type d \( -path '*-packages/pip' -o -path '*-packages/pip-*' -o -path '*/python3*/ensurepip' \) \
      -exec rm -rf {} + \
 && find /usr/bin /usr/local/bin -name 'pip*' -delete \
 # The base image comes without bytecode of the standard library, and nobody could write it later: each start, and
 # each health check, compiled it anew (0.75 s of CPU time in place of 0.4 s, for 10 MB).
 && python3 -m compileall -q -j 0 -x '/(test|tests|idlelib|lib2to3|tkinter|turtledemo|pydoc_data)/' \
      "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
COPY --from=build /opt/barque /opt/barque
ENV PATH=/opt/barque/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    BARQUE_LOG_FORMAT=json \
    BARQUE_DATA_ROOT=/data/files \
    BARQUE_DATABASE_URL=sqlite+aiosqlite:////data/barque.sqlite3
USER 10001:10001
# Your own task modules go to /app (COPY or a volume) and into BARQUE_TASKS; files tasks write, to /data.
WORKDIR /app
# In exec form: the worker is process 1 and gets SIGTERM itself, which starts its graceful shutdown.
STOPSIGNAL SIGTERM
# Of this container's own worker: `arq --check` asks whether any worker of the queue lives.
HEALTHCHECK --interval=15s --timeout=10s --start-period=20s --retries=3 \
  CMD ["barque", "health"]
CMD ["arq", "workers.WorkerSettings"]
# Last, so that another commit is no reason to build the rest again.
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="Barque" \
      org.opencontainers.image.description="A distributed async task-worker system on Redis that speaks arq's wire." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.authors="The Barque authors" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.created="${CREATED}"
