"""A Hugging Face Hub on 127.0.0.1, from the standard library, for the real `huggingface_hub` client.

It keeps repositories in memory: commits, regular files and LFS objects; it knows users, tokens and permissions, and it
breaks off connections on request. Xet is not spoken: clients set HF_HUB_DISABLE_XET=1.
"""

import base64
import hashlib
import json
import os
import re
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit


__all__ = ["TOKENS", "HubServer", "Repo"]

TOKENS = {"hf_fake": ("ann", "write"), "hf_read": ("ann", "read")}  # token: (user, role); users own their namespace
LFS_SUFFIXES = (".safetensors", ".parquet", ".png")
FIRST_COMMIT = "0" * 40


class File(NamedTuple):
    content: bytes
    is_lfs: bool

    @property
    def oid(self) -> str:
        """Git's hash of a regular file, sha256 of an LFS file: its ETag, and what the client compares."""
        if self.is_lfs:
            return hashlib.sha256(self.content).hexdigest()
        return hashlib.sha1(b"blob %d\0%b" % (len(self.content), self.content)).hexdigest()

    def entry(self, path: str) -> dict[str, Any]:
        """As `tree` lists it."""
        entry = {"type": "file", "path": path, "size": len(self.content), "oid": self.oid}
        return {**entry, "lfs": {**entry, "pointerSize": 130}} if self.is_lfs else entry


@dataclass
class Repo:
    """`commits` maps each commit's hash to its files, the newest last; the first one is empty."""

    repo_id: str
    private: bool = False
    commits: dict[str, dict[str, File]] = field(default_factory=lambda: {FIRST_COMMIT: {}})

    @property
    def head(self) -> str:
        return next(reversed(self.commits))

    @property
    def files(self) -> dict[str, bytes]:
        """Path and content of every file of the newest commit."""
        return {path: file.content for path, file in self.commits[self.head].items()}

    def commit(self, files: dict[str, File]) -> str:
        digest = hashlib.sha1(f"{self.repo_id} {len(self.commits)}".encode()).hexdigest()
        self.commits[digest] = files
        return digest


