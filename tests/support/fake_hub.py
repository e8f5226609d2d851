"""A small server on this machine that speaks the hub's protocol, and can be made to speak it badly."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """One repository `owner/repo`. `broken`: files whose bytes are not those promised. `cut`: a connection
    breaks after so many bytes; `longer`: so many bytes too many are sent; `begins`: where each GET began."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.broken: set[str] = set()
        self.cut: int | None = None
        self.longer = 0
        self.answer: bytes | None = None  # what is said of the repository instead of the truth
        self.ignores_ranges = False
        self.stall_at: int | None = None
        self.stalled = threading.Event()
        self.begins: list[int] = []
        self.pause = threading.Event()
        self.pause.set()
        self.asked = threading.Event()
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *arguments: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                prefix = f"/owner/repo/resolve/{COMMIT}/"
                if path in ("/api/models/owner/repo", f"/api/models/owner/repo/revision/{COMMIT}"):
                    said = json.dumps(hub.info()).encode() if hub.answer is None else hub.answer
                    self.reply(said, {"Content-Type": "application/json"})
                elif path.startswith(prefix) and path.removeprefix(prefix) in hub.files:
                    name = path.removeprefix(prefix)
                    data = hub.files[name]
                    etag = f'"{hashlib.sha256(data).hexdigest()}"'
                    if self.command == "GET":
                        hub.asked.set()
                        hub.pause.wait(300)
                    served = b"?" * len(data) if name in hub.broken else data
                    self.reply(served + b"!" * hub.longer, {"ETag": etag, "X-Repo-Commit": COMMIT})
                else:
                    self.send_response(404)
                    self.send_header("X-Error-Code", "RepoNotFound")
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def reply(self, body: bytes, headers: dict[str, str]) -> None:
                asked = self.headers.get("Range")
                first, _, last = (asked or "").removeprefix("bytes=").partition("-")
                begin = int(first) if first and not hub.ignores_ranges else 0
                if "ETag" in headers and self.command == "GET":
                    hub.begins.append(begin)
                if begin:
                    headers["Content-Range"] = f"bytes {begin}-{len(body) - 1}/{len(body)}"
                body = body[begin : int(last) + 1 if last and not hub.ignores_ranges else None]
                self.send_response(206 if begin or (last and not hub.ignores_ranges) else 200)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    if hub.stall_at is not None and "ETag" in headers:
                        self.wfile.write(body[: hub.stall_at])
                        hub.stalled.wait(300)
                        return
                    whole = hub.cut is None or "ETag" not in headers
                    self.wfile.write(body if whole else body[: hub.cut])
                    self.close_connection = True

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"

    def info(self) -> dict[str, Any]:
        siblings = []
        for name, data in self.files.items():
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
            sibling: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": blob}
            if name.endswith((".gguf", ".safetensors")):
                sha256 = hashlib.sha256(data).hexdigest()
                sibling["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 134}
            siblings.append(sibling)
        return {"id": "owner/repo", "modelId": "owner/repo", "sha": COMMIT, "siblings": siblings}

    def close(self) -> None:
        self.pause.set()
        self.stalled.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
