"""The HTTP side: which paths there are, and what each does with a request. torch is imported once a model is there."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from conf.schema import TaskName
from conf.serving import ServeSettings
from train.serve import prompts
from train.serve.answers import Answer, usage
from train.serve.errors import ApiError, broken, loading, wrong
from train.serve.requests import (
    ChatRequest,
    ClassifyRequest,
    CompletionRequest,
    Generated,
    Sampled,
    SummarizeRequest,
)
from train.serve.turns import Turns
from train.serve.wish import Finish, Wish

if TYPE_CHECKING:
    from train.serve.served import Served

COMPLETION_TOKENS = 16
"""OpenAI's default of `max_tokens` for plain completions."""

PATHS = {
    TaskName.causal_lm: ("/v1/chat/completions", "/v1/completions"),
    TaskName.seq2seq_lm: ("/v1/summarize",),
    TaskName.seq_cls: ("/v1/classify",),
}
"""What each kind of model answers."""


class Desk:
    """Where requests meet the model: `served` is None until it is loaded."""

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.served: Served | None = None
        self.turns = Turns(settings.queue)

    def ready(self, task: TaskName, model: str | None) -> Served:
        """The model, for a request of this kind.

        Raises:
            ApiError: it is still loading, is another one, or does something else.
        """
        if self.served is None:
            raise loading()
        if model is not None and model != self.served.name:
            raise ApiError(404, f"no model {model!r} here; there is {self.served.name!r}", code="model_not_found")
        if task is not self.served.task:
            paths = " or ".join(PATHS[self.served.task])
            raise wrong(f"{self.served.name} is a model for {self.served.task.value}: POST {paths}", "model")
        return self.served

    def wish(self, request: Sampled, new_tokens: int, **more: Any) -> Wish:
        """How the answer to a request shall be generated, from now on."""
        return Wish(
            new_tokens=new_tokens,
            deadline=time.monotonic() + self.settings.timeout_s,
            timeout_s=self.settings.timeout_s,
            temperature=request.temperature,
            top_p=request.top_p,
            seed=request.seed,
            **more,
        )

    async def generate(self, served: Served, request: Generated, prompt: list[int], chat: bool) -> Response:
        """Answer a prompt, whole or as a stream."""
        from train.serve.generation import generate

        default = None if chat else COMPLETION_TOKENS
        tokens = prompts.room(served, self.settings, len(prompt), request.new_tokens, default)
        turn = self.turns.take(partial(generate, served, prompt, self.wish(request, tokens, stops=request.stops)))
        answer = Answer(served.name, chat)
        if request.stream:
            headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
            events = answer.events(turn, request.include_usage)
            return StreamingResponse(events, media_type="text/event-stream", headers=headers)
        text = "".join([piece async for piece in turn.pieces()])
        return JSONResponse(answer.whole(text, await turn.result()))

    def require_few(self, count: int) -> None:
        """Refuse more texts than a request may have.

        Raises:
            ApiError: there are more.
        """
        if count > self.settings.max_texts:
            raise wrong(f"{count} texts are more than a request may have: {self.settings.max_texts}", "input")


def make_app(desk: Desk) -> FastAPI:
    """The application; its documentation is /openapi.json."""
    app = FastAPI(title="Muster", docs_url=None, redoc_url=None)
    _add_reading(app, desk)
    _add_generation(app, desk)
    _add_texts(app, desk)
    _add_errors(app)
    return app


def _add_reading(app: FastAPI, desk: Desk) -> None:
    @app.get("/health")
    async def health() -> JSONResponse:
        if desk.served is None:
            return JSONResponse({"status": "loading"}, 503, {"Retry-After": "1"})
        return JSONResponse({"status": "ready"})

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        if desk.served is None:
            raise loading()
        served = desk.served
        entry = {"id": served.name, "object": "model", "created": served.created, "owned_by": "muster"}
        limits = {"max_model_len": served.context, "task": served.task.value}
        return {"object": "list", "data": [{**entry, **limits}]}


def _add_generation(app: FastAPI, desk: Desk) -> None:
    @app.post("/v1/chat/completions")
    async def chat(request: ChatRequest) -> Response:
        served = desk.ready(TaskName.causal_lm, request.model)
        return await desk.generate(served, request, prompts.chat_prompt(served, request), chat=True)

    @app.post("/v1/completions")
    async def complete(request: CompletionRequest) -> Response:
        served = desk.ready(TaskName.causal_lm, request.model)
        return await desk.generate(served, request, prompts.completion_prompt(served, request), chat=False)


def _add_texts(app: FastAPI, desk: Desk) -> None:
    settings = desk.settings

    @app.post("/v1/classify")
    async def judge(request: ClassifyRequest) -> dict[str, Any]:
        served = desk.ready(TaskName.seq_cls, request.model)
        from train.serve.classification import classify

        pairs = request.pairs
        desk.require_few(len(pairs))
        limit = prompts.prompt_limit(served, settings)
        texts = [prompts.encode_pair(served, pair, limit, request.truncate) for pair in pairs]
        deadline = time.monotonic() + settings.timeout_s
        turn = desk.turns.take(
            lambda _, over: classify(served, texts, settings.batch_size, deadline, settings.timeout_s, over)
        )
        judged = await turn.result()
        data = [{"index": place, **found.fields} for place, found in enumerate(judged)]
        read = [Finish("stop", found.tokens, 0) for found in judged]
        return {"object": "list", "model": served.name, "data": data, "usage": usage(read)}

    @app.post("/v1/summarize")
    async def summarize(request: SummarizeRequest) -> dict[str, Any]:
        served = desk.ready(TaskName.seq2seq_lm, request.model)
        from train.serve.generation import generate_texts

        desk.require_few(len(request.texts))
        limit = prompts.prompt_limit(served, settings)
        documents = [prompts.encode_text(served, text, limit, request.truncate) for text in request.texts]
        tokens = request.max_tokens or served.model.generation_config.max_new_tokens or settings.max_new_tokens
        prompts.require_given(settings, tokens)
        wish = desk.wish(request, tokens, num_beams=request.num_beams)
        turn = desk.turns.take(lambda _, over: generate_texts(served, documents, wish, settings.batch_size, over))
        texts, finishes = await turn.result()
        data = [
            {"index": place, "summary": text, "finish_reason": finish.reason}
            for place, (text, finish) in enumerate(zip(texts, finishes, strict=True))
        ]
        return {"object": "list", "model": served.name, "data": data, "usage": usage(finishes)}


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def told(_: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return _invalid(error).response()

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        return ApiError(error.status_code, str(error.detail), headers=error.headers).response()

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        return broken().response()


def _invalid(error: RequestValidationError) -> ApiError:
    """Every problem of a request, in one message; a body that is not JSON by its type was never read as such."""
    if any(
        problem["type"] in ("model_attributes_type", "missing") and len(problem["loc"]) == 1
        for problem in error.errors()
    ):
        return ApiError(415, "a JSON object is expected, with Content-Type: application/json")
    lines: dict[str, str] = {}
    for problem in error.errors():
        names = [str(part) for part in problem["loc"][1:] if isinstance(part, int) or part.isidentifier()]
        if problem["type"] == "json_invalid":
            names = []
        lines.setdefault(".".join(names), str(problem["msg"]).removeprefix("Value error, "))
    message = "; ".join(f"{name}: {text}" if name else text for name, text in lines.items())
    return wrong(message, next((name for name in lines if name), None))
