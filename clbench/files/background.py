"""Work that goes on beside the run: one piece at a time, in order, and nothing of it is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable

from clbench.errors import reason


class Background:
    """A thread for one piece of work after the other.

    What a piece of work raises is raised by the next call of a method, so that it stops the run.
    """

    def __init__(self) -> None:
        # Not the thread itself: one whose join Ctrl-C has cut off counts as ended in some Pythons,
        # so that nothing would wait for it any more, the interpreter's end neither.
        self._done: threading.Event | None = None
        self._error: BaseException | None = None

    def start(self, work: Callable[[], object]) -> None:
        """Begin a piece of work, once the one before it is done.

        Args:
            work: what nobody else changes meanwhile is all it may read.

        Raises:
            BaseException: what the one before it raised; then this one is not begun.
        """
        self.join()
        done = threading.Event()
        # No daemon: Python waits for it before it ends.
        thread = threading.Thread(target=self._do, args=(work, done), name="clbench-background")
        thread.start()
        self._done = done

    def check(self) -> None:
        """Raise what failed, without waiting.

        Raises:
            BaseException: what the work raised.
        """
        if self._error is not None:
            self.join()

    def join(self) -> None:
        """Wait for what is at work.

        Raises:
            BaseException: what the work raised.
        """
        if self._done is not None:
            self._done.wait()
            self._done = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def close(self) -> str:
        """Wait, where something else has failed; the reason in words if this has failed, too."""
        try:
            self.join()
        except Exception as error:
            return reason(error)
        except BaseException as error:  # Ctrl-C while waiting, say
            return type(error).__name__
        return ""

    def _do(self, work: Callable[[], object], done: threading.Event) -> None:
        try:
            work()
        except BaseException as error:
            self._error = error
        finally:
            done.set()
