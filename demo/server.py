"""A small server on this machine that answers as MAST and Gaia do, for a simulated archive.

It speaks what astroquery and pyvo ask for: MAST's portal (column configuration, filtered search
with pages, downloads) and Gaia's TAP service (asynchronous and synchronous jobs). On request it
goes wrong; see `Fault`.
"""

from __future__ import annotations

import contextlib
import html
import json
import math
import re
import socket
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

PRODUCT = "mast:JWST/product/"

# name -> type, as the keyword service declares them
FIELDS = {
    "filename": "string", "fileSetName": "string", "productLevel": "string",
    "exp_type": "string", "instrume": "string", "filter": "string", "pupil": "string",
    "readpatt": "string", "subarray": "string", "effinttm": "float", "effexptm": "float",
    "targ_ra": "float", "targ_dec": "float", "s_region": "string", "date_obs_mjd": "float",
    "expstart": "float", "program": "int", "category": "string", "pi_name": "string",
    "pcs_mode": "string", "visitype": "string", "engqlptg": "string", "eng_qual": "string",
    "crds_ctx": "string", "cal_ver": "string", "dataURI": "string", "fileSize": "int",
    "checksum": "string", "publicReleaseDate": "string", "publicReleaseDate_mjd": "float",
    "isRestricted": "boolean", "isStale": "boolean",
}  # fmt: skip
STAR_COLUMNS = {
    "source_id": "INTEGER", "ra": "REAL", "dec": "REAL", "pmra": "REAL", "pmdec": "REAL",
    "phot_g_mean_mag": "REAL",
}  # fmt: skip
SYNC_LIMIT = 2000  # rows; Gaia cuts the answers of synchronous jobs there


@dataclass
class Fault:
    """Something that goes wrong with the next requests of a kind.

    Attributes
    ----------
    pattern : str
        Regular expression that is searched in the request's description, such as
        'columns', 'search page=2', 'HEAD jw…_rate.fits', 'GET jw…_rate.fits', 'gaia job',
        'gaia phase PENDING', 'gaia phase COMPLETED', 'gaia result SELECT …'.
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
        "refused",  # the connection is closed without an answer
        "401", "404", "500", "503",
        "half",  # half of the answer, then the connection is closed
        "stall",  # half of the answer, then silence
        "short",  # a complete answer that is shorter than it should be
        "html",  # the page of a proxy instead of the answer
        "empty",  # an answer without content
        "malformed",  # the beginning of the answer, as if it were complete
        "no rows",  # a correct answer without any row
        "executing",  # a search or a job that is not done yet
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.kind not in self.KINDS:
            raise ValueError(f"fault '{self.kind}': expected one of {', '.join(self.KINDS)}")


@dataclass
class Job:
    """An asynchronous job of the TAP service (IVOA UWS).

    Attributes
    ----------
    query : str
        In ADQL.
    phase : str
        PENDING, EXECUTING or COMPLETED.
    looks : int
        How often it will still be seen EXECUTING.
    """

    query: str
    phase: str = "PENDING"
    looks: int = 2


class Server(ThreadingHTTPServer):
    """MAST and Gaia for one archive folder, which is read at each request.

    Attributes
    ----------
    faults : list of `Fault`
        What is to go wrong; may be changed at any time.
    counts : `collections.Counter`
        How often was asked for: 'columns', 'search' (one a search, whatever its pages),
        'search page', 'head', 'download', 'gaia job', 'gaia start', 'gaia phase', 'gaia result',
        'whoami'; and 'token', how many requests had any token of MAST.
    page_size : int
        The most rows of a page, whatever the client asks for.
    delay : float
        Seconds between two blocks of 16 kB of an answer.
    busy : bool
        Say EXECUTING first when asked for an answer, as the archives do.
    gone : set of str
        Columns that the keyword service has no longer.
    token : str
        What gives access to exposures that are not public; empty: nothing does.
    elsewhere : str
        Address of a server that downloads are sent on to; empty: none.
    """

    daemon_threads = True

    def __init__(self, folder: Path, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.folder = Path(folder)
        self.faults: list[Fault] = []
        self.counts: Counter[str] = Counter()
        self.page_size = 50000
        self.delay = 0.0
        self.busy = True
        self.gone: set[str] = set()
        self.token = ""
        self.elsewhere = ""
        self.closing = threading.Event()
        self.jobs: dict[str, Job] = {}  # by their numbers
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The address, for `query.mast_url` and `query.gaia_url`."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def catalog(self, part: str) -> list[dict[str, Any]]:
        """The exposures or the stars of the archive."""
        return json.loads((self.folder / "catalog.json").read_text(encoding="utf-8"))[part]

    def count(self, what: str) -> int:
        """Count a request; returns how many there have been."""
        with self._lock:
            self.counts[what] += 1
            return self.counts[what]

    def fault(self, request: str) -> Fault | None:
        """The fault for a request, if there is one; it then happens once less."""
        with self._lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.pattern, request):
                    fault.times -= 1
                    return fault
        return None

    def shutdown(self) -> None:
        """Stop serving, and stop answers that are delayed."""
        self.closing.set()
        super().shutdown()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors, such as that a client has closed its connection."""


