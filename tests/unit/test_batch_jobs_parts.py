"""The parts of the worker's jobs: moves in journals, windows, expected lines, the journal of a job."""

import errno
import itertools
import os

import pytest
from batch_jobs_kit import Desk, batch_plan
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_kit import T, attempt, error
from worker_kit import ask

from batch_inferd.backends.body import BodyBuilder, InvalidLine, custom_id_of
from batch_inferd.journal.format import Attempt, decode, encode_attempt
from batch_inferd.journal.names import chunk_journals, journal_name
from batch_inferd.journal.reader import LineState, read_chunk
from batch_inferd.seams.files import Directory
from batch_inferd.worker.batch.index import Expected
from batch_inferd.worker.batch.jobjournal import JobJournal
from batch_inferd.worker.batch.window import Window
from batch_inferd.worker.guard import WriteGuard


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    made.add(ask("a"))
    yield made
    made.close()


class TestMoves:
    @given(
        move=st.sampled_from(["", "online"]),
        submission=st.text(max_size=20).filter(lambda text: text.isprintable()),
        message=st.text(max_size=50),
        charged=st.booleans(),
    )
    def test_round_trip(self, move, submission, message, charged):
        fields = {
            "line": 7, "round": 1, "attempt": 2, "t": T, "failure": "expired", "status": None,
            "not_before": T, "charged": charged, "strikes": 0, "outages": 0, "move": move,
            "submission": submission,
        }  # fmt: skip
        line = encode_attempt(message=message, **fields)
        entry = decode(line)
        assert isinstance(entry, Attempt)
        assert (entry.move, entry.submission, entry.charged) == (move, submission, charged)
        assert (b'"move"' in line, b'"submission"' in line) == (bool(move), bool(submission))

    def test_an_attempt_of_an_online_call_is_written_as_ever(self):
        assert b"move" not in attempt(1)
        assert b"submission" not in attempt(1)

    def test_a_move_forgives_what_was_charged(self, desk):
        entries = [
            attempt(1, 1, strikes=2), attempt(1, 2), attempt(1, 3, move="online"), attempt(1, 4),
            attempt(1, 5, charged=False, strikes=1),
        ]  # fmt: skip
        for order in itertools.permutations(entries):
            state = LineState()
            for entry in order:
                state.take(decode(entry))
            assert (state.online, state.charged, state.strikes, state.attempts) == (True, 1, 1, 5)
        state = LineState()
        for entry in entries[:3]:
            state.take(decode(entry))
        assert (state.online, state.charged, state.strikes) == (True, 0, 0)

    @settings(max_examples=200)
    @given(data=st.data(), count=st.integers(1, 8))
    def test_the_order_of_the_journals_does_not_matter(self, data, count):
        made = [
            decode(
                attempt(
                    1,
                    number,
                    t=T + number,
                    charged=data.draw(st.booleans()),
                    strikes=data.draw(st.integers(0, 3)),
                    failure=data.draw(st.sampled_from(["absent", "server_error"])),
                    **data.draw(
                        st.sampled_from([{}, {"move": "online"}, {"submission": "5"}, {"submission": "6"}])
                    ),
                )
            )
            for number in range(1, count + 1)
        ]
        forward, other = LineState(), LineState()
        for entry in made:
            forward.take(entry)
        for entry in data.draw(st.permutations(made)):
            other.take(entry)
        assert forward == other
        assert forward.told == other.told
        moved = max((entry.attempt for entry in made if entry.move), default=0)
        assert forward.charged == sum(entry.charged for entry in made if entry.attempt > moved)
        assert forward.online == bool(moved)
        told = [entry for entry in made if entry.failure != "absent"]
        assert forward.told == ((told[-1].failure, told[-1].status, told[-1].message) if told else None)

    def test_a_move_of_an_earlier_round_is_history(self, desk):
        (desk.path / journal_name(1, "aa")).write_bytes(attempt(1, move="online") + error(1))
        assert read_chunk(desk.folder.directory, 1, 1).state(1) == LineState()
        assert read_chunk(desk.folder.directory, 1, 0).retries == 1


class TestExpected:
    def test_positions(self):
        expected = Expected([[(3, 5)], [(9, 9), (20, 21)]])
        assert expected.count == 6
        found = {number: expected.position(f"r{number}") for number in range(25)}
        assert {number: at for number, at in found.items() if at >= 0} == {
            3: 0,
            4: 1,
            5: 2,
            9: 3,
            20: 4,
            21: 5,
        }

    @pytest.mark.parametrize(
        "key", [None, "", "r", "3", "R3", "r03", "r3 ", "r-3", "r+3", "r٣", "r²", "r3.0", "r" + "9" * 5000]
    )
    def test_what_is_no_id_of_ours(self, key):
        assert Expected([[(1, 5)]]).position(key) == -1

    def test_nothing_is_expected(self):
        assert Expected([]).position("r1") == -1


