"""Ray Serve around the pipeline: batches out of the requests that wait, one replica a device.

The only file that imports ray.serve (`pip install 'vmhan[ray]'`).
"""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from datasets_scripts.ray_engine import connected, device_of_a_worker
from modeling_vmhan.handler import answers_to
from vmhan.inference.serve.requests import Asked, Limits, Refused, open_picture, read_request


__all__ = ["Answering", "Settings", "served"]

NAME = "vmhan"  # of the application and the deployment, in Ray's logs and metrics
OPENERS = 16  # threads of a replica that fetch and decode pictures ahead of the device


@dataclass(frozen=True)
class Settings:
    """How the service runs.

    batch_size: posts answered in one pass, at most; batch_wait: seconds that a batch waits to be full. max_ongoing:
    requests in a replica, beside which max_queued wait and others get 503. timeout: seconds until a request gets 408.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    metrics_port: int | None = None
    num_replicas: int = 1
    ray_address: str | None = None
    batch_size: int = 16
    batch_wait: float = 0.0
    max_ongoing: int = 64
    max_queued: int = 256
    timeout: float = 60.0
    limits: Limits = field(default_factory=Limits)


class Answering:
    """A replica: one pipeline, whose passes follow each other in a thread of its own."""

    def __init__(self, load_pipe: Callable[[], Any], settings: Settings):
        from ray import serve

        self.pipe, self.settings = load_pipe(), settings
        self.device, self.openers = ThreadPoolExecutor(1), ThreadPoolExecutor(OPENERS)
        sizes = {"max_batch_size": settings.batch_size, "batch_wait_timeout_s": settings.batch_wait}
        ahead = 2  # one on the device, and one behind it, so that it does not wait for the answers to be sent
        self.answer = serve.batch(**sizes, max_concurrent_batches=ahead)(self.answer_batch)
        self.is_free = asyncio.Event()
        self.is_free.set()

    async def __call__(self, request: Any) -> Any:
        """The response to a `starlette.requests.Request`."""
        from starlette.responses import Response

        if request.method in ("GET", "HEAD"):  # a probe, which no replica answers before it is ready
            return Response("ready", media_type="text/plain")
        try:
            status, content = 200, await self._answers(await read_request(request, self.settings.limits))
        except Refused as refused:
            status, content = refused.status, {"error": str(refused)}
        if isinstance(content, dict) and {"error", "index", "id"} <= set(content):
            status = 422
        return Response(json.dumps(content), status_code=status, media_type="application/json")

    async def _answers(self, asked: Asked) -> Any:
        options = json.dumps(asked.parameters, sort_keys=True)
        answers = await asyncio.gather(*(self._answered(i, post, options) for i, post in enumerate(asked.posts)))
        return list(answers) if asked.is_list else answers[0]

    async def _answered(self, index: int, post: Any, options: str) -> Any:
        """The answer to one post, its picture opened before it waits for the device."""
        if isinstance(post, dict) and post.get("image") is not None:
            loop = asyncio.get_running_loop()
            try:
                post = await loop.run_in_executor(self.openers, open_picture, post, self.settings.limits)
            except ValueError as error:
                return {"error": str(error), "index": index, "id": post.get("id")}
        await self.is_free.wait()  # serve.batch closes a batch before those ahead of it have ended: it would be small
        answer = await self.answer((post, options))
        return {**answer, "index": index} if isinstance(answer, dict) and "error" in answer else answer

    async def answer_batch(self, asked: list[tuple[Any, str]]) -> list[Any]:
        """Answers to posts of several requests, whose parameters may differ."""
        self.is_free.clear()
        try:
            return await asyncio.get_running_loop().run_in_executor(self.device, self._answer_groups, asked)
        finally:
            self.is_free.set()

    def _answer_groups(self, asked: Sequence[tuple[Any, str]]) -> list[Any]:
        answers: dict[int, Any] = {}
        for options in dict.fromkeys(options for _, options in asked):
            group = [i for i, (_, of_post) in enumerate(asked) if of_post == options]
            answers |= zip(group, self._answer_group([asked[i][0] for i in group], json.loads(options)))
        return [answers[i] for i in range(len(asked))]

    def _answer_group(self, posts: list[Any], options: dict[str, Any]) -> list[Any]:
        try:
            return list(answers_to(self.pipe, posts, batch_size=self.settings.batch_size, **options))
        except ValueError as error:  # a parameter's, as each post fails alone
            return [{"error": str(error), "index": 0, "id": None} for _ in posts]


@contextlib.contextmanager
def served(load_pipe: Callable[[], Any], settings: Settings) -> Iterator[str]:
    """Serve inside the block, and yield the service's address once every replica is ready.

    `load_pipe` is pickled to each replica and called there; errors are those of `ray_engine.connected`.
    """
    metrics = {} if settings.metrics_port is None else {"_metrics_export_port": settings.metrics_port}
    with connected(num_workers=settings.num_replicas, address=settings.ray_address, **metrics) as ray:
        try:
            from ray import serve
        except ImportError as error:
            raise ImportError("vmhan serve needs Ray Serve: pip install 'vmhan[ray]'") from error
        places = {"host": settings.host, "port": settings.port, "request_timeout_s": settings.timeout}
        quiet = {"log_level": "WARNING", "enable_access_log": False}
        serve.start(http_options=places, logging_config=quiet)
        deployment = serve.deployment(Answering).options(
            name=NAME,
            num_replicas=settings.num_replicas,
            max_ongoing_requests=settings.max_ongoing,
            max_queued_requests=settings.max_queued,
            ray_actor_options=device_of_a_worker(ray, settings.num_replicas),
        )
        try:
            serve.run(deployment.bind(load_pipe, settings), name=NAME, logging_config=quiet)
            yield f"http://{settings.host}:{settings.port}"
        finally:
            serve.shutdown()
