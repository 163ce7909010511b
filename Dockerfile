# One image for the broker, the example site and the phone page. The site and the phone page
# have other entrypoints, see docker-compose.yml.

# The base image. Pin it by digest in a build for production:
#   docker buildx imagetools inspect python:3.13-slim --format '{{.Manifest.Digest}}'
#   docker build --build-arg PYTHON=python:3.13-slim@sha256:... -t scan-login .
# Look the digest up again for each build that should contain the security updates of the base.
ARG PYTHON=python:3.13-slim

FROM ${PYTHON} AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY broker broker
COPY web_demo web_demo
COPY mp_stub mp_stub
RUN python -m venv --without-pip /opt/scan-login \
    && python -m pip --python /opt/scan-login/bin/python install \
        --no-cache-dir --disable-pip-version-check -c constraints.txt .

FROM ${PYTHON}
COPY --from=build /opt/scan-login /opt/scan-login
RUN groupadd --gid 10001 scan-login \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/scan-login scan-login \
    && install --directory --owner scan-login --group scan-login --mode 700 /var/lib/scan-login
ENV PATH=/opt/scan-login/bin:$PATH \
    SCAN_LOGIN_HOST=0.0.0.0 \
    SCAN_LOGIN_KEY_FILE=/var/lib/scan-login/keys.json \
    SCAN_LOGIN_SEAL_FILE=/var/lib/scan-login/seal.json \
    SCAN_LOGIN_PICTURES_URL=file:///var/lib/scan-login/pictures \
    SCAN_LOGIN_RECORDS_URL=sqlite+aiosqlite:////var/lib/scan-login/records.db
# A number, because Kubernetes' runAsNonRoot cannot check a name.
USER 10001:10001
WORKDIR /var/lib/scan-login
VOLUME /var/lib/scan-login
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD \
    ["python", "-c", "import os, urllib.request as web; web.urlopen(f'http://127.0.0.1:{os.environ.get(\"SCAN_LOGIN_PORT\", 8000)}/health/live', timeout=3)"]
ENTRYPOINT ["scan-login"]
CMD ["serve"]
