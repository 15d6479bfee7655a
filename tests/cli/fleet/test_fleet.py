"""The decisions of a fleet, with fake processes and a fake clock."""

from __future__ import annotations

import signal

import pytest

from kiqpy.cli.fleet.fleet import GRACE_S, MARGIN_S, PAUSE_S, START_S, Fleet
from kiqpy.cli.fleet.rules import cause, delay_after, exit_code, heaviest
from kiqpy.cli.fleet.start import check, words
from kiqpy.cli.run import run
from kiqpy.errors import ConfigError
from tests.cli.process import ROOT


class FakeProcesses:
    """A fleet whose processes are numbers: 101, 102, ... in the order they were started."""

    def __init__(self, size: int) -> None:
        self.now = 1000.0
        self.started: list[int] = []
        self.sent: list[tuple[int, str]] = []
        self.signals: list[tuple[int, int]] = []
        self.said: list[str] = []
        self.broken = False
        self.fleet = Fleet(size, self, lambda: self.now)
        self.fleet.tick()

    def start(self, slot: int) -> int:
        if self.broken:
            raise OSError("no more processes")
        self.started.append(slot)
        return 100 + len(self.started)

    def send(self, pid: int, word: str) -> None:
        self.sent.append((pid, word))

    def signal(self, pid: int, number: signal.Signals) -> None:
        self.signals.append((pid, number))

    def report(self, text: str) -> None:
        self.said.append(text)

    def up(self, *pids: int) -> None:
        for pid in pids:
            self.fleet.worker_up(pid, 25.0)
            self.fleet.tick()

    def ended(self, pid: int, code: int) -> None:
        self.fleet.worker_ended(pid, code)
        self.fleet.tick()

    def after(self, seconds: float) -> None:
        self.now += seconds
        self.fleet.tick()

    @property
    def pids(self) -> list[int]:
        return sorted(self.fleet.workers)


@pytest.fixture
def three() -> FakeProcesses:
    """Three workers that are up: 101, 102, 103 in slots 1, 2, 3."""
    world = FakeProcesses(3)
    world.up(101, 102, 103)
    assert world.pids == [101, 102, 103]
    world.said.clear()
    return world


# -- rules


def test_delays_double_up_to_half_a_minute_and_are_forgotten_after_one() -> None:
    delays = [0.0]
    for _ in range(7):
        delays.append(delay_after(delays[-1], 3.0))
    assert delays[1:] == [1, 2, 4, 8, 16, 30, 30]
    assert delay_after(30.0, 59.9) == 30
    assert delay_after(30.0, 60.0) == 1


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (0, "ended with exit code 0"),
        (3, "ended with exit code 3"),
        (1, "ended with exit code 1 (the configuration"),
        (75, "threads that could not be stopped"),
        (-9, "SIGKILL (if nobody sent it, the machine was out of memory)"),
        (-11, "was killed by SIGSEGV"),
        (-63, "was killed by signal 63"),
    ],
)
def test_why_it_ended_in_words(code: int, said: str) -> None:
    assert said in cause(code)


def test_the_fleets_exit_code_is_that_of_the_first_that_did_not_end_well() -> None:
    assert exit_code([]) == exit_code([0, 0]) == 0
    assert exit_code([0, 75, 1]) == 75
    assert exit_code([0, -9]) == 137


def test_the_largest_above_the_limit_goes_first() -> None:
    assert heaviest({1: 80.0, 2: 120.0, 3: 140.0}, 100) == 3
    assert heaviest({1: 80.0, 2: 100.0}, 100) is None
    assert heaviest({}, 100) is None


# -- starting


def test_the_first_one_is_started_alone_and_the_others_when_it_is_up() -> None:
    world = FakeProcesses(3)
    assert world.started == [1]
    assert world.fleet.wakes_in() is None
    world.up(101)
    assert world.started == [1, 2, 3]


