# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
A small Hugging Face Hub on loopback: as much of its HTTP interface as loading from and pushing to model repos needs.

Repos live in memory. Large files go the way of the real Hub: `resolve` redirects to another host, here `localhost` in
place of `127.0.0.1`, to which the client must not send its token.
"""

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit


LFS_ENDINGS = (".safetensors", ".bin", ".pt")  # what the Hub's own .gitattributes sends to LFS, as far as needed here


class HubError(Exception):
    """An answer that is no success, with the headers by which the client tells one from another."""

    def __init__(self, status: int, message: str, code: str | None = None, commit: str | None = None):
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message}
        if code is not None:
            self.headers["X-Error-Code"] = code
        if commit is not None:
            self.headers["X-Repo-Commit"] = commit


class Blob(NamedTuple):
    """A file's content and how it is stored."""

    data: bytes
    is_lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def git_oid(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_lfs else self.git_oid


class Request(NamedTuple):
    """What a client asked for and what it got."""

    method: str
    path: str
    status: int
    num_bytes: int
    first_byte: int
    token: str | None
    repo: str | None = None
    file: str | None = None


@dataclass
class Repo:
    """A model repo: commits are whole trees, branches and tags point at them."""

    name: str
    is_private: bool = False
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        self.commit("main", {})

    def find_commit(self, revision: str) -> str:
        found = self.branches.get(revision) or self.tags.get(revision)
        if found is None and revision in self.commits:
            found = revision
        if found is None:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found

    def commit(self, branch: str, tree: dict[str, Blob]) -> str:
        names = "".join(f"{path}:{blob.git_oid}" for path, blob in sorted(tree.items()))
        oid = hashlib.sha1(f"{self.name}:{len(self.commits)}:{names}".encode()).hexdigest()
        self.commits[oid] = tree
        self.branches[branch] = oid
        return oid

    def tree(self, revision: str = "main") -> dict[str, Blob]:
        return self.commits[self.find_commit(revision)]


class LoopbackHub:
    """
    The hub, running while its `with` block lasts.

    Args:
        users (`dict[str, str]`):
            For each token the organization that its bearer reads and writes.

    Attributes:
        repos (`dict[str, Repo]`): What was pushed, by `"org/name"`.
        requests (`list[Request]`): What was asked for, in order.
    """

    def __init__(self, users: dict[str, str]):
        self.users = users
        self.repos: dict[str, Repo] = {}
        self.lfs_objects: dict[str, bytes] = {}
        self.requests: list[Request] = []
        self.cuts: list[int] = []
        self.is_failing = False
        self._port = 0
        self._server: _Server | None = None

    def __enter__(self) -> "LoopbackHub":
        self._start()
        return self

    def __exit__(self, *error) -> None:
        self._stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def storage_url(self) -> str:
        """Where large files lie: another host for whoever looks at names."""
        return f"http://localhost:{self._port}"

    @contextmanager
    def unplugged(self) -> Iterator[None]:
        """Nothing listens while the block lasts."""
        self._stop()
        try:
            yield
        finally:
            self._start()

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Large files are refused with 503 as soon as the next cut has happened, while the block lasts."""
        try:
            yield
        finally:
            self.is_failing = False

    def cut_next_download(self, after: int, then_fail: bool = False) -> None:
        """Closes the connection of the next large file after so many bytes."""
        self.cuts.append(after)
        self._fail_after_cut = then_fail

    def find_repo(self, name: str, token: str | None, write: bool = False) -> Repo:
        """The repo, if the bearer of the token may see it (or change it)."""
        if token is not None and token not in self.users:
            raise HubError(401, "Invalid credentials in Authorization header")
        repo, is_owner = self.repos.get(name), self.users.get(token) == name.split("/")[0]
        if repo is None or (repo.is_private and not is_owner):
            # Whoever is not logged in is not told whether a repo exists.
            raise HubError(401 if token is None else 404, "Repository not found", "RepoNotFound")
        if write and not is_owner:
            raise HubError(403, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")
        return repo

    def downloads(self, repo: str | None = None) -> list[Request]:
        """The requests that sent a file's content."""
        found = [request for request in self.requests if request.method == "GET" and request.file is not None]
        return [request for request in found if repo in (None, request.repo) and request.status in (200, 206)]

    def _start(self) -> None:
        self._server = _Server(("127.0.0.1", self._port), _Handler)
        self._server.hub = self
        self._port = self._server.server_address[1]
        # A short poll lets it stop at once.
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def _stop(self) -> None:
        self._server.shutdown()
        self._server.hang_up()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    hub: LoopbackHub

    def __init__(self, *args):
        self._connections: set[socket.socket] = set()
        super().__init__(*args)

    def process_request(self, request, client_address):
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        self._connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Ends the connections that clients keep alive."""
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request, client_address):
        """A client that hangs up is no news."""


ROUTES: list[tuple[str, re.Pattern, Callable]] = []
REPO = r"(?P<name>[^/]+/[^/]+)"


def route(method: str, pattern: str):
    """Registers a method of the handler for the paths that `pattern` matches; its groups become arguments."""

    def register(function: Callable) -> Callable:
        ROUTES.append((method, re.compile(pattern.replace("REPO", REPO)), function))
        return function

    return register


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    @property
    def hub(self) -> LoopbackHub:
        return self.server.hub

    @property
    def token(self) -> str | None:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") or None

    def log_message(self, *arguments) -> None:
        """Tests look at `LoopbackHub.requests`."""

    def handle_request(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        try:
            for method, pattern, function in ROUTES:
                if method == self.command and (match := pattern.fullmatch(path)):
                    groups = {name: unquote(text) for name, text in match.groupdict().items() if text is not None}
                    function(self, **groups)
                    return
            raise HubError(404, f"the loopback hub has nothing at {self.command} {path}")
        except HubError as error:
            self.send_json({"error": str(error)}, error.status, error.headers)
        except (KeyError, TypeError, ValueError) as error:  # a mistake of this file or of the client's
            self.send_json({"error": f"{self.command} {path}: {error!r}"}, 400)

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    # Answers.

    def send_json(self, content, status: int = 200, headers: dict | None = None) -> None:
        self.send(json.dumps(content).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def send(
        self,
        data: bytes,
        status: int = 200,
        headers: dict | None = None,
        cut: int | None = None,
        first_byte: int = 0,
        **about,
    ) -> None:
        sent = b"" if self.command == "HEAD" else data[:cut]
        path = urlsplit(self.path).path
        self.hub.requests.append(Request(self.command, path, status, len(sent), first_byte, self.token, **about))
        self.send_response(status)
        for name, value in {"Content-Length": len(data), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(sent)
        if cut is not None:
            self.close_connection = True

    def send_content(self, blob: Blob, headers: dict, cut: int | None = None, **about) -> None:
        """Sends a file, or the rest of it that `Range` asks for."""
        headers = {"ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes", **headers}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            self.send(blob.data, 200, headers, cut, **about)
            return
        start, size = int(wanted[1]), len(blob.data)
        end = min(int(wanted[2]) + 1, size) if wanted[2] else size
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        self.send(blob.data[start:end], 206, headers, cut, first_byte=start, **about)

    # Reading.

    @route("GET", "/api/models/REPO")
    def model_info(self, name: str) -> None:
        self.revision_info(name, "main")

    @route("GET", "/api/models/REPO/revision/(?P<revision>[^/]+)")
    def revision_info(self, name: str, revision: str) -> None:
        repo = self.hub.find_repo(name, self.token)
        siblings = [{"rfilename": path} for path in sorted(repo.tree(revision))]
        info = {"id": name, "modelId": name, "private": repo.is_private, "siblings": siblings, "tags": []}
        self.send_json(info | {"sha": repo.find_commit(revision)})

    @route("GET", "/api/models/REPO/tree/(?P<revision>[^/]+)(/(?P<folder>.*))?")
    def list_tree(self, name: str, revision: str, folder: str | None = None) -> None:
        repo = self.hub.find_repo(name, self.token)
        prefix = f"{folder}/" if folder else ""
        tree = {path: blob for path, blob in sorted(repo.tree(revision).items()) if path.startswith(prefix)}
        if prefix and not tree:
            raise HubError(404, "Entry not found", "EntryNotFound", repo.find_commit(revision))
        wants_all = parse_qs(urlsplit(self.path).query).get("recursive") == ["true"]
        files = [path for path in tree if wants_all or "/" not in path.removeprefix(prefix)]
        folders = {prefix + path.removeprefix(prefix).split("/")[0] for path in tree.keys() - set(files)}
        entries = [{"type": "directory", "path": path, "oid": repo.find_commit(revision)} for path in sorted(folders)]
        self.send_json(entries + [_describe(path, tree[path]) for path in files])

    @route("GET", "/api/models/REPO/refs")
    def list_refs(self, name: str) -> None:
        repo = self.hub.find_repo(name, self.token)
        refs = {"branches": ("heads", repo.branches), "tags": ("tags", repo.tags)}
        found = {
            kind: [{"name": ref, "ref": f"refs/{folder}/{ref}", "targetCommit": oid} for ref, oid in targets.items()]
            for kind, (folder, targets) in refs.items()
        }
        self.send_json(found | {"converts": []})

    @route("HEAD", "/REPO/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
    @route("GET", "/REPO/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
    def resolve(self, name: str, revision: str, path: str) -> None:
        repo = self.hub.find_repo(name, self.token)
        commit = repo.find_commit(revision)
        blob = repo.commits[commit].get(path)
        if blob is None:
            raise HubError(404, "Entry not found", "EntryNotFound", commit)
        if not blob.is_lfs:
            self.send_content(blob, {"X-Repo-Commit": commit}, repo=name, file=path)
            return
        headers = {
            "X-Repo-Commit": commit,
            "X-Linked-Etag": f'"{blob.etag}"',
            "X-Linked-Size": len(blob.data),
            "Location": f"{self.hub.storage_url}/storage/{blob.sha256}/{name}/{path}",
        }
        self.send(b"", 302, headers)

    @route("GET", "/storage/(?P<oid>[0-9a-f]{64})/REPO/(?P<path>.+)")
    def download(self, oid: str, name: str, path: str) -> None:
        hub = self.hub
        if hub.is_failing:
            raise HubError(503, "Service unavailable")
        cut = hub.cuts.pop(0) if hub.cuts else None
        if cut is not None:
            hub.is_failing = hub._fail_after_cut
        self.send_content(Blob(hub.lfs_objects[oid], is_lfs=True), {}, cut, repo=name, file=path)

    # Writing.

    @route("POST", "/api/repos/create")
    def create_repo(self) -> None:
        wanted = json.loads(self.body)
        organization = wanted["organization"] or self.hub.users.get(self.token)
        if self.token not in self.hub.users:
            raise HubError(401, "Invalid username or password.")
        if self.hub.users[self.token] != organization:
            raise HubError(403, f"You don't have the rights to create a model under the namespace {organization!r}")
        name = f"{organization}/{wanted['name']}"
        about = {"url": f"{self.hub.url}/{name}", "name": name, "id": name}
        if name in self.hub.repos:
            self.send_json(about | {"error": "You already created this model repo"}, 409)
            return
        self.hub.repos[name] = Repo(name, is_private=wanted.get("visibility") == "private")
        self.send_json(about)

    @route("POST", "/api/validate-yaml")
    def validate_yaml(self) -> None:
        self.send_json({"errors": [], "warnings": []})

    @route("POST", "/api/models/REPO/preupload/(?P<revision>[^/]+)")
    def preupload(self, name: str, revision: str) -> None:
        tree = self.hub.find_repo(name, self.token, write=True).tree(revision)
        files = []
        for file in json.loads(self.body)["files"]:
            path, known = file["path"], tree.get(file["path"])
            mode = "lfs" if path.endswith(LFS_ENDINGS) else "regular"
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": known and known.etag})
        self.send_json({"files": files})

    @route("POST", r"/REPO\.git/info/lfs/objects/batch")
    def lfs_batch(self, name: str) -> None:
        self.hub.find_repo(name, self.token, write=True)
        objects = json.loads(self.body)["objects"]
        for entry in objects:
            if entry["oid"] not in self.hub.lfs_objects:
                entry["actions"] = {"upload": {"href": f"{self.hub.storage_url}/storage/{entry['oid']}"}}
        self.send_json({"transfer": "basic", "objects": objects})

    @route("PUT", "/storage/(?P<oid>[0-9a-f]{64})")
    def upload(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise HubError(400, "what was sent is not what was announced")
        self.hub.lfs_objects[oid] = self.body
        self.send(b"")

    @route("POST", "/api/models/REPO/commit/(?P<branch>[^/]+)")
    def commit(self, name: str, branch: str) -> None:
        repo = self.hub.find_repo(name, self.token, write=True)
        tree = dict(repo.tree(branch))
        for line in self.body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                tree[value["path"]] = Blob(base64.b64decode(value["content"]), is_lfs=False)
            elif operation["key"] == "lfsFile":
                tree[value["path"]] = Blob(self.hub.lfs_objects[value["oid"]], is_lfs=True)
            elif operation["key"] == "deletedFile":
                del tree[value["path"]]
        oid = repo.commit(branch, tree)
        self.send_json({"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{name}/commit/{oid}"})

    @route("POST", "/api/models/REPO/branch/(?P<branch>[^/]+)")
    def create_branch(self, name: str, branch: str) -> None:
        repo = self.hub.find_repo(name, self.token, write=True)
        if branch in repo.branches:
            raise HubError(409, f"Reference refs/heads/{branch} already exists")
        repo.branches[branch] = repo.find_commit(json.loads(self.body or b"{}").get("startingPoint", "main"))
        self.send_json({})

    @route("POST", "/api/models/REPO/tag/(?P<revision>[^/]+)")
    def create_tag(self, name: str, revision: str) -> None:
        repo = self.hub.find_repo(name, self.token, write=True)
        repo.tags[json.loads(self.body)["tag"]] = repo.find_commit(revision)
        self.send_json({})


def _describe(path: str, blob: Blob) -> dict:
    entry = {"type": "file", "path": path, "size": len(blob.data), "oid": blob.git_oid}
    if blob.is_lfs:
        entry["lfs"] = {"oid": blob.sha256, "size": len(blob.data), "pointerSize": 134}
    return entry
