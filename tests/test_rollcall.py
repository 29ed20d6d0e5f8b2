"""No process waits for one that is gone. The others are played by sockets here."""

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from torch.distributed import TCPStore

from clbench.errors import ClbenchError
from clbench.processes import contact, members, rollcall, same
from clbench.processes.contact import Wire, key, open_store
from clbench.processes.members import First, Other
from clbench.processes.rollcall import Chosen

ADDRESS = ("127.0.0.1", 0)
HEARD = {}  # by line, what came along with what was asked for


@pytest.fixture(autouse=True)
def clean(monkeypatch, ctrl_c):
    """A process like any other, with the usual Ctrl-C."""
    for name in ("MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    monkeypatch.setattr(rollcall, "NEWS", 0.5)
    monkeypatch.setattr(members, "LEAVING", 0.2)
    yield
    for line in HEARD:
        line.socket.close()
    HEARD.clear()


@pytest.fixture
def first():
    """The first of three processes, started by somebody else."""
    return First(3, 1, 0, ADDRESS, 30.0, "digest")


def join(first, rank, recipe="digest"):
    line = Wire(socket.create_connection(("127.0.0.1", first.server.getsockname()[1])))
    HEARD[line] = []
    line.send({"rank": rank, "recipe": recipe})
    deadline = time.monotonic() + 5
    while rank not in first.lines and time.monotonic() < deadline:
        time.sleep(0.005)
    return line


def hear(line):
    """What is said next."""
    line.socket.settimeout(10)
    heard = HEARD[line]
    if not heard:
        heard += line.read()
    return heard.pop(0)


def work(first):
    """A run that would go on for long."""
    with first.watch():
        first.agree(lambda: Chosen(Path("runs/x")))
        time.sleep(20)


def later(function, *arguments):
    threading.Timer(0.3, function, arguments).start()


def test_all_agree_on_the_folder_also_who_comes_late(first, tmp_path):
    early = join(first, 1)
    with first.watch():
        assert first.agree(lambda: Chosen(tmp_path, True)) == Chosen(tmp_path, True)
        late = join(first, 2)
        for line in (early, late):
            assert hear(line) == {"folder": str(tmp_path), "resume": True, "over": False, "run": 1}
        for line in (early, late):
            line.send({"done": 1})
    assert hear(early) == {"done": 1}
    # The next run in the same program.
    with first.watch():
        first.agree(lambda: Chosen(tmp_path))
        assert hear(late) == {"done": 1}
        assert hear(late)["run"] == 2
        early.send({"done": 2})
        late.send({"done": 2})


def test_a_process_that_is_gone_ends_the_run_of_all(first):
    one, two = join(first, 1), join(first, 2)
    later(one.socket.shutdown, socket.SHUT_RDWR)
    began = time.monotonic()
    with pytest.raises(ClbenchError, match=r"^process 1 of 3 is gone$"):
        work(first)
    assert time.monotonic() - began < 5
    assert "folder" in hear(two)
    assert hear(two) == {"failed": "process 1 of 3 is gone", "signal": 0}


def test_a_process_that_fails_says_why(first):
    one, two = join(first, 1), join(first, 2)
    later(one.send, {"failed": "x.jpg cannot be read", "signal": 0})
    with pytest.raises(ClbenchError, match=r"^x\.jpg cannot be read$"):
        work(first)
    assert "folder" in hear(two)
    assert hear(two)["failed"] == "x.jpg cannot be read"


def test_ctrl_c_on_one_process_stops_all(first):
    one, _ = join(first, 1), join(first, 2)
    later(one.send, {"failed": "stopped", "signal": signal.SIGTERM})
    with pytest.raises(KeyboardInterrupt) as caught:
        work(first)
    assert caught.value.args == (signal.SIGTERM,)


def test_sigterm_stops_the_run_and_the_others_hear_of_it(first):
    one, _ = join(first, 1), join(first, 2)
    later(os.kill, os.getpid(), signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt) as caught:
        work(first)
    assert caught.value.args == (signal.SIGTERM,)
    assert "folder" in hear(one)
    assert hear(one) == {"failed": "stopped", "signal": signal.SIGTERM}
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_refusal_before_all_have_come_reaches_the_late(first, monkeypatch):
    monkeypatch.setattr(members, "LEAVING", 5.0)
    one, late = join(first, 1), queue.Queue()
    later(lambda: late.put(join(first, 2)))

    def choose():
        raise ClbenchError("the folder holds another run")

    with pytest.raises(ClbenchError, match="another run"), first.watch():
        first.agree(choose)
    for line in (one, late.get(timeout=10)):
        assert hear(line)["failed"] == "the folder holds another run"


def test_who_never_comes_is_not_waited_for():
    first = First(3, 1, 0, ADDRESS, 0.5, "digest")
    join(first, 1)
    with pytest.raises(ClbenchError, match=r"of 3 processes, 2 did not come within 0\.5 s: start"):
        work(first)


def test_another_recipe_is_refused(first):
    later(join, first, 1, "another")
    with pytest.raises(ClbenchError, match="process 1 of 3 was started with another recipe"):
        work(first)


def test_a_stranger_is_not_listened_to(first):
    with socket.create_connection(("127.0.0.1", first.server.getsockname()[1])) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(OSError):
            assert stranger.recv(100) == b""
    with first.watch():
        first.agree(lambda: Chosen(Path("x")))
        time.sleep(0.2)


def test_gloos_words_are_replaced_by_the_news(first):
    one, _ = join(first, 1), join(first, 2)

    def fit():
        with first.watch():
            one.socket.close()
            raise RuntimeError("[/src/gloo/transport/tcp/pair.cc:534] Connection closed by peer")

    with pytest.raises(ClbenchError, match=r"^process 1 of 3 is gone$"):
        fit()


def test_a_time_limit_says_which_setting(first):
    one = join(first, 1)
    told = pytest.raises(ClbenchError, match=r"\(Timed out .*process_timeout")
    with told as caught, first.watch():
        raise RuntimeError("[/src/gloo/unbound_buffer.cc:78] Timed out waiting 8000ms")
    assert "\n" not in str(caught.value)
    assert "gloo" not in str(caught.value)
    assert hear(one)["failed"] == str(caught.value)


def test_an_error_of_its_own_stays_what_it_is(first):
    one = join(first, 1)
    with pytest.raises(ZeroDivisionError), first.watch():
        1 / 0  # noqa: B018
    assert hear(one)["failed"] == "process 0 of 3 failed: ZeroDivisionError: division by zero"


def test_who_has_finished_may_leave_while_the_first_one_reports(first):
    one, two = join(first, 1), join(first, 2)
    with first.watch():
        first.agree(lambda: Chosen(Path("x")))
        for line in (one, two):
            line.send({"done": 1})
            line.socket.close()
        time.sleep(0.3)
    with pytest.raises(ClbenchError, match="start anew"), first.watch():
        first.agree(lambda: Chosen(Path("x")))


def test_all_go_into_a_run_with_the_same(first):
    one, two = join(first, 1), join(first, 2)
    own = {"data": "abc", "checkpoint": [2, "d"]}
    for line in (one, two):
        later(line.send, same.fingerprints(own) | {"run": 1})
    with first.watch():
        first.compare(own, 30.0)
    for line in (one, two):
        assert hear(line) == {"same": 1}


def test_a_host_with_other_data_ends_the_run(first):
    one, two = join(first, 1), join(first, 2)
    own = {"classes": ["a"], "data": "abc"}
    later(one.send, same.fingerprints(own) | {"run": 1, "host": "one"})
    later(two.send, same.fingerprints(own | {"data": "abd"}) | {"run": 1, "host": "far"})
    told = pytest.raises(ClbenchError, match="process 2 of 3, on host far, does not have the data")
    with told as caught, first.watch():
        first.compare(own, 30.0)
    assert "\n" not in str(caught.value)
    assert hear(one)["failed"] == str(caught.value)


def test_who_is_not_ready_in_time_ends_the_run(first):
    join(first, 1)
    with pytest.raises(ClbenchError, match=r"not ready to train after 0\.3 s"), first.watch():
        first.compare({}, 0.3)


@pytest.mark.parametrize(("before", "address"), [({}, "127.0.0.1"), ({"is": "eth7"}, "10.1.1.1")])
def test_gloos_interface_is_left_alone(monkeypatch, before, address):
    """On one machine, and where the user has named one; tests/test_hosts.py has the rest."""
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    for name in before.values():
        monkeypatch.setenv("GLOO_SOCKET_IFNAME", name)
    contact.use_interface(address)
    assert os.environ.get("GLOO_SOCKET_IFNAME") == before.get("is")


@pytest.fixture
def other(tmp_path):
    """The second process of two, and the first one's end of the line."""
    store = open_store(ADDRESS, 5.0)
    server = socket.create_server(("127.0.0.1", 0))
    store.set(key(), str(server.getsockname()[1]))
    made = Other(1, 2, 1, 0, ("127.0.0.1", store.port), 5.0, "digest")
    line = Wire(server.accept()[0])
    HEARD[line] = []
    server.close()
    assert hear(line) == {"rank": 1, "recipe": "digest"}
    return made, line


def follow(other):
    with other.watch():
        folder = other.agree(lambda: pytest.fail("the first process chooses"))
        time.sleep(20)
    return folder


def test_the_first_one_is_gone_before_it_has_chosen_a_folder(other):
    made, line = other
    later(line.socket.shutdown, socket.SHUT_RDWR)
    with pytest.raises(ClbenchError, match=r"^process 0 of 2 is gone$"):
        follow(made)


def test_the_first_one_fails_and_the_others_end_in_silence(other):
    made, line = other
    line.send({"folder": "/x", "resume": True, "over": False, "run": 1})
    later(line.send, {"failed": "no space", "signal": 0})
    with pytest.raises(SystemExit) as caught:
        follow(made)
    assert caught.value.code == 2


def test_what_the_user_can_mend_is_said_by_the_first_one(other):
    made, line = other
    with pytest.raises(SystemExit), made.watch():
        raise ClbenchError("x.jpg cannot be read")
    assert hear(line) == {"failed": "x.jpg cannot be read", "signal": 0}


def test_the_first_one_says_that_all_have_the_same(other):
    made, line = other
    later(line.send, {"same": 1})
    with made.watch():
        made.compare({"data": "abc"}, 30.0)
    assert hear(line) == same.fingerprints({"data": "abc"}) | {"run": 1}


def test_a_first_one_that_gives_no_word_is_not_waited_for_without_end(other):
    made, line = other
    with pytest.raises(SystemExit), made.watch():
        made.compare({"data": "abc"}, 0.3)
    assert "has" in hear(line)
    assert hear(line)["failed"].startswith(
        "of 2 processes, one is not ready to train 0.3 s after process 1"
    )


def test_the_end_of_the_run_is_no_loss(other):
    made, line = other
    line.send({"folder": "/x", "resume": True, "over": False, "run": 1})
    with made.watch():
        assert made.agree(lambda: None) == Chosen(Path("/x"), True)
        line.send({"done": 1})
        line.socket.close()
        time.sleep(0.3)
    assert made.failure is None


def test_a_first_process_that_never_comes_is_not_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ClbenchError, match=r"found no first process at .* within 0\.5 s"):
        Other(1, 2, 1, 0, ("127.0.0.1", port), 0.5, "digest")