class Handler(BaseHTTPRequestHandler):
    """The answers on one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *arguments: Any) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        """Answer any request."""
        address = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        parameters = dict(parse_qsl(body or address.query))
        query = parameters.get("QUERY", "")
        self.fault: Fault | None = None
        cookie = SimpleCookie(self.headers.get("Cookie", "")).get("mast_token")
        self.token = cookie.value if cookie else ""
        if self.token:
            self.server.count("token")
        match address.path.strip("/").split("/"):
            case ["portal", *_, "columnsconfig"]:
                self._columns()
            case ["api", "v0", "invoke"]:
                self._search(json.loads(parameters.get("request", "{}")))
            case ["whoami"]:
                self._user()
            case ["api", "v0.1", "Download", "file"] if self.server.elsewhere:
                self._send(b"", status=302, headers={"Location": self.server.elsewhere + self.path})
            case ["api", "v0.1", "Download", "file"]:
                self._product(parameters.get("uri", ""))
            case ["api", "v0.1", "path_lookup"]:
                self._paths([value for name, value in parse_qsl(address.query) if name == "uri"])
            case ["tap-server", "tap", "sync"]:
                self._result(query, limit=SYNC_LIMIT)
            case ["tap-server", "tap", "async"] if self.command == "POST":
                self._new_job(query)
            case ["tap-server", "tap", "async"]:
                self._send(_uws("jobs", ""))
            case ["tap-server", "tap", "async", number] if number in self.server.jobs:
                self._job(number)
            case ["tap-server", "tap", "async", number, "phase"] if number in self.server.jobs:
                self._start(number)
            case ["tap-server", "tap", "async", number, *_] if number in self.server.jobs:
                self._result(self.server.jobs[number].query)
            case _:
                self._send(b"not found", status=404)

    do_HEAD = do_POST = do_GET  # noqa: N815

    def _note(self, what: str, request: str = "") -> int:
        """Count a request, and find the fault that is to happen with it."""
        self.fault = self.server.fault(request or what)
        return self.server.count(what)

    # ---- MAST

    def _columns(self) -> None:
        self._note("columns")
        columns = {
            name: {"text": name, "type": kind, "treatNumeric": kind in ("float", "int")}
            for name, kind in FIELDS.items()
        }
        self._send_json(columns)

    def _search(self, request: dict[str, Any]) -> None:
        page = int(request.get("page") or 1)
        self.server.count("search page")
        first = self.server.count(f"{request.get('cacheBreaker')} {page}") == 1
        if first and page == 1:
            self.server.count("search")
        if first and self.server.busy:
            self._send_json({"status": "EXECUTING"})
            return
        self.fault = self.server.fault(f"search page={page}")
        if self.fault and self.fault.kind == "executing":
            self._send_json({"status": "EXECUTING"})
            return
        try:
            columns, rows = search(self.server.catalog("exposures"), request, self.server.gone)
        except ValueError as error:
            self._send_json({"status": "ERROR", "msg": str(error)})
            return
        size = min(int(request.get("pagesize") or self.server.page_size), self.server.page_size)
        part = self._spoil(rows[(page - 1) * size : page * size])
        paging = {
            "page": page, "pageSize": size, "pagesFiltered": math.ceil(len(rows) / size),
            "rows": len(part), "rowsFiltered": len(rows), "rowsTotal": len(rows),
        }  # fmt: skip
        answer = {
            "status": "COMPLETE",
            "data": [{name: row.get(name) for name in columns} for row in part],
            "fields": [{"name": name, "type": FIELDS[name]} for name in columns],
            "paging": paging,
        }
        self._send_json(answer)

    def _has_access(self) -> bool:
        return self.token != "" and self.token == self.server.token

    def _user(self) -> None:
        """Say who asks, as MAST tells astroquery."""
        self._note("whoami")
        known = self._has_access()
        self._send_json(
            {"anon": not known, "attrib": {"display_name": "Somebody"} if known else {}}
        )

    def _product(self, uri: str) -> None:
        name = uri.removeprefix(PRODUCT)
        self._note("head" if self.command == "HEAD" else "download", f"{self.command} {name}")
        path = self.server.folder / name
        rows = [row for row in self.server.catalog("exposures") if row.get("filename") == name]
        if not uri.startswith(PRODUCT) or "/" in name or not rows or not path.is_file():
            self._send(b"no such product", status=404)
            return
        if rows[0].get("isRestricted") in (True, "true", 1) and not self._has_access():
            self._send(b"exclusive access", status=401)
            return
        content = memoryview(path.read_bytes())
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/fits"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked or int(asked[1]) >= len(content):
            self._send(content, headers=headers)
            return
        begin, end = int(asked[1]), min(int(asked[2] or len(content)) + 1, len(content))
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(content)}"
        self._send(content[begin:end], status=206, headers=headers)

    def _paths(self, uris: list[str]) -> None:
        """Tell where products are in the public bucket in the cloud."""
        self._note("paths")
        paths = {}
        for uri in uris:
            name = uri.removeprefix(PRODUCT)
            known = any(row.get("filename") == name for row in self.server.catalog("exposures"))
            path = f"/jwst/public/{name[:7]}/{name[:13]}/{name}" if known else None
            paths[uri] = {"status_code": 200 if known else 404, "path": path}
        self._send_json(paths)

    # ---- Gaia

    def _new_job(self, query: str) -> None:
        number = str(self._note("gaia job"))
        self.server.jobs[number] = Job(query)
        self._see_job(number)

    def _start(self, number: str) -> None:
        """Run a job; on a busy server that takes until it has been looked at twice."""
        self._note("gaia start")
        self.server.jobs[number].phase = "EXECUTING" if self.server.busy else "COMPLETED"
        self._see_job(number)

    def _see_job(self, number: str) -> None:
        location = {"Location": f"{self.server.url}/tap-server/tap/async/{number}"}
        self._send(b"", status=303, headers=location)

    def _job(self, number: str) -> None:
        """Describe a job, as the standard has it."""
        job = self.server.jobs[number]
        self._note("gaia phase", f"gaia phase {job.phase}")
        phase, error = job.phase, ""
        if self.fault and self.fault.kind == "executing":
            phase = "EXECUTING"
        elif phase == "EXECUTING":
            job.looks -= 1
            job.phase = "COMPLETED" if job.looks == 0 else phase
        elif phase == "COMPLETED":
            try:
                select([], job.query)
            except ValueError as problem:
                phase, error = "ERROR", str(problem)
        self._send(_job_document(number, phase, error, self.server.url))

    def _result(self, query: str, limit: int | None = None) -> None:
        self._note("gaia result", f"gaia result {query}")
        try:
            names, rows = select(self.server.catalog("stars"), query)
        except ValueError as error:
            self._send(_votable("ERROR", str(error)), status=400)
            return
        content = _votable("OK", table=_table(names, self._spoil(rows)[:limit]))
        self._send(content, headers={"Content-Type": "application/x-votable+xml"})

    # ---- sending

    def _spoil(self, rows: list[Any]) -> list[Any]:
        """The rows of an answer; fewer if the fault wants a wrong but well-formed answer."""
        if self.fault and self.fault.kind in ("no rows", "short"):
            rows = [] if self.fault.kind == "no rows" else rows[: len(rows) // 2]
            self.fault = None
        return rows

    def _send_json(self, value: Any) -> None:
        self._send(json.dumps(value).encode(), headers={"Content-Type": "application/json"})

    def _send(
        self,
        content: bytes | memoryview,
        *,
        status: int = 200,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Send an answer, changed as the fault wants it."""
        kind = self.fault.kind if self.fault else ""
        broken_off = kind in ("refused", "half", "stall")
        half = content[: len(content) // 2]
        if kind.isdigit():
            status, content = int(kind), b"out of order"
            headers = {"Retry-After": f"{self.fault.value:g}"} if kind == "503" else {}
        elif kind == "html":
            status, headers = 200, {"Content-Type": "text/html"}
            content = b"<!DOCTYPE html><html><body>Please log in</body></html>"
        elif kind in ("empty", "malformed", "short"):
            content = b"" if kind == "empty" else half
        if kind != "refused" and not (broken_off and self.command == "HEAD"):
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self._write(half if broken_off else content)
        if kind == "stall":
            self.server.closing.wait(self.fault.value)
        if broken_off:
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def _write(self, content: bytes | memoryview) -> None:
        block = 16384 if self.server.delay else 1 << 20
        for begin in range(0, len(content), block):
            self.wfile.write(content[begin : begin + block])
            self.server.closing.wait(self.server.delay)


def search(
    rows: list[dict[str, Any]], request: dict[str, Any], gone: Iterable[str] = ()
) -> tuple[list[str], list[dict[str, Any]]]:
    """
    The columns of a request to MAST's keyword service, and the rows that pass its filters.

    A request that names one unknown column fails as a whole. Those that are `gone` are unknown.

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
    wanted = request["params"].get("columns") or "*"
    known = [name for name in FIELDS if name not in gone]
    columns = [name.strip() for name in wanted.split(",")] if wanted != "*" else known
    unknown = {*columns, *(item["paramName"] for item in filters)} - set(known)
    if unknown:
        raise ValueError(f"unknown columns {', '.join(sorted(unknown))}")
    return columns, [r for r in rows if all(_passes(r.get(f["paramName"]), f) for f in filters)]


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
    Answer a query in the part of ADQL that SQLite understands as well; names and rows.

    Raises
    ------
    ValueError
        If SQLite does not understand the query.
    """
    database = sqlite3.connect(":memory:")
    database.execute("ATTACH ':memory:' AS gaiadr3")
    columns = ", ".join(f"{name} {kind}" for name, kind in STAR_COLUMNS.items())
    database.execute(f"CREATE TABLE gaiadr3.gaia_source_lite ({columns})")
    database.execute("CREATE VIEW gaiadr3.gaia_source AS SELECT * FROM gaia_source_lite")
    rows = [[star.get(name) for name in STAR_COLUMNS] for star in stars]
    marks = ", ".join("?" * len(STAR_COLUMNS))
    database.executemany(f"INSERT INTO gaiadr3.gaia_source_lite VALUES ({marks})", rows)
    sql = re.sub(r"(?is)SELECT\s+TOP\s+(\d+)(.*)", r"SELECT\2 LIMIT \1", query)
    with contextlib.closing(database), contextlib.suppress(sqlite3.Error):
        cursor = database.execute(sql)
        if cursor.description:
            return [column[0] for column in cursor.description], cursor.fetchall()
    raise ValueError(f"the demo server does not understand: {query}")


def _table(names: list[str], rows: list[tuple]) -> str:
    """The rows as the table of a VOTable; an empty cell is a null."""
    shown = {"source_id": "SOURCE_ID"}  # Gaia writes it so, whatever the query says
    types = {name: "double" if STAR_COLUMNS.get(name) == "REAL" else "long" for name in names}
    fields = "".join(
        f'<FIELD name="{shown.get(name, name)}" datatype="{kind}"/>' for name, kind in types.items()
    )
    cells = [["" if value is None else repr(value) for value in row] for row in rows]
    lines = "".join(f"<TR><TD>{'</TD><TD>'.join(row)}</TD></TR>" for row in cells)
    return f"<TABLE>{fields}<DATA><TABLEDATA>{lines}</TABLEDATA></DATA></TABLE>"


def _votable(status: str, message: str = "", table: str = "") -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">'
        f'<RESOURCE type="results"><INFO name="QUERY_STATUS" value="{status}">'
        f"{html.escape(message)}</INFO>{table}</RESOURCE></VOTABLE>"
    ).encode()


