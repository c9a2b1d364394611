"""A server that stands in for Weights & Biases, for its real SDK: it keeps runs, records every request, checks shapes.

It knows what wandb 0.31 sends: GraphQL operations, `file_stream`, uploads, telemetry. Anything else, or one of these
with a wrong shape, is kept in `problems` and answered with an error; `close` fails on it. Use it as

    with WandbServer() as server:
        server.environment                      # WANDB_BASE_URL and a key, for a process that tracks
        server.behave("unavailable")            # from now on: ok, unavailable (503), hang, slow, closed
        server.behave_once_open("hang")         # as soon as a run is opened
        server.runs["muster/demo-1a2b3c4d"].rows
"""

from __future__ import annotations

import gzip
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self

KEY = "0123456789abcdef0123456789abcdef01234567"
ENTITY = "tester"
SLOW_S = 2.0
MANIFEST = "wandb_manifest.json"

Behaviour = Literal["ok", "unavailable", "hang", "slow", "closed"]

_STREAM = re.compile(r"/files/([^/]+)/([^/]+)/([^/]+)/file_stream")
_OPERATION = re.compile(r"(?:query|mutation)\s+(\w+)")
_TELEMETRY = {f"/sdk/otel/v1/{kind}" for kind in ("metrics", "logs", "traces")}
_STREAMED = {"wandb-history.jsonl", "wandb-summary.json", "wandb-events.jsonl", "output.log"}
_STREAM_KEYS = {"files", "complete", "exitcode", "preempting", "dropped", "uploaded", "clientId"}


@dataclass
class Request:
    """One request as it came: its body is decompressed text."""

    method: str
    path: str
    headers: dict[str, str]
    body: str
    time: float = field(default_factory=time.monotonic)


@dataclass
class Run:
    """A run as the server knows it. `rows` are its history by place in the file, `opened` counts UpsertBucket."""

    project: str
    name: str
    opened: int = 0
    display_name: str | None = None
    group: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    uploads: dict[str, bytes] = field(default_factory=dict)
    preempting: bool = False
    complete: bool = False
    exit_code: int | None = None
    stop: bool = False
    resumed: bool = False

    @property
    def history(self) -> list[dict[str, Any]]:
        """The rows without what the SDK adds to each of them."""
        return [{name: value for name, value in row.items() if not name.startswith("_")} for row in self.rows]


@dataclass
class Artifact:
    """An artifact while it is made: what CreateArtifact said, and its files by name."""

    run: Run
    about: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    committed: bool = False


class ShapeError(Exception):
    """A request that the service would not understand."""


