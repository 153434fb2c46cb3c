"""The server of the page: what it answers, and to whom."""

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from stepsize.cli import main
from stepsize.watching import WatchServer
from stepsize.watching.server import is_loopback, page

HOSTILE = "</script><script>alert(1)</script>"


@pytest.fixture
def server(tmp_path):
    path = tmp_path / "run<b>.jsonl"
    rows = [{"event": "start", "step": 0, "rule": HOSTILE, HOSTILE: 1}]
    rows += [{"step": k, "loss": 1.0 / k, HOSTILE: 1.0} for k in range(1, 50)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with WatchServer(path) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.02,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def ask(server, path="/", host=None, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    if host != "":
        connection.putheader("Host", host or f"127.0.0.1:{server.server_port}")
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer, body


def test_the_page_needs_nothing_from_elsewhere_and_holds_nothing_of_the_run(server):
    answer, body = ask(server)
    assert answer.status == 200 and answer.getheader("Content-Type").startswith("text/html")
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", body)
    assert "run<b>" not in body and "alert" not in body
    script = body[body.index("<script>") :]
    assert "innerHTML" not in script and "document.write" not in script and "eval(" not in script


def test_the_policy_allows_the_pages_own_style_and_script_alone(server):
    policy = ask(server)[0].getheader("Content-Security-Policy")
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert len(re.findall(r"'sha256-[^']+'", policy)) == 2


def test_the_data_are_json_and_names_are_as_they_are(server):
    answer, body = ask(server, "/data")
    told = json.loads(body)
    assert answer.getheader("Content-Type").startswith("application/json")
    assert answer.getheader("X-Content-Type-Options") == "nosniff"
    assert told["step"] == 49 and told["name"] == "run<b>.jsonl"
    assert HOSTILE in [panel["title"] for panel in told["panels"]]
    assert json.loads(ask(server, f"/data?since={told['version']}")[1])["same"]


def test_what_is_not_there_is_not_found(server):
    for path in ("/run.jsonl", "/../etc/passwd", "/data/", "/page.js", "/%00"):
        assert ask(server, path)[0].status == 404, path


@pytest.mark.parametrize("host", ["localhost", "localhost:80", "127.0.0.1", "[::1]:9", "127.1.2.3"])
def test_this_machine_is_answered(server, host):
    assert ask(server, "/data", host)[0].status == 200


FOREIGN = [
    "evil.example", "evil.example:8137", "localhost.evil.example", "127.0.0.1.evil.example", "",
    "10.0.0.1", "192.168.1.7:8137", "[", "[::1", "evil@localhost.example", "0x7f.1",
]  # fmt: skip


@pytest.mark.parametrize("host", FOREIGN)
@pytest.mark.parametrize("path", ["/", "/data"])
def test_a_name_that_was_made_to_point_here_is_refused(server, host, path):
    answer, body = ask(server, path, host)
    assert answer.status == 403 and "loss" not in body and "localhost" in body


def test_nothing_but_reading_is_answered(server):
    assert ask(server, method="HEAD")[1] == ""
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert ask(server, "/data", method=method)[0].status == 501


def test_a_request_that_is_cut_off_ends_nothing(server):
    for raw in (b"", b"GET", b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n", b"\x00" * 100):
        with socket.create_connection(("127.0.0.1", server.server_port)) as one:
            one.sendall(raw)
    assert ask(server)[0].status == 200


def test_what_is_loopback():
    assert is_loopback("localhost") and is_loopback("127.0.0.9") and is_loopback("::1")
    assert not is_loopback("0.0.0.0") and not is_loopback("::") and not is_loopback("10.0.0.1")
    with pytest.raises(OSError):
        is_loopback("no such name.invalid")


def failed(capsys, *arguments):
    code = main(["watch", *map(str, arguments)])
    return code, capsys.readouterr().err


def test_another_address_must_be_allowed(tmp_path, capsys):
    for host in ("0.0.0.0", "::", "10.9.8.7"):
        code, told = failed(capsys, tmp_path / "run.jsonl", "--host", host)
        assert code == 2 and "--allow-remote" in told
    code, told = failed(capsys, tmp_path / "x", "--host", "203.0.113.9", "--allow-remote")
    assert code == 2 and "no address of this machine" in told
    code, told = failed(capsys, tmp_path / "x", "--host", "no such.invalid")
    assert code == 2 and "is unknown" in told


def test_a_port_that_is_taken_names_the_next_move(tmp_path, capsys, server):
    code, told = failed(capsys, tmp_path / "x", "--port", server.server_port)
    assert code == 1 and f"port {server.server_port} is taken: --port 0" in told
    for port in ("-1", "65536", "x", "1.5"):
        code, told = failed(capsys, tmp_path / "x", "--port", port)
        assert code == 2 and "whole number from 0 to 65535" in told


def test_a_folder_is_refused(tmp_path, capsys):
    code, told = failed(capsys, tmp_path)
    assert code == 2 and "is no file" in told


def test_a_file_that_is_no_log_is_refused_before_a_page_is_opened(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    code, told = failed(capsys, tmp_path / "t.csv")
    assert code == 2 and "t.csv cannot be followed: its columns are a, b, and none is step" in told


def test_the_command_serves_until_ctrl_c(tmp_path):
    command = [
        sys.executable,
        "-m",
        "stepsize",
        "watch",
        str(tmp_path / "run.jsonl"),
        "--port",
        "0",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        first = process.stdout.readline()
        port = int(re.search(r"http://127\.0\.0\.1:(\d+)/", first)[1])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/data")
        assert json.loads(connection.getresponse().read())["state"] == "waiting"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 0 and "ended; the run was not touched" in told
    assert "Traceback" not in told


def test_the_page_is_made_once():
    assert page() is page()
