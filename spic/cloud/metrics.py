"""What /metrics tells, in the format of Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters of one server; a repeated request counts in ``repeated`` alone."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        labels = ("point", "coder")
        self.requests = Counter("spic_requests", "Requests answered, by status", ("status",), registry=self.registry)
        self.pictures = Counter("spic_pictures", "Pictures answered", labels, registry=self.registry)
        self.payload_bytes = Counter("spic_payload_bytes", "Payload bytes of them", labels, registry=self.registry)
        self.stream_bytes = Counter(
            "spic_stream_bytes", "Bytes of their streams, framing included", labels, registry=self.registry
        )
        self.repeated = Counter(
            "spic_repeated", "Requests that came again and were answered as the first time", registry=self.registry
        )
        self.seconds = Histogram(
            "spic_seconds", "Seconds of a request, by stage", ("stage",), buckets=_SECONDS, registry=self.registry
        )
        self.batch = Histogram(
            "spic_batch_pictures", "Pictures computed together", buckets=_SIZES, registry=self.registry
        )
        self.queue = Gauge("spic_queue_pictures", "Pictures that wait or are being computed", registry=self.registry)

    def text(self) -> bytes:
        return generate_latest(self.registry)