class HubServer:
    """The Hub's state and the thread that serves it; a context manager.

    Attributes:
        repos: {("model" or "dataset", "user/name"): Repo}; objects: LFS objects by sha256.
        drops: how many of the next requests of a kind are broken off: "lfs" halfway through an object, "commit"
            before the commit is made, "answer" after it is made and before the client hears of it.
        requests: "METHOD /path" of every request so far.
    """

    def __init__(self):
        self.repos: dict[tuple[str, str], Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.drops = {"lfs": 0, "commit": 0, "answer": 0}
        self.requests: list[str] = []
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": self}))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "HubServer":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exception) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: Path, token: str | None = "hf_fake") -> dict[str, str]:
        """Variables of a process that takes this for the Hub, with its caches in `home`."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHONPATH"))}
        own = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
        own |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
        return kept | own | ({} if token is None else {"HF_TOKEN": token})

    def take_drop(self, kind: str) -> bool:
        """Whether the present request of this kind is to be broken off."""
        with self.lock:
            due = self.drops[kind] > 0
            self.drops[kind] -= due
        return due


class Refused(Exception):
    """An answer that is no success: (status, message, the header by which the client knows the error)."""


class Dropped(Exception):
    """The connection is broken off."""


class Handler(BaseHTTPRequestHandler):
    """One method an endpoint, found by `ROUTES`; it gets the named groups of its path and returns JSON."""

    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments) -> None:
        pass

    def do_GET(self) -> None:
        self._body, self._user, self._role = None, None, None
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        self.hub.requests.append(f"{self.command} {url.path}")
        try:
            self._log_in()
            for method, pattern, name in ROUTES:
                match = re.fullmatch(pattern, url.path)
                if match and self.command in method.split():
                    groups = {key: unquote(value) if value else value for key, value in match.groupdict().items()}
                    answer = getattr(self, name)(**groups)
                    break
            else:
                raise Refused(404, f"no such endpoint: {self.command} {url.path}")
            if answer is not None:
                self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})
        except Refused as refused:
            status, message, *code = refused.args
            headers = {"X-Error-Message": message, **({"X-Error-Code": code[0]} if code else {})}
            self._send(status, json.dumps({"error": message}).encode(), headers)
        except Dropped:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    do_HEAD = do_POST = do_PUT = do_GET

    def whoami(self):
        if self._user is None:
            raise Refused(401, "Invalid username or password.")
        token = {"type": "access_token", "accessToken": {"displayName": "test", "role": self._role}}
        return {"type": "user", "name": self._user, "orgs": [], "auth": token}

    def validate_yaml(self):
        return {"errors": [], "warnings": []}

    def create(self):
        wish = json.loads(self._read())
        kind, owner = wish.get("type", "model"), wish.get("organization") or self._user
        if self._role != "write" or owner != self._user:
            raise Refused(403, f'You don\'t have the rights to create a {kind} under the namespace "{owner}"')
        repo_id = f"{owner}/{wish['name']}"
        url = {"url": f"{self.hub.url}/{'' if kind == 'model' else 'datasets/'}{repo_id}"}
        if (kind, repo_id) in self.hub.repos:
            return self._send(409, json.dumps({"error": "You already created this repo", **url}).encode())
        self.hub.repos[kind, repo_id] = Repo(repo_id, private=wish.get("visibility") == "private")
        return url

    def info(self, kind, repo_id, revision="main"):
        repo = self._repo(kind, repo_id)
        sha, files = self._commit(repo, revision)
        siblings = [{"rfilename": path, "size": len(f.content), "blobId": f.oid} for path, f in files.items()]
        state = {"private": repo.private, "gated": False, "disabled": False, "downloads": 0, "likes": 0, "tags": []}
        card = files["README.md"].content.decode() if "README.md" in files else ""
        tag = re.search(r"^pipeline_tag: (.*)$", card, flags=re.MULTILINE)
        state |= {"pipeline_tag": tag[1]} if tag else {}
        return {"id": repo_id, "sha": sha, "siblings": siblings, "lastModified": "2025-01-01T00:00:00.000Z", **state}

    def tree(self, kind, repo_id, revision, path=None):
        _, files = self._commit(self._repo(kind, repo_id), revision)
        prefix = f"{path}/" if path else ""
        found = [entry for entry in _entries(files) if entry["path"].startswith(prefix)]
        if path and not found:
            raise Refused(404, f"{path} does not exist on {revision}", "EntryNotFound")
        if self.query.get("recursive", ["false"])[0].lower() != "true":
            found = [entry for entry in found if "/" not in entry["path"].removeprefix(prefix)]
        return found

    def resolve(self, kind, repo_id, revision, path):
        sha, files = self._commit(self._repo(kind or "model", repo_id), revision)
        if path not in files:
            raise Refused(404, f"Entry not found: {path}", "EntryNotFound")
        content, status = files[path].content, 200
        headers = {"X-Repo-Commit": sha, "Accept-Ranges": "bytes", "ETag": f'"{files[path].oid}"'}
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, total = int(asked[1]), len(content)
            content, status = content[start : int(asked[2] or total) + 1], 206
            headers["Content-Range"] = f"bytes {start}-{start + len(content) - 1}/{total}"
        self._send(status, content, headers)

    def preupload(self, kind, repo_id, revision):
        _, files = self._commit(self._repo(kind, repo_id, write=True), revision)
        wanted, answers = [file["path"] for file in json.loads(self._read())["files"]], []
        for path in wanted:
            mode = "lfs" if path.endswith(LFS_SUFFIXES) else "regular"
            oid = files[path].oid if path in files else None
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return {"files": answers}

    def lfs_batch(self, kind, repo_id):
        self._repo(kind or "model", repo_id, write=True)
        wanted = json.loads(self._read())["objects"]
        for item in wanted:
            if item["oid"] not in self.hub.objects:
                item["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{item['oid']}"}}
        return {"transfer": "basic", "objects": wanted}

    def lfs_put(self, oid):
        if self.hub.take_drop("lfs"):
            self.rfile.read(int(self.headers.get("Content-Length", 2)) // 2)
            raise Dropped
        content = self._read()
        if hashlib.sha256(content).hexdigest() != oid:
            raise Refused(400, "the content is not what its oid says")
        self.hub.objects[oid] = content
        return {}

    def commit(self, kind, repo_id, revision):
        repo = self._repo(kind, repo_id, write=True)
        files = dict(self._commit(repo, revision)[1])
        operations = [json.loads(line) for line in self._read().splitlines()]
        if self.hub.take_drop("commit"):
            raise Dropped
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = File(base64.b64decode(value["content"]), False)
            elif operation["key"] == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    raise Refused(400, f"the LFS object of {value['path']} was never uploaded")
                files[value["path"]] = File(self.hub.objects[value["oid"]], True)
            elif operation["key"] == "deletedFile":
                del files[value["path"]]
        with self.hub.lock:
            sha = repo.commit(files)
        if self.hub.take_drop("answer"):
            raise Dropped
        return {"success": True, "commitOid": sha, "commitUrl": f"{self.hub.url}/{repo_id}/commit/{sha}"}

    def _log_in(self) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in TOKENS:
            raise Refused(401, "Invalid credentials in Authorization header")
        self._user, self._role = TOKENS.get(token, (None, None))

    def _repo(self, kind: str, repo_id: str, *, write: bool = False) -> Repo:
        """The repository, if this user may see it (and write to it)."""
        repo, owner = self.hub.repos.get((kind, repo_id)), repo_id.split("/")[0]
        if repo is None or (repo.private and owner != self._user):
            raise Refused(401 if self._user is None else 404, "Repository not found", "RepoNotFound")
        if write and (self._role != "write" or owner != self._user):
            raise Refused(403, f"you don't have write access to {repo_id}")
        return repo

    def _commit(self, repo: Repo, revision: str) -> tuple[str, dict[str, File]]:
        sha = repo.head if revision == "main" else revision
        if sha not in repo.commits:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return sha, repo.commits[sha]

    def _read(self) -> bytes:
        """The request's body, which this client never sends in chunks."""
        if self._body is None:
            self._body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return self._body

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self._read()  # what is left unread would be taken for the next request
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _entries(files: dict[str, File]) -> list[dict[str, Any]]:
    """Files, and the folders they lie in."""
    folders = {str(parent) for path in files for parent in Path(path).parents} - {"."}
    entries = [{"type": "directory", "path": path, "size": 0, "oid": FIRST_COMMIT} for path in folders]
    return sorted([*entries, *(file.entry(path) for path, file in files.items())], key=lambda entry: entry["path"])


NAME, REVISION = r"(?P<repo_id>[\w.-]+/[\w.-]+?)", r"(?P<revision>[^/]+)"
API, PLAIN = rf"/api/(?P<kind>model|dataset)s/{NAME}", rf"/(?:(?P<kind>dataset)s/)?{NAME}"
ROUTES = (
    ("GET", "/api/whoami-v2", "whoami"),
    ("POST", "/api/repos/create", "create"),
    ("POST", "/api/validate-yaml", "validate_yaml"),
    ("GET", API, "info"),
    ("GET", rf"{API}/revision/{REVISION}", "info"),
    ("GET", rf"{API}/tree/{REVISION}(?:/(?P<path>.+))?", "tree"),
    ("POST", rf"{API}/preupload/{REVISION}", "preupload"),
    ("POST", rf"{API}/commit/{REVISION}", "commit"),
    ("POST", rf"{PLAIN}\.git/info/lfs/objects/batch", "lfs_batch"),
    ("PUT", r"/lfs/(?P<oid>\w+)", "lfs_put"),
    ("GET HEAD", rf"{PLAIN}/resolve/{REVISION}/(?P<path>.+)", "resolve"),
)
