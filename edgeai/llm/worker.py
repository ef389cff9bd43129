"""The one thread that touches a model: whoever wants something of it queues a job."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from edgeai.llm.residence import Residence

Result = TypeVar("Result")


class Worker:
    """A thread that loads a model, runs jobs on it one after another, and frees it."""

    def __init__(self, load: Callable[[], Residence]) -> None:
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[Residence], Any]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # guards the three fields below
        self._residence: Residence | None = None
        self._running: Future[Any] | None = None
        self._stopped = False
        # A daemon, so that a process that never closes its generator can end; `weakref.finalize` stops it first.
        self._thread = threading.Thread(target=self._run, args=(load,), name="edgeai-llama", daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[Residence], Result]) -> Future[Result]:
        """Queue a job; its future raises what loading the model raised."""
        future: Future[Result] = Future()
        with self._lock:
            if self._stopped:
                raise RuntimeError("The generator is closed.")
            self._jobs.put((future, job))
        return future

    def abandon(self, future: Future[Any]) -> None:
        """Stop a job, whether it is waiting, running or done."""
        future.cancel()
        with self._lock:
            if self._running is future and self._residence:
                self._residence.llama.interrupt()

    def stop(self) -> None:
        """Stop the running job, refuse the waiting ones, free the model and end the thread."""
        with self._lock:
            if not self._stopped:
                self._stopped = True
                self._jobs.put(None)
            if self._residence:
                self._residence.llama.interrupt()
        if threading.current_thread() is not self._thread:  # the collector may run on any thread
            self._thread.join()

    def _run(self, load: Callable[[], Residence]) -> None:
        failure: BaseException | None = None
        try:
            self._residence = load()
        except BaseException as error:  # raised again by every job
            failure = error
        while (item := self._jobs.get()) is not None:
            future, job = item
            if self._start(future):
                self._serve(future, job, failure)
            del item, future, job  # a job must not live on while the thread waits for the next one
        if self._residence:
            self._residence.close()

    def _start(self, future: Future[Any]) -> bool:
        with self._lock:
            if not future.set_running_or_notify_cancel():
                return False
            if self._stopped:
                future.set_exception(RuntimeError("The generator is closed."))
                return False
            self._running = future
            if self._residence:
                self._residence.llama.resume()
            return True

    def _serve(self, future: Future[Any], job: Callable[[Residence], Any], failure: BaseException | None) -> None:
        try:
            if failure:
                raise failure
            assert self._residence is not None
            future.set_result(job(self._residence))
        except BaseException as error:  # handed to the caller, whatever it is
            future.set_exception(error)
        finally:
            with self._lock:
                self._running = None