class TestWindow:
    @settings(max_examples=50, deadline=None)
    @given(
        sizes=st.lists(st.integers(0, 90_000), min_size=1, max_size=20),
        order=st.randoms(use_true_random=False),
        shuffled=st.booleans(),
    )
    def test_reads_what_stands_there(self, tmp_path_factory, sizes, order, shuffled):
        pieces = [bytes([65 + n % 26]) * size for n, size in enumerate(sizes)]
        path = tmp_path_factory.mktemp("w") / "f"
        path.write_bytes(b"".join(pieces))
        offsets = [sum(sizes[:n]) for n in range(len(sizes))]
        wanted = list(range(len(sizes)))
        if shuffled:
            order.shuffle(wanted)
        fd = os.open(path, os.O_RDONLY)
        window = Window(fd, "f")
        try:
            for n in wanted:
                assert window.read(offsets[n], sizes[n]) == pieces[n]
            with pytest.raises(OSError, match="shorter"):
                window.read(sum(sizes), 1)
        finally:
            os.close(fd)


class TestJobJournal:
    def journal(self, desk, job="j"):
        return JobJournal(desk.folder.directory, 1, job, WriteGuard())

    def test_nothing_is_made_for_nothing(self, desk):
        journal = self.journal(desk)
        journal.finish()
        journal.abandon()
        assert chunk_journals(desk.folder.directory, 1) == []

    def test_blocks(self, desk):
        journal = self.journal(desk)
        line = attempt(1, message="x" * 900)
        for _ in range(1000):
            journal.add(line)
        assert 256 * 1024 <= (desk.path / journal_name(1, "j")).stat().st_size < 1000 * len(line)
        journal.finish()
        assert (desk.path / journal_name(1, "j")).read_bytes() == line * 1000

    def test_a_name_is_never_used_twice(self, desk):
        for _ in range(3):
            journal = self.journal(desk)
            journal.add(attempt(1))
            journal.finish()
        assert chunk_journals(desk.folder.directory, 1) == sorted(
            [journal_name(1, "j"), journal_name(1, "j-2"), journal_name(1, "j-3")]
        )

    def test_an_abandoned_one_has_only_whole_lines(self, desk, monkeypatch):
        journal = self.journal(desk)
        monkeypatch.setenv("BATCH_INFER_FS_FAULTS", f"write:0000001.j.={errno.ENOSPC}@2")

        def fill():
            for _ in range(10_000):
                journal.add(attempt(1))

        with pytest.raises(OSError, match="planned"):
            fill()
        journal.abandon()
        state = read_chunk(desk.folder.directory, 1, 0)
        assert (state.torn, state.quarantined) == (0, 0)
        assert state.retries > 1000


class TestMerged:
    def test_build_is_merge_and_join(self):
        builder = BodyBuilder(batch_plan())
        line = ask("x", custom_id="c", model="m", seed=1)
        merged, request = builder.merge(line, 3), builder.build(line, 3)
        assert merged.body() == request.body
        assert (merged.endpoint, merged.custom_id, merged.own_model) == ("chat", b'"c"', True)
        assert bytes(merged.fields["model"]) == b'"m"'
        with pytest.raises(InvalidLine):
            builder.merge(b"no", 3)

    def test_many_names_and_long_ones(self):
        builder = BodyBuilder(batch_plan())
        name = "n" * 100
        for number in range(2000):
            body = builder.build(ask("x", **{f"f{number}": 1, name: 2}), 3).body
            assert b'"f%d":1,"%b":2' % (number, name.encode()) in body

    def test_a_custom_id_that_is_spelt_in_escapes(self):
        assert custom_id_of(rb'{"custom\u005fid":"mine","messages":[]}', 4) == b'"mine"'
        assert custom_id_of(rb'{"messages":["\u00e9"]}', 4) == b'"4"'
        assert custom_id_of(b'{"messages":[]', 4) == b'"4"'


def test_the_folder_of_a_job_is_a_directory_handle(tmp_path):
    """Names are relative to a handle: a folder that was renamed is still the one that is written to."""
    desk = Desk(tmp_path)
    desk.add(ask("a"))
    desk.path.rename(tmp_path / "elsewhere")
    found = desk.pack(desk.chunk())
    assert (tmp_path / "elsewhere" / found["packs"][0]["file"]).exists()
    assert not desk.path.exists()
    assert isinstance(desk.folder.directory, Directory)
    desk.close()