class WandbServer:
    """The server, on a free port of the loopback. Every method may be called while it serves."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.problems: list[str] = []
        self.runs: dict[str, Run] = {}
        self.artifacts: list[Artifact] = []
        self.views: dict[str, dict[str, Any]] = {}
        self._behaviour: Behaviour = "ok"
        self._once_open: Behaviour = "ok"
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._server = _Listener(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, name="wandb-server", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close(check=kind is None)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY}

    def behave(self, behaviour: Behaviour) -> None:
        """From now on; `closed` refuses connections, and there is no way back from it."""
        if behaviour == "closed":
            self._stop_serving()
        self._behaviour = behaviour

    def behave_once_open(self, behaviour: Behaviour) -> None:
        """From the first answered UpsertBucket on: the run is there, and then the service goes away."""
        self._once_open = behaviour

    def run(self, name: str, project: str = "muster") -> Run:
        return self.runs[f"{project}/{name}"]

    def press_stop(self, name: str, project: str = "muster") -> None:
        """The stop button on the run's page: the next answer to its stream says so."""
        self.run(name, project).stop = True

    def operations(self) -> list[str]:
        """The GraphQL operations in their order."""
        found = (_OPERATION.search(json.loads(one.body)["query"]) for one in self.requests if one.path == "/graphql")
        return [match[1] for match in found if match]

    def traffic(self) -> str:
        """Everything that was sent here, but for the header that proves who the sender is."""
        parts = []
        for one in self.requests:
            headers = {name: value for name, value in one.headers.items() if name.lower() != "authorization"}
            parts.append(f"{one.method} {one.path} {json.dumps(headers)}\n{one.body}")
        return "\n".join(parts)

    def close(self, check: bool = True) -> None:
        """Stop serving.

        Raises:
            AssertionError: a request was not understood (`check`).
        """
        self._stop_serving()
        assert not (check and self.problems), self.problems

    def _stop_serving(self) -> None:
        if not self._closing.is_set():
            self._closing.set()
            self._server.shutdown()
            self._server.server_close()

    def answer(self, request: Request) -> tuple[int, Any]:
        """Status and content for one request."""
        behaviour = self._behaviour
        if behaviour == "hang":
            self._closing.wait(600)
        elif behaviour == "slow":
            self._closing.wait(SLOW_S)
        elif behaviour == "closed":
            raise ConnectionAbortedError
        with self._lock:
            self.requests.append(request)
            if behaviour in ("unavailable", "hang"):
                return 503, {"error": "unavailable"}
            try:
                return 200, self._content(request)
            except (ShapeError, KeyError, ValueError, TypeError) as error:
                problem = f"{request.method} {request.path}: {type(error).__name__} {error}; {request.body[:400]}"
                self.problems.append(problem)
                return 400, {"error": problem}

    def _content(self, request: Request) -> Any:
        if request.path in _TELEMETRY:
            return {}
        if request.headers.get("Authorization") is None:
            raise ShapeError("no Authorization header")
        if request.method == "POST" and request.path == "/graphql":
            body = json.loads(request.body)
            match = _OPERATION.search(body["query"])
            name = match[1] if match else ""
            if name not in _ANSWERS:
                raise ShapeError(f"unknown operation {name!r}")
            content = {"data": _ANSWERS[name](self, body.get("variables") or {})}
            if name == "UpsertBucket" and self._once_open != "ok":
                threading.Thread(target=self.behave, args=(self._once_open,), daemon=True).start()
                self._once_open = "ok"
            return content
        stream = _STREAM.fullmatch(request.path)
        if request.method == "POST" and stream:
            return self._stream(self.runs[f"{stream[2]}/{stream[3]}"], json.loads(request.body))
        upload = re.fullmatch(r"/upload/([^/]+)/([^/]+)/(.+)", request.path)
        if request.method == "PUT" and upload:
            self.runs[f"{upload[1]}/{upload[2]}"].uploads[upload[3]] = request.body.encode()
            return {}
        upload = re.fullmatch(r"/artifact/(\d+)/(.+)", request.path)
        if request.method == "PUT" and upload:
            made = self.artifacts[int(upload[1])]
            if upload[2] == MANIFEST:
                made.manifest = json.loads(request.body)
            else:
                made.files[upload[2]] = request.body.encode()
            return {}
        raise ShapeError("unknown request")

    def _stream(self, run: Run, body: Mapping[str, Any]) -> Any:
        unknown = set(body) - _STREAM_KEYS
        unknown |= set(body.get("files") or {}) - _STREAMED
        if unknown:
            raise ShapeError(f"unknown in file_stream: {sorted(unknown)}")
        for name, chunk in (body.get("files") or {}).items():
            offset, lines = int(chunk["offset"]), [str(line) for line in chunk["content"]]
            if name == "wandb-history.jsonl":
                if offset > len(run.rows):
                    raise ShapeError(f"history jumps from row {len(run.rows)} to {offset}")
                run.rows[offset:] = [_row(line) for line in lines]
            elif name == "wandb-summary.json":
                run.summary = json.loads(lines[-1])
        run.preempting = run.preempting or bool(body.get("preempting"))
        if body.get("complete"):
            run.resumed = False
            run.complete, run.exit_code = True, body.get("exitcode")
        return {"limits": {}, **({"stopped": True} if run.stop else {})}


def _row(line: str) -> dict[str, Any]:
    row = json.loads(line)
    if not isinstance(row, dict) or not isinstance(row.get("_step"), int):
        raise ShapeError(f"a row of history without _step: {line[:200]}")
    return row


