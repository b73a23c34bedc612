"""Waiting for room on a disk: longer each time, asking for more each time, and anew after progress."""

from batch_inferd.seams.files import Directory
from batch_inferd.tasks.room import FIRST_S, MAX_S, Room


def waits(room: Room, count: int) -> list[float]:
    found = []
    for _ in range(count):
        room.full(0.0)
        now = 0.0
        while not room.is_due(now):
            now += 1.0
        found.append(now)
    return found


def test_the_waits_grow_and_begin_anew():
    room = Room()
    found = waits(room, 6)
    assert found[0] == FIRST_S
    assert found == sorted(found)
    assert found[-1] == MAX_S
    room.progressed()
    assert waits(room, 1) == [FIRST_S]


def test_one_look_a_wait():
    room = Room()
    room.full(0.0)
    assert not room.is_due(1.0)
    assert room.is_due(5.0)
    assert not room.is_due(5.1)


def test_room_is_tried_for_real(tmp_path, monkeypatch):
    folder = tmp_path / "task"
    folder.mkdir()
    directory = Directory(folder)
    room = Room()
    room.full(0.0)
    assert room.is_there(directory)
    monkeypatch.setenv("BATCH_INFER_FS_FAULTS", "write:.room=28")
    assert not room.is_there(directory)
    assert list(folder.iterdir()) == []
    directory.close()