@pytest.mark.parametrize(("code", "fleets"), [(1, 1), (2, 2), (0, 0), (-9, 137)])
def test_if_the_first_one_ends_before_it_is_up_so_does_the_fleet(code: int, fleets: int) -> None:
    world = FakeProcesses(3)
    world.ended(101, code)
    assert world.started == [1]
    assert world.fleet.finished
    assert world.fleet.code == fleets
    assert len(world.said) == (0 if code in (1, 2) else 1)  # these have explained themselves


def test_one_that_dies_is_started_again_later_each_time(three: FakeProcesses) -> None:
    pid = 102
    for delay_s in (1, 2, 4, 8, 16, 30, 30):
        three.ended(pid, -11)
        assert f"worker 2 (pid {pid}) was killed by SIGSEGV" in three.said[-1]
        assert f"again in {delay_s} s" in three.said[-1]
        assert three.fleet.wakes_in() == delay_s
        three.after(delay_s - 0.01)
        assert len(three.pids) == 2
        three.after(0.02)
        pid = three.pids[-1]
        three.up(pid)
    assert three.started == [1, 2, 3, *[2] * 7]
    three.after(60)
    three.ended(pid, 0)
    assert "again in 1 s" in three.said[-1]


def test_each_slot_waits_by_itself(three: FakeProcesses) -> None:
    three.ended(101, 1)
    three.after(0.5)
    three.ended(103, 1)
    three.after(0.5)
    assert three.started[3:] == [1]
    three.after(0.5)
    assert three.started[3:] == [1, 3]


def test_a_process_that_can_not_be_started_is_tried_again(three: FakeProcesses) -> None:
    three.ended(101, 1)
    three.broken = True
    three.after(1)
    assert "worker 1 can't be started: no more processes" in three.said[-1]
    three.broken = False
    three.after(1.9)
    assert len(three.pids) == 2
    three.after(0.2)
    assert len(three.pids) == 3


# -- replacing


def test_a_rolling_restart_starts_the_new_one_first_one_slot_at_a_time(
    three: FakeProcesses,
) -> None:
    three.fleet.restart()
    three.fleet.tick()
    for old, new in ((101, 104), (102, 105), (103, 106)):
        assert three.pids[-1] == new
        assert len(three.pids) == 4
        assert all(pid != old for pid, _ in three.sent)
        three.up(new)
        assert three.sent[-1] == (old, "stop")
        three.after(5)
        assert three.pids[-1] == new  # nobody else while the old one is leaving
        three.ended(old, 0)
    assert three.pids == [104, 105, 106]
    assert three.started[3:] == [1, 2, 3]
    assert three.said[0] == "restarting 3 processes, one at a time"
    assert three.said[-1] == "restarted: all processes are new"
    assert not any("exit code" in line for line in three.said)


def test_a_replacement_that_does_not_come_up_leaves_the_old_ones_alone(
    three: FakeProcesses,
) -> None:
    three.fleet.restart()
    three.fleet.tick()
    three.ended(104, 1)
    assert three.pids == [101, 102, 103]
    assert not three.sent
    assert (
        "before it was up: worker 1 (pid 101) stays, and no other worker is replaced"
        in three.said[-1]
    )
    three.after(1000)
    assert three.pids == [101, 102, 103]


def test_a_replacement_that_hangs_is_killed(three: FakeProcesses) -> None:
    three.fleet.restart()
    three.fleet.tick()
    assert three.fleet.wakes_in() == START_S
    three.after(START_S)
    assert three.signals == [(104, signal.SIGKILL)]
    three.ended(104, -9)
    assert three.pids == [101, 102, 103]


def test_an_old_one_that_dies_first_has_its_replacement_already(three: FakeProcesses) -> None:
    three.fleet.restart()
    three.fleet.tick()
    three.ended(101, -9)
    assert 105 in three.pids  # the next slot's
    three.up(104)
    assert three.sent == []
    three.ended(104, -9)  # and it is an ordinary worker now
    assert "again in 1 s" in three.said[-1]


