# The cloud half. From the folder of a checkout:  docker build -f docs/deploy/cloud.Dockerfile -t spic-cloud .
#   docker run --read-only --cap-drop ALL -p 8765:8765 -v /etc/spic:/etc/spic:ro -v spic-cache:/cache spic-cloud
# /etc/spic holds token, cert.pem and key.pem, readable for user 10001.
FROM python:3.12-slim

RUN useradd --uid 10001 --create-home spic && install -d -o spic /cache
WORKDIR /build
COPY . .
RUN pip install --no-cache-dir torch torchvision --index-url https://download.pytorch.org/whl/cpu \
 && pip install --no-cache-dir '.[cloud]' && rm -rf /build
USER spic
WORKDIR /home/spic
# numba keeps its compiled kernels here, spic what it fetches
ENV SPIC_CACHE=/cache NUMBA_CACHE_DIR=/cache/numba PYTHONUNBUFFERED=1
EXPOSE 8765
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s CMD ["python", "-c", "import ssl, urllib.request; urllib.request.urlopen('https://localhost:8765/health', timeout=4, context=ssl._create_unverified_context())"]
ENTRYPOINT ["spic", "cloud", "--host", "0.0.0.0"]
CMD ["--token_file", "/etc/spic/token", "--tls_cert", "/etc/spic/cert.pem", "--tls_key", "/etc/spic/key.pem"]
