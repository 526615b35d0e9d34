# The edge half, without torch. From the folder of a checkout:  docker build -f docs/deploy/edge.Dockerfile -t spic-edge .
#   docker run --read-only --cap-drop ALL -v /etc/spic:/etc/spic:ro -v /srv/pictures:/pictures:ro -v spic-spool:/spool \
#     spic-edge /etc/spic/cam.zip https://cloud.example:8765 /pictures --follow
# /etc/spic holds the bundle that `spic export` wrote, and the token.
FROM python:3.12-slim

RUN useradd --uid 10001 --create-home spic && install -d -o spic /spool /cache
WORKDIR /build
COPY . .
# spic itself without its dependencies, which bring torch; those of the edge are the extra `edge` of pyproject.toml
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['edge'], sep='\n')" > /tmp/edge.txt \
 && pip install --no-cache-dir -r /tmp/edge.txt && pip install --no-cache-dir --no-deps . && rm -rf /build
USER spic
WORKDIR /home/spic
ENV SPIC_CACHE=/cache NUMBA_CACHE_DIR=/cache/numba PYTHONUNBUFFERED=1
ENTRYPOINT ["spic", "edge", "--spool", "/spool/waiting.sqlite", "--token_file", "/etc/spic/token"]
