"""What an edge and a cloud say to each other over HTTP; docs/deploy.md describes it for other clients.

    POST /v1/predict    body: one stream (docs/bitstream.md), Content-Type STREAM; header Idempotency-Key: an id of the sender's
                        that stays the same when the request is repeated, so that no picture is counted twice
                        200: {"point": NAME, "answers": [ANSWER of each picture, in order], "milliseconds": {stage: number}}
                        4xx, 503: {"error": ONE LINE}; 503 comes with Retry-After in seconds
    GET /v1/points      {"points": [{"name", "task", "benchmark", "coder", "table", "shape", "image_size"}]}
    GET /health         {"status": "ok"} once requests are answered

ANSWER of classification: {"top": [{"class": index, "name": text, "score": probability}, five, best first]}; of segmentation:
{"classes": [names that occur], "map": base64 of a PNG of one byte per pixel, the class indices}.
With a token: Authorization: Bearer TOKEN on every path but /health (and the cloud's page at /, which holds no data itself).
"""

STREAM = "application/vnd.spic.stream"
PREDICT, POINTS, HEALTH, METRICS = "/v1/predict", "/v1/points", "/health", "/metrics"
IDEMPOTENCY_KEY = "Idempotency-Key"
PORT = 8765
