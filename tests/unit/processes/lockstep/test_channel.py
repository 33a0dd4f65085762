import socket

import pytest

from peftbench.processes.lockstep.channel import Channel, PeerLostError


@pytest.fixture
def ends() -> tuple[Channel, Channel]:
    one, other = socket.socketpair()
    return Channel(one), Channel(other)


def test_messages_arrive_whole_and_in_order(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    for number in range(3):
        one.send({"do": "round", "number": number, "text": "line\nbreak ü"})
    assert [other.receive()["number"] for _ in range(3)] == [0, 1, 2]
    other.send({"wall_s": 0.1})
    assert one.receive() == {"wall_s": 0.1}


def test_a_peer_that_is_gone_is_known_by_its_channel(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    other.send({"half": True})
    other.close()
    assert one.receive() == {"half": True}
    for action in (one.receive, lambda: one.send({"x": "y" * 1_000_000})):
        with pytest.raises(PeerLostError) as caught:
            action()
        assert caught.value.channel is one


def test_a_line_that_was_cut_off_is_no_message() -> None:
    one, other = socket.socketpair()
    other.sendall(b'{"wall_s": 0.')
    other.close()
    with pytest.raises(PeerLostError):
        Channel(one).receive()
