"""A small part of the Hugging Face hub, on the loopback device: repositories of files."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants

#: Tokens that it knows, and whose they are.
USERS = {"hf_of_me": "me", "hf_of_reader": None}
#: Larger files go to its large file storage, as all safetensors do.
LARGE = 10_000


class Hub:
    """Repositories, each a list of commits: files by name; the last is main."""

    def __init__(self):
        self.repositories, self.private, self.stored, self.asked = {}, {}, {}, []
        self.failing = None  # a path beginning so is answered by 500
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Asked", (_Asked,), {"hub": self}))
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def put(self, repository, files):
        """A commit from nowhere; its id."""
        commits = self.repositories.setdefault(repository, [])
        commits.append({**(commits[-1] if commits else {}), **files})
        return self.commit(repository, len(commits) - 1)

    def files(self, repository):
        return self.repositories[repository][-1]

    def commit(self, repository, number):
        return hashlib.sha1(f"{repository} {number}".encode()).hexdigest()

    def close(self):
        """It is gone; again, nothing."""
        self.server.shutdown()
        self.server.server_close()


class _Asked(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_):
        pass

    def _answer(self, status, body=b"", **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        sent = {"Content-Length": str(len(body)), **headers}
        for name, value in sent.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _begin(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length) if length else self._chunks()
        self.hub.asked.append((self.command, self.path))
        return bool(self.hub.failing and self.path.startswith(self.hub.failing))

    def _chunks(self):
        found = b""
        while self.headers.get("Transfer-Encoding") == "chunked":
            size = int(self.rfile.readline(), 16)
            found += self.rfile.read(size)
            self.rfile.readline()
            if not size:
                break
        return found

    def do_PUT(self):
        if self._begin():
            return self._answer(500)
        self.hub.stored[self.path.rpartition("/")[2]] = self.body
        return self._answer(200)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        if self._begin():
            return self._answer(500)
        hub, path = self.hub, self.path.partition("?")[0]
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)", path):
            if found[1] not in hub.repositories:
                return self._answer(404, X_Error_Code="RepoNotFound")
            return self._answer(200, {"id": found[1], "private": hub.private.get(found[1], False)})
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        commits = hub.repositories.get(found[1] if found else "")
        if not commits or (hub.private.get(found[1]) and not self._user()[1]):
            return self._answer(404, X_Error_Code="RepoNotFound")
        ids = [hub.commit(found[1], n) for n in range(len(commits))]
        if found[2] not in (*ids, "main"):
            return self._answer(404, X_Error_Code="RevisionNotFound")
        commit = ids[-1] if found[2] == "main" else found[2]
        content = commits[ids.index(commit)].get(found[3])
        if content is None:
            return self._answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        tag = f'"{hashlib.sha1(content).hexdigest()}"'
        return self._answer(200, content, ETag=tag, X_Repo_Commit=commit)

    def _user(self):
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return token in USERS, USERS.get(token)

    def do_POST(self):
        if self._begin():
            return self._answer(500)
        hub, path = self.hub, self.path.partition("?")[0]
        if path == "/api/validate-yaml":
            if "license: no-such" in json.loads(self.body)["content"]:
                return self._answer(400, {"errors": [{"message": '"license" must be one of …'}]})
            return self._answer(200, {"errors": [], "warnings": []})
        known, user = self._user()
        if not known:
            return self._answer(401, X_Error_Message="Invalid credentials in Authorization header")
        told = None if path.endswith("/commit/main") else json.loads(self.body)
        if path == "/api/repos/create":
            name = f"{told['organization']}/{told['name']}"
            if user != told["organization"]:
                return self._answer(403, {"error": "You don't have the rights"})
            if name in hub.repositories:
                return self._answer(409, {"url": f"{hub.address}/{name}"})
            hub.repositories[name] = [{}]
            hub.private[name] = told.get("visibility") == "private" or bool(told.get("private"))
            return self._answer(200, {"url": f"{hub.address}/{name}"})
        if found := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            objects = [
                {**one, "actions": {"upload": {"href": f"{hub.address}/store/{one['oid']}"}}}
                for one in told["objects"]
            ]
            return self._answer(200, {"objects": objects})
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", path)
        if not found or found[1] not in hub.repositories:
            return self._answer(404, X_Error_Code="RepoNotFound")
        if found[2] == "preupload":
            return self._answer(200, {"files": [self._mode(one) for one in told["files"]]})
        files = {}
        for line in filter(None, self.body.splitlines()):
            row = json.loads(line)
            value = row["value"]
            if row["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif row["key"] == "lfsFile":
                files[value["path"]] = hub.stored[value["oid"]]
        commit = hub.put(found[1], files)
        url = f"{hub.address}/{found[1]}/commit/{commit}"
        return self._answer(200, {"success": True, "commitOid": commit, "commitUrl": url})

    def _mode(self, one):
        large = one["size"] > LARGE or one["path"].endswith(".safetensors")
        return {
            "path": one["path"],
            "uploadMode": "lfs" if large else "regular",
            "shouldIgnore": False,
        }


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub of the test's own, with an empty cache, to which `me` is logged in."""
    made = Hub()
    monkeypatch.setattr(constants, "ENDPOINT", made.address)
    address = made.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_TOKEN", "hf_of_me")
    yield made
    made.close()