def test_a_new_one_that_dies_while_the_old_one_leaves_is_started_again(
    three: FakeProcesses,
) -> None:
    three.fleet.restart()
    three.fleet.tick()
    three.up(104)
    three.ended(104, -9)
    assert "again in 1 s" in three.said[-1]
    three.ended(101, 0)
    three.after(1)
    assert three.started[3:] == [1, 2, 1]


def test_a_second_restart_replaces_those_of_the_first_too(three: FakeProcesses) -> None:
    three.fleet.restart()
    three.fleet.tick()
    three.fleet.restart()
    alive = 104
    while len(three.started) < 3 + 4:
        three.up(alive)
        three.ended(three.sent[-1][0], 0)
        alive = three.pids[-1]
    assert three.started[3:] == [1, 2, 3, 1]


def test_a_restart_fills_empty_slots_at_once(three: FakeProcesses) -> None:
    three.ended(101, 1)
    three.fleet.restart()
    three.fleet.tick()
    assert three.started[3:] == [1]
    three.fleet.tick()
    assert three.started[3:] == [1, 2]


# -- recycling


def test_one_at_a_time_is_recycled(three: FakeProcesses) -> None:
    sizes = {101: 300.0, 102: 500.0, 103: 100.0}
    three.fleet.recycle(sizes, 200)
    three.fleet.tick()
    assert three.said[-1] == "worker 2 (pid 102) has 500 MB, more than 200: replacing it"
    three.fleet.recycle(sizes, 200)
    three.fleet.tick()
    assert three.started[3:] == [2]
    three.up(104)
    three.ended(102, 0)
    three.fleet.recycle({**sizes, 104: 50.0}, 200)
    three.fleet.tick()
    assert three.started[3:] == [2, 1]


def test_one_that_grows_at_once_is_recycled_later_each_time() -> None:
    world = FakeProcesses(1)
    world.up(101)
    ages: list[float] = []
    for pid in range(101, 108):
        born = world.now
        while len(world.started) == pid - 100:
            world.fleet.recycle({pid: 500.0}, 200)
            world.after(0.5)
        world.up(pid + 1)
        world.ended(pid, 0)
        ages.append(world.now - born)
    assert ages == [0.5, 1.5, 2.5, 4.5, 8.5, 16.5, 30.5]


def test_after_a_replacement_that_did_not_come_up_nobody_is_recycled_for_a_minute() -> None:
    world = FakeProcesses(1)
    world.up(101)
    world.fleet.recycle({101: 500.0}, 200)
    world.fleet.tick()
    world.ended(102, 1)
    world.after(PAUSE_S - 1)
    world.fleet.recycle({101: 500.0}, 200)
    world.fleet.tick()
    assert world.started == [1, 1]
    world.after(2)
    world.fleet.recycle({101: 500.0}, 200)
    world.fleet.tick()
    assert world.started == [1, 1, 1]


# -- stopping


def test_a_stop_asks_all_and_ends_when_all_have_ended(three: FakeProcesses) -> None:
    three.fleet.stop()
    assert three.sent == [(101, "stop"), (102, "stop"), (103, "stop")]
    assert "running jobs get 25 s" in three.said[-1]
    for pid in (101, 102, 103):
        assert not three.fleet.finished
        three.ended(pid, 0)
    assert three.fleet.finished
    assert three.fleet.code == 0
    assert len(three.started) == 3


def test_a_second_stop_is_now_unless_it_is_the_same_signal(three: FakeProcesses) -> None:
    """A TERM to the supervisor and to its group, which it is in, stopped all jobs at once."""
    three.fleet.stop()
    three.fleet.stop()
    three.after(0.5)
    three.fleet.stop()
    assert three.sent[3:] == []
    three.after(1.0)
    three.fleet.stop()
    assert three.sent[3:] == [(101, "now"), (102, "now"), (103, "now")]
    three.after(MARGIN_S)
    assert three.signals == [(pid, signal.SIGKILL) for pid in (101, 102, 103)]