def test_a_child_without_its_parent_ends(monkeypatch):
    monkeypatch.setenv(contact.PARENT, "1")
    with pytest.raises(ClbenchError, match="process 0 was gone"):
        Other(1, 2, 1, 0, ("127.0.0.1", 9), 5.0, "digest")
    with pytest.raises(SystemExit):
        Other(2, 3, 1, 0, ("127.0.0.1", 9), 5.0, "digest")


def test_a_port_that_is_taken_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ClbenchError, match="set MASTER_PORT to a free port") as caught:
            open_store(("127.0.0.1", port), 1.0)
    assert "\n" not in str(caught.value)


def test_two_runs_side_by_side_meet_at_ports_of_their_own():
    one, two = (First(2, 1, 0, ADDRESS, 5.0, "digest") for _ in range(2))
    assert one.store.port != two.store.port
    # And torch's own processes meet where the roll call is: the port is held from the start.
    again = TCPStore("127.0.0.1", one.store.port, None, True, multi_tenant=True)
    assert again.check([key()])


def test_a_main_thread_that_hears_nothing_is_ended(tmp_path):
    """It waits in a library, which no exception reaches."""
    script = tmp_path / "deaf.py"
    script.write_text(
        "import signal, subprocess, sys, threading, time\n"
        "from clbench.processes import rollcall\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "rollcall.GRACE = 0.2\n"
        "roll = rollcall.Alone()\n"
        "roll.children = [subprocess.Popen(['sleep', '50'])]\n"
        "lost = rollcall.Failure('process 1 of 2 is gone')\n"
        "threading.Timer(0.2, roll.lose, [lost]).start()\n"
        "with roll.watch():\n"
        "    print(roll.children[0].pid, flush=True)\n"
        "    time.sleep(50)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == "error: process 1 of 2 is gone; go on with --resume\n"
    assert not Path(f"/proc/{done.stdout.strip()}").exists()


def test_messages_come_whole_however_they_are_cut():
    here, there = socket.socketpair()
    line = Wire.__new__(Wire)
    line.socket, line.rank, line._rest = there, 0, b""
    text = json.dumps({"failed": "é" * 50}).encode() + b"\n" + b'{"done": 1}\n'
    for part in (text[:30], text[30:]):
        here.sendall(part)
        heard = line.read()
    assert heard == [{"failed": "é" * 50}, {"done": 1}]
    here.close()
    assert line.read() is None
    there.close()
