# One image for the server, the command line and the client.
#
#   docker build -t raftlock .
#   docker run --rm raftlock --version
#
# docs/containers.md says how a cluster is run with it.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
COPY pyproject.toml requirements.lock ./
# What the server needs, in the locked versions, before the source: this layer lasts until a dependency changes.
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*p['dependencies'], *p['optional-dependencies']['server'], sep='\n')" >needed.txt \
 && python -m venv --without-pip /opt/raftlock \
 && pip --python /opt/raftlock/bin/python install --quiet --no-cache-dir --disable-pip-version-check \
      --only-binary :all: --constraint requirements.lock --requirement needed.txt \
 && python -m venv /opt/build \
 && /opt/build/bin/pip install --quiet --no-cache-dir --disable-pip-version-check \
      --constraint requirements.lock hatchling
COPY README.md LICENSE ./
COPY wire wire
COPY raftlock raftlock
RUN /opt/build/bin/pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir /dist . \
 && pip --python /opt/raftlock/bin/python install --quiet --no-cache-dir --disable-pip-version-check --no-deps \
      /dist/*.whl

FROM ${BASE}
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="raftlock" \
      org.opencontainers.image.description="A replicated lock service: fenced, fair, fail-closed locks" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# As the first process of a container a program gets no default signal handling, and nobody reaps its orphans: tini does.
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends tini >/dev/null \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log /var/cache/debconf \
 && groupadd --gid 10001 raftlock \
 && useradd --uid 10001 --gid raftlock --home-dir /var/lib/raftlock --shell /usr/sbin/nologin raftlock \
 && install -d -o raftlock -g raftlock -m 0750 /var/lib/raftlock
COPY --from=build /opt/raftlock /opt/raftlock
# Nothing is written outside the data directory: the root file system may be read-only.
ENV PATH=/opt/raftlock/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    RAFTLOCK_DATA_DIR=/var/lib/raftlock \
    RAFTLOCK_LISTEN_HOST=0.0.0.0 \
    RAFTLOCK_HTTP_ADDRESS=0.0.0.0:7421
USER 10001:10001
VOLUME /var/lib/raftlock
EXPOSE 7401 7411 7421
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=3 CMD ["raftlock", "healthcheck"]
ENTRYPOINT ["tini", "--", "raftlock"]
CMD ["server"]