def _viewer(server: WandbServer, variables: Mapping[str, Any]) -> Any:
    viewer = {"id": "viewer", "entity": ENTITY, "username": ENTITY, "email": "", "flags": "{}"}
    return {"viewer": {**viewer, "teams": {"edges": [{"node": {"name": ENTITY}}]}}}


def _features(server: WandbServer, variables: Mapping[str, Any]) -> Any:
    return {"serverInfo": {"features": []}}


def _organization(server: WandbServer, variables: Mapping[str, Any]) -> Any:
    return {"entity": {"organization": {"coreWeaveOrganizationId": None}}}


def _resume(server: WandbServer, variables: Mapping[str, Any]) -> Any:
    run = server.runs.get(f"{variables['project']}/{variables['name']}")
    if run is not None:
        run.resumed = True
    model = {"id": "project", "name": variables["project"], "entity": {"id": "entity", "name": ENTITY}}
    return {"model": {**model, "bucket": None if run is None else _as_resumed(run)}}


def _as_resumed(run: Run) -> dict[str, Any]:
    return {
        "id": f"bucket-{run.name}",
        "name": run.name,
        "summaryMetrics": json.dumps(run.summary),
        "displayName": run.display_name,
        "logLineCount": 0,
        "historyLineCount": len(run.rows),
        "eventsLineCount": 0,
        "historyTail": json.dumps([json.dumps(row) for row in run.rows[-1:]]),
        "eventsTail": "[]",
        "config": json.dumps(run.config),
        "tags": run.tags,
        "notes": "",
        "wandbConfig": json.dumps({"t": 1}),
    }


def _upsert(server: WandbServer, variables: Mapping[str, Any]) -> Any:
    project, name = variables["project"], variables["name"]
    inserted = f"{project}/{name}" not in server.runs
    run = server.runs.setdefault(f"{project}/{name}", Run(project, name))
    run.opened += 1
    run.complete = False
    run.config = json.loads(variables.get("config") or "{}") or run.config
    run.display_name = variables.get("displayName") or run.display_name
    run.group = variables.get("groupName") or run.group
    run.job_type = variables.get("jobType") or run.job_type
    run.tags = list(variables.get("tags") or run.tags)
    bucket = {
        "id": f"bucket-{name}",
        "name": name,
        "displayName": run.display_name,
        "description": None,
        "config": json.dumps(run.config),
        "sweepName": None,
        "project": {"id": "project", "name": project, "entity": {"id": "entity", "name": ENTITY}},
        # An id that is used again without resume starts anew: https://docs.wandb.ai/guides/runs/resuming
        "historyLineCount": len(run.rows) if run.resumed else 0,
    }
    return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}


def _create_files(server: WandbServer, variables: Mapping[str, Any]) -> Any:
    project, run = variables["project"], variables["run"]
    files = [{"name": name, "uploadUrl": f"{server.url}/upload/{project}/{run}/{name}"} for name in variables["files"]]
    headers = ["Authorization:upload"]
    return {"createRunFiles": {"runID": f"bucket-{run}", "uploadHeaders": headers, "files": files}}


def _uploaded(server: WandbServer, variables: Mapping[str, Any]) -> Any:
    return {"markRunFilesUploaded": {"success": True}}


def _alert(server: WandbServer, variables: Mapping[str, Any]) -> Any:
    run = server.runs[f"{variables['projectName']}/{variables['runName']}"]
    run.alerts.append({name: variables[name] for name in ("title", "text", "severity")})
    return {"notifyScriptableRunAlert": {"success": True}}


def _artifact_type(server: WandbServer, variables: Mapping[str, Any]) -> Any:
    return {"project": {"artifact": None}}


def _create_artifact(server: WandbServer, variables: Mapping[str, Any]) -> Any:
    about = variables["input"]
    server.artifacts.append(Artifact(server.runs[f"{about['projectName']}/{about['runName']}"], dict(about)))
    sequence = {"latestArtifact": None}
    number = str(len(server.artifacts) - 1)
    return {"createArtifact": {"artifact": {"id": number, "state": "PENDING", "artifactSequence": sequence}}}


