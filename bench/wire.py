"""Two hosts of this machine and a wire between them: network namespaces, joined by TUN devices that a thread here reads and writes.

What tc netem does, on kernels without it, too: packets leave at the link's rate, one after the other, are held for its delay, and
some are lost. TCP on both ends is the kernel's own, so that its slow start, acknowledgements and repeats cost what they cost.
Needs root, iproute2 and /dev/net/tun.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import random
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from spic.errors import SpicError

EDGE, CLOUD = "10.213.7.1", "10.213.7.2"
HOSTS = {"edge": (EDGE, CLOUD), "cloud": (CLOUD, EDGE)}
DEVICE, MTU = "wire0", 1500
WAITING = 1000
"""Packets that wait for the wire at most; later ones are lost. netem's own default."""
_TUNSETIFF, _TUN, _NO_INFO, _CLONE_NEWNET = 0x400454CA, 0x0001, 0x1000, 0x40000000


@dataclass(frozen=True)
class Link:
    """rate: kbit/s, each way. delay: milliseconds, each way. loss: percent of the packets, each way."""

    rate: float
    delay: float
    loss: float = 0.0

    def __str__(self) -> str:
        return f"{self.rate:g} kbit/s, {self.delay:g} ms" + (f", {self.loss:g} % loss" if self.loss else "")


def call(*words: str) -> None:
    try:
        subprocess.run(words, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = " ".join((getattr(error, "stderr", "") or str(error)).split())
        raise SpicError(f"{' '.join(words)}: {said}; this bench needs root, iproute2 and network namespaces") from None


def within(host: str, *words: str) -> list[str]:
    """The command that runs these words on one of the hosts."""
    return ["ip", "netns", "exec", _namespace(host), *words]


def _namespace(host: str) -> str:
    return f"spic-{host}-{os.getpid()}"


@contextlib.contextmanager
def hosts() -> Iterator[Wire]:
    """An edge and a cloud, and the wire that joins them."""
    try:
        for host in HOSTS:
            call("ip", "netns", "add", _namespace(host))
        wire = Wire()
        for host, (mine, other) in HOSTS.items():
            call(*within(host, "ip", "addr", "add", mine, "peer", other, "dev", DEVICE))
            for device in ("lo", DEVICE):
                call(*within(host, "ip", "link", "set", device, "up"))
        yield wire
    finally:
        for host in HOSTS:
            subprocess.run(("ip", "netns", "del", _namespace(host)), capture_output=True)


class Wire:
    """link: what the wire is now; None lets packets through at once. passed, lost: packets so far."""

    def __init__(self):
        self.link: Link | None = None
        self.passed = self.lost = 0
        self._random, self._loop = random.Random(0), asyncio.new_event_loop()
        self._free, self._waiting = dict.fromkeys(HOSTS, 0.0), dict.fromkeys(HOSTS, 0)
        ready: list[BaseException | None] = []
        opened = threading.Event()
        threading.Thread(target=self._run, args=(ready, opened), daemon=True).start()
        opened.wait()
        if ready:
            raise SpicError(f"/dev/net/tun: {ready[0]}; this bench needs root and TUN devices") from ready[0]

    def _run(self, failed: list, opened: threading.Event) -> None:
        try:
            self._ends = {host: _open_tun(_namespace(host)) for host in HOSTS}
        except OSError as error:
            failed.append(error)
            return
        finally:
            opened.set()
        for host, other in zip(HOSTS, reversed(HOSTS)):
            self._loop.add_reader(self._ends[host], self._take, host, other)
        self._loop.run_forever()

    def _take(self, host: str, other: str) -> None:
        """free: when the wire has let the last packet of this host through."""
        packet, now, link = os.read(self._ends[host], MTU), time.monotonic(), self.link
        if link is None:
            return self._give(other, packet)
        if self._waiting[host] >= WAITING or self._random.random() < link.loss / 100:
            self.lost += 1
            return
        self._waiting[host] += 1
        self._free[host] = max(self._free[host], now) + len(packet) * 8 / (link.rate * 1e3)
        self._loop.call_later(self._free[host] + link.delay / 1e3 - now, self._arrive, host, other, packet)

    def _arrive(self, host: str, other: str, packet: bytes) -> None:
        self._waiting[host] -= 1
        self._give(other, packet)

    def _give(self, other: str, packet: bytes) -> None:
        self.passed += 1
        with contextlib.suppress(OSError):  # a device that is down loses packets, as a cable without a plug does
            os.write(self._ends[other], packet)


def _open_tun(namespace: str) -> int:
    """The end of a new TUN device of a namespace; this thread belongs to the namespace from then on."""
    with open(f"/run/netns/{namespace}") as place:
        if ctypes.CDLL(None, use_errno=True).setns(place.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), _TUN | _NO_INFO))
    return end