def test_one_that_does_not_end_is_killed_once(three: FakeProcesses) -> None:
    three.fleet.stop()
    three.ended(101, 0)
    three.after(GRACE_S + MARGIN_S - 0.01)
    assert three.signals == []
    three.after(0.02)
    three.after(100)
    assert three.signals == [(102, signal.SIGKILL), (103, signal.SIGKILL)]
    three.ended(102, -9)
    three.ended(103, 0)
    assert three.fleet.code == 137


@pytest.mark.parametrize("code", [130, -signal.SIGINT, -signal.SIGTERM])
def test_a_signal_that_meets_one_on_its_way_out_is_no_failure(
    three: FakeProcesses, code: int
) -> None:
    three.fleet.stop()
    for pid in (101, 102, 103):
        three.ended(pid, code)
    assert three.fleet.finished
    assert three.fleet.code == 0


def test_the_longest_grace_of_an_app_counts() -> None:
    world = FakeProcesses(1)
    world.fleet.worker_up(101, 500.0)
    world.fleet.stop()
    assert "get 500 s" in world.said[-1]
    assert world.fleet.wakes_in() == 500 + MARGIN_S


def test_one_that_is_not_up_is_sent_term_and_told_again_when_it_is(three: FakeProcesses) -> None:
    three.ended(101, 1)
    three.after(1)
    three.fleet.stop()
    assert three.signals == [(104, signal.SIGTERM)]
    three.fleet.worker_up(104, 25.0)
    assert three.sent[-1] == (104, "stop")
    world = FakeProcesses(2)
    world.fleet.stop()
    world.ended(101, -15)
    assert world.fleet.finished
    assert world.fleet.code == 0


def test_whoever_waits_to_be_started_is_not_when_it_stops(three: FakeProcesses) -> None:
    three.ended(101, 1)
    three.fleet.restart()
    three.fleet.stop()
    three.after(10)
    assert len(three.started) == 3


# -- quiet


def test_quiet_lets_nobody_start_until_a_restart(three: FakeProcesses) -> None:
    three.ended(101, -9)
    three.fleet.quiet()
    assert three.signals == [(102, signal.SIGTSTP), (103, signal.SIGTSTP)]
    three.ended(102, -9)
    assert "not started again" in three.said[-1]
    three.fleet.recycle({103: 500.0}, 200)
    three.after(100)
    assert three.pids == [103]
    three.fleet.restart()
    for _ in range(3):
        three.fleet.tick()
    assert three.started[3:] == [1, 2, 3]


def test_one_that_comes_up_after_quiet_is_told() -> None:
    world = FakeProcesses(2)
    world.fleet.quiet()
    world.up(101)
    assert world.signals == [(101, signal.SIGTSTP)]
    assert world.started == [1]


def test_a_dump_is_asked_only_of_those_who_listen(three: FakeProcesses) -> None:
    three.ended(101, 1)
    three.after(1)
    three.fleet.dump()
    assert three.signals == [(102, signal.SIGTTIN), (103, signal.SIGTTIN)]


# -- becoming one


def test_it_is_a_fleet_only_where_one_was_asked_for() -> None:
    assert not check(1, None)
    assert not check(1, None, "nt")
    assert check(2, None)
    assert check(1, 100.0)
    with pytest.raises(ConfigError, match="start `kiqpy run` several times"):
        check(2, None, "nt")


def test_workers_get_the_options_that_were_written_and_not_those_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KIQPY_REDIS_URL", "redis://:secret@somewhere/0")
    given = ["-q", "a:3", "shop:jobs", "--queue", "b", "-c9", "--processes", "4", "--uvloop", "off"]
    context = run.make_context("run", [*given, "--max-memory", "300"])
    assert words(context) == [
        "shop:jobs", "--queue=a:3", "--queue=b", "--concurrency=9", "--uvloop=off",
    ]  # fmt: skip


def test_the_page_names_every_option_and_its_variable() -> None:
    page = (ROOT / "docs" / "running.md").read_text("utf-8")
    for parameter in run.params:
        assert str(parameter.envvar) in page
        assert all(name in page for name in parameter.opts if name.startswith("-"))
