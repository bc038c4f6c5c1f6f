"""Ctrl-C during a verification: what has been found by then is proved, shown and kept."""

import signal
import threading
from types import FrameType


class Interruption:
    """Counts Ctrl-C while it is entered; true once there was one.

    The first ends what is under way: solver and search catch the KeyboardInterrupt and hand over their best. While
    `shielded` it only counts, so that a proof is finished, without which the solve was in vain. A second one always
    ends everything.
    """

    def __init__(self) -> None:
        self.count = 0
        self.shielded = False

    def __enter__(self) -> "Interruption":
        # Only the main thread may set a handler, and only there does Ctrl-C arrive.
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._main:
            signal.signal(signal.SIGINT, self._previous)

    def __bool__(self) -> bool:
        return self.count > 0

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 1 or not self.shielded:
            raise KeyboardInterrupt