def _create_manifest(server: WandbServer, variables: Mapping[str, Any]) -> Any:
    number = variables["artifactID"]
    made = {"id": f"manifest-{number}", "file": _artifact_file(server, number, MANIFEST)}
    return {"createArtifactManifest": {"artifactManifest": made}}


def _create_artifact_files(server: WandbServer, variables: Mapping[str, Any]) -> Any:
    wanted = (variables.get("input") or variables)["artifactFiles"]
    edges = [{"node": _artifact_file(server, spec["artifactID"], spec["name"])} for spec in wanted]
    return {"createArtifactFiles": {"files": {"edges": edges}}}


def _artifact_file(server: WandbServer, number: str, name: str) -> dict[str, Any]:
    place = {"uploadUrl": f"{server.url}/artifact/{number}/{name}", "uploadHeaders": ["Authorization:upload"]}
    names = {"id": f"{number}/{name}", "name": name, "displayName": name, "storagePath": f"{number}/{name}"}
    return {**names, **place, "uploadMultipartUrls": None, "artifact": {"id": number}}


def _commit_artifact(server: WandbServer, variables: Mapping[str, Any]) -> Any:
    number = variables["artifactID"]
    server.artifacts[int(number)].committed = True
    return {"commitArtifact": {"artifact": {"id": number, "digest": ""}}}


def _view(server: WandbServer, variables: Mapping[str, Any]) -> Any:
    """A workspace (UpsertView2) or a report (upsertView): one without an id is new."""
    number = variables.get("id") or f"view-{len(server.views)}"
    inserted = number not in server.views
    if inserted and variables.get("id"):
        raise ShapeError(f"no view {number}")
    given = {name: variables[name] for name in ("name", "displayName", "type", "entityName", "projectName")}
    server.views[number] = {**given, "spec": json.loads(variables["spec"])}
    project = {"id": "project", "name": given["projectName"], "entityName": given["entityName"]}
    view = {"id": number, **given, "description": "", "project": project, "spec": variables["spec"]}
    return {"upsertView": {"view": {**view, "updatedAt": "2026-11-01T00:00:00"}, "inserted": inserted}}


def _projects(server: WandbServer, variables: Mapping[str, Any]) -> Any:
    project = {"id": "project", "name": "muster", "entityName": ENTITY}
    project |= {"createdAt": "", "isBenchmark": False, "user": None}
    page = {"endCursor": None, "hasNextPage": False}
    return {"models": {"edges": [{"node": project, "cursor": ""}], "pageInfo": page}}


def _project(server: WandbServer, variables: Mapping[str, Any]) -> Any:
    return {"project": {"internalId": "project"}}


_ANSWERS: dict[str, Callable[[WandbServer, Mapping[str, Any]], Any]] = {
    "Viewer": _viewer,
    "ServerFeaturesQuery": _features,
    "OrganizationCoreWeaveOrganizationID": _organization,
    "RunResumeStatus": _resume,
    "UpsertBucket": _upsert,
    "CreateRunFiles": _create_files,
    "MarkRunFilesUploaded": _uploaded,
    "NotifyScriptableRunAlert": _alert,
    "GetDefaultEntity": _viewer,
    "GetProjects": _projects,
    "ProjectInternalId": _project,
    "UpsertView2": _view,
    "upsertView": _view,
    "ArtifactType": _artifact_type,
    "CreateArtifact": _create_artifact,
    "CreateArtifactManifest": _create_manifest,
    "CreateArtifactFiles": _create_artifact_files,
    "CommitArtifact": _commit_artifact,
}


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that is killed leaves its connections as they are."""


def _handler(server: WandbServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # the name that http.server calls
            self._serve()

        def do_PUT(self) -> None:
            self._serve()

        def do_GET(self) -> None:
            self._serve()

        def _serve(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                raw = gzip.decompress(raw)
            request = Request(self.command, self.path, dict(self.headers), raw.decode(errors="replace"))
            status, content = server.answer(request)
            encoded = json.dumps(content).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(encoded)))
                self.end_headers()
                self.wfile.write(encoded)
            except OSError:
                self.close_connection = True  # the client has gone

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing: what came is in `requests`."""

    return Handler