def _job_document(number: str, phase: str, error: str, url: str) -> bytes:
    """A job as Gaia describes it."""
    parts = [f"<uws:jobId>{number}</uws:jobId>", f"<uws:phase>{phase}</uws:phase>"]
    if phase == "COMPLETED":
        address = f"{url}/tap-server/tap/async/{number}/results/result"
        parts.append(f'<uws:results><uws:result id="result" xlink:href="{address}"/></uws:results>')
    if error:
        parts.append(
            '<uws:errorSummary type="fatal" hasDetail="true">'
            f"<uws:message>{html.escape(error)}</uws:message></uws:errorSummary>"
        )
    return _uws("job", "".join(parts))


def _uws(name: str, content: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<uws:{name} xmlns:uws="http://www.ivoa.net/xml/UWS/v1.0"'
        f' xmlns:xlink="http://www.w3.org/1999/xlink">{content}</uws:{name}>'
    ).encode()


@contextlib.contextmanager
def serve(folder: Path, port: int = 0) -> Iterator[tuple[Server, str]]:
    """
    Serve an archive folder in a thread of this process; yields the server and its address.

    Parameters
    ----------
    folder : `~pathlib.Path`
        With catalog.json ("exposures": rows of MAST's keyword service, "stars": those of Gaia)
        and the rate files.
    port : int
        0 for any that is free.
    """
    with Server(folder, port) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server, server.url
        finally:
            server.shutdown()
            thread.join()
