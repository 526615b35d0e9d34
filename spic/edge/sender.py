"""Sends what waits in the spool, in order, and tries again until it is answered: a thread beside the one that codes.

One stream is on its way at a time, so answers come in the order of the pictures.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence

from spic.coding.stream import StreamHeader
from spic.edge.client import Away, Client, Refused
from spic.edge.rate import Link
from spic.edge.report import Report
from spic.edge.spool import Parcel, Spool, SpoolFull
from spic.errors import SpicError

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 30.0
"""Seconds before the first new attempt, and the most between two; each time twice as long, less a random share."""
LONGEST_WISH = 120.0
"""A server may ask for no longer pause."""
PING_SECONDS = 5.0


class Sender(threading.Thread):
    """patience: seconds that the server may be away once nothing else can be done; infinite for cameras."""

    def __init__(self, client: Client, spool: Spool, report: Report, headers: Sequence[StreamHeader], patience: float,
                 link: Link | None = None):
        super().__init__(name="spic-sender", daemon=True)
        self.client, self.spool, self.report, self.headers = client, spool, report, headers
        self.patience, self.link = patience, link
        self.error: SpicError | None = None
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._idle = threading.Event()  # nothing else is to be done: pictures are through, or the spool is full
        self._away_since: float | None = None
        self._checked = False

    # ---- for the thread that codes ----------------------------------------------------------------------------------

    def check(self) -> None:
        """Ask the server for its points now. Away, or Denied where they are not ours."""
        self.client.require(self.headers)
        self._checked = True

    def put(self, parcel: Parcel, can_wait: bool, keys: Sequence[str] = ()) -> None:
        """Into the spool (see Spool.put), waiting for room where the source can wait. SpoolFull: no room; SpicError: sending
        has ended."""
        while True:
            with self._changed:
                self._raise_error()
                try:
                    self.spool.put(parcel, keys)
                    self._changed.notify_all()
                    return
                except SpoolFull:
                    if not can_wait or not self.spool.waiting()[0]:
                        raise
                    self._idle.set()
                    self._changed.wait(0.5)
                    self._idle.clear()

    def settle(self) -> None:
        """Wait until at most one stream waits or is on its way: to code further ahead would only make answers late."""
        while True:
            with self._changed:
                self._raise_error()
                if self.spool.parcels() <= 1:
                    return
                self._idle.set()
                self._changed.wait(0.5)
                self._idle.clear()

    def took(self, key: str) -> bool:
        """Whether this run or an earlier one has put the file of this key into the spool."""
        with self._changed:
            return self.spool.took(key)

    def waiting_bytes(self) -> int:
        with self._changed:
            return self.spool.waiting()[1]

    def finish(self) -> None:
        """Wait until all is answered. SpicError where that will not come about."""
        self._idle.set()
        while self.is_alive():
            with self._changed:
                if not self.spool.oldest():
                    break
                self._changed.wait(0.5)
        self.stop()
        self._raise_error()

    def stop(self) -> None:
        """End the thread; what it has not sent stays in the spool."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        if self.is_alive():
            self.join(timeout=1.0)

    def _raise_error(self) -> None:
        if self.error:
            raise self.error

    # ---- the thread ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Parcel by parcel, until stopped or in error."""
        try:
            while not self._stopping.is_set():
                with self._changed:
                    parcel = self.spool.oldest()
                    if parcel is None:
                        self._changed.wait(0.5)
                        continue
                self._deliver(parcel)
        except SpicError as error:
            self.error = error
        except Exception as error:  # nothing may end in silence with pictures waiting
            self.error = SpicError(f"sending ended by {type(error).__name__}: {error}; please report this as a bug")
        with self._changed:
            self._changed.notify_all()

    def _deliver(self, parcel: Parcel) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            try:
                self._try(parcel)
                self._away_since = None
                return
            except Away as error:
                self._be_patient(error)
                wish = min(error.retry_after, LONGEST_WISH)
                self._stopping.wait(max(wish, pause * random.uniform(0.5, 1)))
                pause = min(2 * pause, LONGEST_PAUSE)

    def _try(self, parcel: Parcel) -> None:
        """Once: answered or refused, the parcel is told of and leaves the spool."""
        if not self._checked:
            self.check()
        self._ping()
        waited = 1e3 * max(0.0, time.time() - parcel.made)
        try:
            answered = self.client.predict(parcel.body, parcel.id, len(parcel.pictures))
        except Refused as error:
            for picture in parcel.pictures:
                self.report.failure(picture, str(error))
        else:
            self.report.answer(parcel, answered, waited)
            if self.link:
                self.link.add(len(parcel.body), answered.seconds, answered.cloud_ms)
        with self._changed:
            self.spool.remove(parcel)
            self._changed.notify_all()

    def _ping(self) -> None:
        """Where the link's speed matters: how long a trip takes, now and then."""
        now = time.monotonic()
        if self.link and now - self.link.pinged > PING_SECONDS:
            self.link.ping(self.client.ping(), now)

    def _be_patient(self, error: Away) -> None:
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
            self.report.note(f"{error}; trying again")
        if self._idle.is_set() and now - self._away_since > self.patience:
            raise SpicError(f"{error}; given up after {now - self._away_since:.0f} s (--patience)")


