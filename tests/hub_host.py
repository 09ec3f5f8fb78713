"""A small Hugging Face Hub: creates repositories, takes commits and serves files, by the addresses
of the real one.
"""

import base64
import hashlib
import http.server
import json
import re

COMMIT = 40 * "0"


class Hub(http.server.BaseHTTPRequestHandler):
    """`files` are the contents by "owner/name/path"; `refused` is a status that every upload gets;
    with `broken` every response ends halfway."""

    protocol_version = "HTTP/1.1"
    files: dict = {}  # noqa: RUF012
    refused = None
    broken = False

    def do_HEAD(self):
        self.fetched(body=False)

    def do_GET(self):
        self.fetched(body=True)

    def fetched(self, body):
        match = re.fullmatch(r"/(.*)/resolve/main/(.*)", self.path)
        content = self.files.get(f"{match[1]}/{match[2]}") if match else None
        if content is None:
            self.answer(b"", status=200 if self.path == "/" else 404, body=body)
            return
        digest = hashlib.sha1(content).hexdigest()
        etag = {"ETag": f'"{digest}"', "X-Repo-Commit": digest}
        self.answer(content, etag, body=body)

    def do_POST(self):
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.refused:
            self.answer(b'{"error": "no"}', status=self.refused)
        elif self.path == "/api/repos/create":
            request = json.loads(content)
            name = f"{request.get('organization', 'me')}/{request['name']}"
            self.json({"url": f"http://{self.headers['Host']}/{name}", "name": name})
        elif self.path == "/api/validate-yaml":
            self.json({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            paths = [file["path"] for file in json.loads(content)["files"]]
            self.json(
                {
                    "files": [
                        {"path": path, "uploadMode": "regular", "shouldIgnore": False}
                        for path in paths
                    ]
                }
            )
        elif "/commit/" in self.path:
            repository = self.path.split("/commit/")[0].removeprefix("/api/models/")
            for line in map(json.loads, content.splitlines()):
                if line["key"] == "file":
                    self.files[f"{repository}/{line['value']['path']}"] = base64.b64decode(
                        line["value"]["content"]
                    )
            self.json(
                {
                    "commitUrl": f"http://{self.headers['Host']}/{repository}/commit/{COMMIT}",
                    "commitOid": COMMIT,
                }
            )
        else:
            self.answer(b"", status=404)

    def json(self, value):
        self.answer(json.dumps(value).encode(), {"Content-Type": "application/json"})

    def answer(self, content, headers=(), status=200, body=True):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content[: len(content) // 2] if self.broken else content)
            self.close_connection = self.close_connection or self.broken

    def log_message(self, *_):
        pass
