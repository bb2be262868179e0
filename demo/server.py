"""A small server on this machine that answers as MAST and Gaia do, for a simulated archive.

It speaks what astroquery's clients ask for: MAST's portal (column configuration, filtered search
with pages, downloads) and Gaia's TAP service (asynchronous and synchronous jobs). On request it
goes wrong; see `Fault`.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import html
import io
import json
import math
import operator
import re
import shutil
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PRODUCT = "mast:JWST/product/"

# name -> type, as the keyword service declares them
FIELDS = {
    "filename": "string", "fileSetName": "string", "productLevel": "string",
    "exp_type": "string", "instrume": "string", "filter": "string", "pupil": "string",
    "readpatt": "string", "subarray": "string", "effinttm": "float", "effexptm": "float",
    "targ_ra": "float", "targ_dec": "float", "s_region": "string", "date_obs_mjd": "float",
    "expstart": "float", "program": "string", "pi_name": "string", "pcs_mode": "string",
    "crds_ctx": "string", "cal_ver": "string", "dataURI": "string", "fileSize": "int",
    "checksum": "string", "publicReleaseDate": "string", "publicReleaseDate_mjd": "float",
    "isRestricted": "boolean", "isStale": "boolean",
}  # fmt: skip
STAR_COLUMNS = ("source_id", "ra", "dec", "pmra", "pmdec", "phot_g_mean_mag")
SYNC_LIMIT = 2000  # rows; Gaia cuts the answers of synchronous jobs there
COMPARE = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "=": operator.eq,
}  # fmt: skip


@dataclass
class Fault:
    """Something that goes wrong with the next requests of a kind.

    Attributes
    ----------
    pattern : str
        Regular expression that is searched in the request's description, such as
        'columns', 'search page=2', 'HEAD jw…_rate.fits', 'GET jw…_rate.fits', 'gaia job',
        'gaia phase', 'gaia result SELECT …', 'gaia notification'.
    kind : str
        One of `KINDS`.
    times : int
        How often it happens.
    value : float
        For 503, seconds of Retry-After; for stall, seconds of silence.
    """

    pattern: str
    kind: str
    times: int = 1
    value: float = 1.0

    KINDS = (
        "refused",  # the connection is closed without a word
        "401", "404", "500", "503",
        "half",  # half of the answer, then the connection is closed
        "stall",  # half of the answer, then silence
        "short",  # a complete answer that is shorter than it should be
        "html",  # a page of a proxy in place of the answer
        "empty",  # nothing
        "malformed",  # the beginning of the answer, as if it were all
        "no rows",  # a correct answer without any row
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.kind not in self.KINDS:
            raise ValueError(f"fault '{self.kind}': expected one of {', '.join(self.KINDS)}")


class Server(ThreadingHTTPServer):
    """MAST and Gaia for one archive folder.

    Attributes
    ----------
    folder : `~pathlib.Path`
        With catalog.json and the rate files; read at each request.
    faults : list of `Fault`
        What is to go wrong; may be changed at any time.
    counts : `collections.Counter`
        How often was asked for: 'columns', 'search' (one a search, whatever its pages),
        'search page', 'head', 'download', 'gaia job', 'gaia phase', 'gaia result', …
    queries : list of str
        The ADQL that was asked.
    page_size : int
        The most rows of a page, whatever the client asks for.
    delay : float
        Seconds between two blocks of 16 kB of a download.
    busy : bool
        Say EXECUTING first when asked for an answer, as the archives do.
    """

    daemon_threads = True

    def __init__(self, folder: Path, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.folder = Path(folder)
        self.faults: list[Fault] = []
        self.counts: Counter[str] = Counter()
        self.queries: list[str] = []
        self.page_size = 50000
        self.delay = 0.0
        self.busy = True
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._searches: set[str] = set()
        self._jobs: dict[str, dict[str, Any]] = {}

    @property
    def url(self) -> str:
        """The address, for `query.mast_url` and `query.gaia_url`."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def catalog(self) -> dict[str, list[dict[str, Any]]]:
        """The exposures and stars of the archive."""
        return json.loads((self.folder / "catalog.json").read_text(encoding="utf-8"))

    def count(self, what: str) -> None:
        """Note a request."""
        with self._lock:
            self.counts[what] += 1

    def fault(self, request: str) -> Fault | None:
        """The fault for a request, if there is one; uses it up."""
        with self._lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.pattern, request):
                    fault.times -= 1
                    return fault
        return None

    def first_time(self, search: str) -> bool:
        """Whether a search was not asked for before; MAST answers EXECUTING at first."""
        with self._lock:
            new = search not in self._searches
            self._searches.add(search)
        return new

    def add_job(self, query: str, fmt: str, phase: str) -> str:
        """A new TAP job; its number."""
        with self._lock:
            number = f"{len(self._jobs) + 1}O"
            self._jobs[number] = {"query": query, "format": fmt, "phase": phase}
        return number

    def job(self, number: str) -> dict[str, Any] | None:
        """A TAP job."""
        return self._jobs.get(number)

    def shutdown(self) -> None:
        """Stop serving, and answers that are held back."""
        self.closing.set()
        super().shutdown()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone away is no error."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *arguments: Any) -> None:
        """Keep the screen clear."""

    def do_HEAD(self) -> None:
        """Size of a product."""
        self._product(head=True)

    def do_GET(self) -> None:
        """Downloads, and the state and results of TAP jobs."""
        path = urlsplit(self.path).path
        if path.startswith("/api/v0.1/Download/file"):
            self._product(head=False)
        elif path.startswith("/tap-server/tap/"):
            self._tap(path.removeprefix("/tap-server/tap/").strip("/"), self._parameters())
        else:
            self._send(b"not found", status=404)

    def do_POST(self) -> None:
        """Searches and TAP jobs."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        path = urlsplit(self.path).path
        if path == "/portal/Mashup/Mashup.asmx/columnsconfig":
            self._answer("columns", json.dumps({name: _column(name) for name in FIELDS}))
        elif path == "/api/v0/invoke":
            self._search(body)
        elif path.startswith("/tap-server/tap/"):
            self._tap(path.removeprefix("/tap-server/tap/").strip("/"), _form(body))
        else:
            self._send(b"not found", status=404)

    # ---- MAST

    def _search(self, body: str) -> None:
        request = json.loads(unquote(body.removeprefix("request=")))
        page = int(request.get("page") or 1)
        breaker = str(request.get("cacheBreaker"))
        first = self.server.first_time(f"{breaker} {page}")
        self.server.count("search page")
        if page == 1 and first:
            self.server.count("search")
        if first and self.server.busy:
            self._send_json({"status": "EXECUTING", "msg": "", "data": [], "fields": []})
            return
        size = min(int(request.get("pagesize") or self.server.page_size), self.server.page_size)
        fault = self.server.fault(f"search page={page}")
        try:
            rows = search(self.server.catalog()["exposures"], request)
        except ValueError as error:
            self._send_json({"status": "ERROR", "msg": str(error)})
            return
        part = rows[(page - 1) * size : page * size]
        if fault and fault.kind == "no rows":
            part, fault = [], None
        columns = _columns(request)
        answer = {
            "status": "COMPLETE",
            "msg": "",
            "data": [{name: row.get(name) for name in columns} for row in part],
            "fields": [{"name": name, "type": FIELDS[name]} for name in columns],
            "paging": {
                "page": page,
                "pageSize": size,
                "pagesFiltered": math.ceil(len(rows) / size),
                "rows": len(part),
                "rowsFiltered": len(rows),
                "rowsTotal": len(rows),
            },
        }
        self._send_json(answer, fault=fault)

    def _product(self, *, head: bool) -> None:
        uri = self._parameters().get("uri", "")
        name = uri.removeprefix(PRODUCT)
        self.server.count("head" if head else "download")
        fault = self.server.fault(f"{self.command} {name}")
        path = self.server.folder / name
        rows = [row for row in self.server.catalog()["exposures"] if row.get("filename") == name]
        if not uri.startswith(PRODUCT) or "/" in name or not rows or not path.is_file():
            self._send(b"no such product", status=404, fault=fault)
        elif rows[0].get("isRestricted") in (True, "true", 1):
            self._send(b"exclusive access", status=401, fault=fault)
        else:
            self._send_file(path, head=head, fault=fault)

    def _send_file(self, path: Path, *, head: bool, fault: Fault | None) -> None:
        size = path.stat().st_size
        begin, end = _range(self.headers.get("Range"), size)
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/fits"}
        if (begin, end) != (0, size):
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
        status = 206 if "Content-Range" in headers else 200
        with path.open("rb") as file:
            file.seek(begin)
            if fault or end < size:
                self._send(file.read(end - begin), status=status, headers=headers, fault=fault)
                return
            self._head(status, end - begin, headers)
            if not head and not self.server.delay:
                shutil.copyfileobj(file, self.wfile, 1 << 20)
            elif not head:
                self._write(file.read())

    # ---- Gaia

    def _tap(self, path: str, parameters: dict[str, str]) -> None:
        parts = path.split("/")
        if path == "sync":
            self._run(parameters.get("QUERY", ""), parameters.get("FORMAT", ""), SYNC_LIMIT)
        elif path == "async":
            self._new_job(parameters)
        elif parts[0] == "async" and (job := self.server.job(parts[1])):
            self._job(job, "/".join(parts[2:]), parameters)
        elif path == "notification":
            self._answer("gaia notification", "1=The demo server stands in for Gaia\n")
        elif path == "tables":
            self._answer("gaia tables", _TABLES)
        else:
            self._send(_votable_error("no such resource"), status=404)

    def _new_job(self, parameters: dict[str, str]) -> None:
        running = parameters.get("PHASE") == "RUN"
        number = self.server.add_job(
            parameters.get("QUERY", ""),
            parameters.get("FORMAT", ""),
            ("EXECUTING" if self.server.busy else "COMPLETED") if running else "PENDING",
        )
        self.server.count("gaia job")
        fault = self.server.fault("gaia job")
        location = {"Location": f"{self.server.url}/tap-server/tap/async/{number}"}
        self._send(b"", status=303, headers=location, fault=fault)

    def _job(self, job: dict[str, Any], what: str, parameters: dict[str, str]) -> None:
        if what == "phase" and self.command == "POST":
            job["phase"] = "EXECUTING" if parameters.get("PHASE") == "RUN" else "ABORTED"
            self._answer("gaia phase", job["phase"])
        elif what == "phase":
            self._answer("gaia phase", job["phase"])
            if job["phase"] == "EXECUTING":
                job["phase"] = "COMPLETED"
        elif what == "results/result":
            self._run(job["query"], job["format"], None)
        else:
            self._answer("gaia error", "the demo server knows no more about this job")

    def _run(self, query: str, fmt: str, limit: int | None) -> None:
        self.server.count("gaia result")
        self.server.queries.append(query)
        fault = self.server.fault(f"gaia result {query}")
        try:
            names, rows = select(self.server.catalog()["stars"], query)
        except ValueError as error:
            self._send(_votable_error(str(error)), status=400)
            return
        if fault and fault.kind == "no rows":
            rows, fault = [], None
        if fault and fault.kind == "short":
            rows, fault = rows[: len(rows) // 2], None
        content = _votable(names, rows[:limit])
        if fmt == "votable_gzip":
            content = gzip.compress(content)
        self._send(content, headers={"Content-Type": "application/x-votable+xml"}, fault=fault)

    # ---- sending

    def _parameters(self) -> dict[str, str]:
        return _form(urlsplit(self.path).query)

    def _answer(self, what: str, text: str) -> None:
        self.server.count(what)
        self._send(text.encode(), fault=self.server.fault(what))

    def _send_json(self, value: Any, *, fault: Fault | None = None) -> None:
        headers = {"Content-Type": "application/json"}
        self._send(json.dumps(value).encode(), headers=headers, fault=fault)

    def _head(self, status: int, length: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _send(
        self,
        content: bytes,
        *,
        status: int = 200,
        headers: dict[str, str] | None = None,
        fault: Fault | None = None,
    ) -> None:
        kind = fault.kind if fault else ""
        if kind == "refused":
            self._break_off()
            return
        if kind.isdigit():
            status, content = int(kind), b"out of order"
            headers = {"Retry-After": f"{fault.value:g}"} if kind == "503" else {}
        if kind == "html":
            status, headers = 200, {"Content-Type": "text/html"}
        content = {
            "html": b"<!DOCTYPE html><html><body>Please log in</body></html>",
            "empty": b"",
            "malformed": content[: len(content) // 2],
            "short": content[: len(content) // 2],
        }.get(kind, content)
        self._head(status, len(content), headers)
        if self.command == "HEAD":
            return
        self._write(content[: len(content) // 2] if kind in ("half", "stall") else content)
        if kind == "stall":
            self.server.closing.wait(fault.value)
        if kind in ("half", "stall"):
            self._break_off()

    def _write(self, content: bytes) -> None:
        step = 16384
        for begin in range(0, len(content), step):
            self.wfile.write(content[begin : begin + step])
            if self.server.delay:
                self.server.closing.wait(self.server.delay)

    def _break_off(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True


def search(rows: list[dict[str, Any]], request: dict[str, Any]) -> list[dict[str, Any]]:
    """
    The rows that pass the filters of a request to MAST's keyword service.

    Raises
    ------
    ValueError
        If the service or a column is unknown, or there is no filter.
    """
    if str(request.get("service")).lower() != "mast.jwst.filtered.niriss":
        raise ValueError(f"unknown service {request.get('service')}")
    filters = request["params"].get("filters")
    if not filters:
        raise ValueError("at least one filter is needed")
    unknown = {item["paramName"] for item in filters} | set(_columns(request))
    unknown -= set(FIELDS)
    if unknown:
        raise ValueError(f"unknown columns {', '.join(sorted(unknown))}")
    return [row for row in rows if all(_passes(row.get(f["paramName"]), f) for f in filters)]


def _passes(value: Any, condition: dict[str, Any]) -> bool:
    if value is None:
        return False
    if free := condition.get("freeText"):
        pattern = ".*".join(re.escape(part) for part in free.split("%"))
        return re.fullmatch(pattern, str(value), re.IGNORECASE) is not None
    for wanted in condition["values"]:
        if isinstance(wanted, dict):
            low, high = wanted.get("min", -math.inf), wanted.get("max", math.inf)
            if float(low) <= float(value) <= float(high):
                return True
        elif str(value).lower() == str(wanted).lower():
            return True
    return False


def select(stars: list[dict[str, Any]], query: str) -> tuple[list[str], list[tuple]]:
    """
    Answer a query in a small part of ADQL: columns or COUNT(*), and comparisons joined by AND.

    Returns
    -------
    names : list of str
    rows : list of tuples

    Raises
    ------
    ValueError
        If the query is more than that.
    """
    match = re.fullmatch(
        r"\s*SELECT\s+(?:TOP\s+(\d+)\s+)?(.+?)\s+FROM\s+gaiadr3\.gaia_source(?:_lite)?"
        r"(?:\s+WHERE\s+(.+?))?\s*",
        query,
        re.IGNORECASE | re.DOTALL,
    )
    if not match:
        raise ValueError(f"the demo server does not understand: {query}")
    top, wanted, where = match.groups()
    conditions = re.split(r"\s+AND\s+", where, flags=re.IGNORECASE) if where else []
    tests = [_condition(condition) for condition in conditions]
    chosen = [star for star in stars if all(test(star) for test in tests)]
    counting = re.fullmatch(r"COUNT\(\*\)(?:\s+AS\s+(\w+))?", wanted, re.IGNORECASE)
    if counting:
        return [counting[1] or "count_all"], [(len(chosen),)]
    names = [name.strip().lower() for name in wanted.split(",")]
    if unknown := set(names) - set(STAR_COLUMNS):
        raise ValueError(f"unknown columns {', '.join(sorted(unknown))}")
    chosen = chosen[: int(top)] if top else chosen
    return names, [tuple(star.get(name) for name in names) for star in chosen]


def _condition(text: str) -> Callable[[dict[str, Any]], bool]:
    match = re.fullmatch(r"\s*(\w+)\s*(<=|>=|<|>|=)\s*([-+.\deE]+)\s*", text)
    if not match or match[1].lower() not in STAR_COLUMNS:
        raise ValueError(f"the demo server does not understand: {text}")
    name, compare, number = match[1].lower(), COMPARE[match[2]], float(match[3])
    return lambda star: star.get(name) is not None and compare(float(star[name]), number)


def _votable(names: list[str], rows: list[tuple]) -> bytes:
    """A VOTable; an empty cell is a null."""
    # Gaia writes this one in capitals, whatever was asked for.
    shown = {"source_id": "SOURCE_ID"}
    fields = "".join(
        f'<FIELD name="{shown.get(name, name)}" datatype="{_datatype(name)}"/>' for name in names
    )
    text = io.StringIO()
    text.write(
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">'
        '<RESOURCE type="results"><INFO name="QUERY_STATUS" value="OK"/>'
        f"<TABLE>{fields}<DATA><TABLEDATA>"
    )
    for row in rows:
        cells = ("" if value is None else repr(value) for value in row)
        text.write(f"<TR>{''.join(f'<TD>{cell}</TD>' for cell in cells)}</TR>")
    text.write("</TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>")
    return text.getvalue().encode()


def _datatype(name: str) -> str:
    return "double" if name in STAR_COLUMNS[1:] else "long"


def _votable_error(message: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8"?><VOTABLE version="1.4">'
        '<RESOURCE type="results"><INFO name="QUERY_STATUS" value="ERROR">'
        f"{html.escape(message)}</INFO></RESOURCE></VOTABLE>"
    ).encode()


_TABLES = (
    '<?xml version="1.0" encoding="UTF-8"?><vod:tableset '
    'xmlns:vod="http://www.ivoa.net/xml/VODataService/v1.1"><schema><name>gaiadr3</name><table>'
    "<name>gaiadr3.gaia_source_lite</name>"
    + "".join(f"<column><name>{name}</name></column>" for name in STAR_COLUMNS)
    + "</table></schema></vod:tableset>"
)


def _columns(request: dict[str, Any]) -> list[str]:
    wanted = request["params"].get("columns") or "*"
    return list(FIELDS) if wanted == "*" else [name.strip() for name in wanted.split(",")]


def _column(name: str) -> dict[str, Any]:
    return {"text": name, "type": FIELDS[name], "treatNumeric": FIELDS[name] in ("float", "int")}


def _form(text: str) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(text).items()}


def _range(header: str | None, size: int) -> tuple[int, int]:
    """First byte and the one after the last of a Range header."""
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", header or "")
    if not match or int(match[1]) >= size:
        return 0, size
    return int(match[1]), min(int(match[2]) + 1 if match[2] else size, size)


@contextlib.contextmanager
def serve(folder: Path, port: int = 0) -> Iterator[tuple[Server, str]]:
    """
    Serve an archive folder in a thread of this process.

    Parameters
    ----------
    folder : `~pathlib.Path`
        With catalog.json ("exposures": rows of MAST's keyword service, "stars": those of Gaia)
        and the rate files.
    port : int
        0 for any that is free.

    Yields
    ------
    server : `Server`
    url : str
        Its address.
    """
    with Server(folder, port) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server, server.url
        finally:
            server.shutdown()
            thread.join()


def main(arguments: list[str] | None = None) -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m demo.server", description=__doc__)
    parser.add_argument("folder", type=Path, help="archive folder with catalog.json")
    parser.add_argument("--port", type=int, default=0, help="default: any that is free")
    parser.add_argument(
        "--fault",
        nargs=3,
        action="append",
        default=[],
        metavar=("PATTERN", "KIND", "TIMES"),
        help=f"what is to go wrong; kinds: {', '.join(Fault.KINDS)}",
    )
    options = parser.parse_args(arguments)
    with Server(options.folder, options.port) as server:
        server.faults += [Fault(pattern, kind, int(n)) for pattern, kind, n in options.fault]
        print(server.url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    main()
