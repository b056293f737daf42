"""What the client says of a command, over real sockets: committed, not committed, or unknown; and what it retries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

import pytest

from replog.client import ReplogClient
from replog.errors import (
    Busy,
    CommandFailed,
    DeadlineExceeded,
    OutcomeUnknown,
    PeerRefused,
    ProposalTooLarge,
    QueryFailed,
    ReplogError,
    Unavailable,
)
from replog.types import CommandError
from tests.integration.served_node import ENTRY_BYTES_MAX, ServedNode, served, until


async def test_a_command_gets_the_result_of_its_application() -> None:
    async with served(ServedNode("a")) as client:
        assert await client.propose(b"x") == b"did x"


async def test_commands_of_one_iteration_leave_as_one_batch() -> None:
    node = ServedNode("a")
    async with served(node) as client:
        await client.propose(b"first")
        batches = node.batches

        results = await asyncio.gather(*(client.propose(b"%d" % number) for number in range(1_000)))

        assert results == [b"did %d" % number for number in range(1_000)]
        assert node.batches - batches == 1
        assert node.appended[1:] == [b"%d" % number for number in range(1_000)]


async def test_propose_many_gives_all_results_with_the_error_of_one() -> None:
    node = ServedNode("a")
    node.answer = lambda commands: [CommandError("ValueError", "no") if command == b"bad" else command for command in commands]
    async with served(node) as client:
        results = await client.propose_many([b"1", b"bad", b"3"])

    assert results[0] == b"1"
    assert isinstance(results[1], CommandError)
    assert (results[1].kind, results[1].message) == ("ValueError", "no")
    assert results[2] == b"3"


async def test_propose_many_of_nothing_is_nothing() -> None:
    async with served(ServedNode("a")) as client:
        assert await client.propose_many([]) == []


async def test_a_large_propose_many_goes_in_parts_and_keeps_its_order() -> None:
    node = ServedNode("a")
    commands = [bytes([number]) * 400_000 for number in range(20)]
    async with served(node) as client:
        results = await client.propose_many(commands)

    assert node.appended == commands
    assert results == [b"did " + command for command in commands]
    assert node.batches > 1


async def test_a_command_that_raises_fails_alone() -> None:
    node = ServedNode("a")
    node.answer = lambda commands: [CommandError("KeyError", "gone") if command == b"bad" else command for command in commands]
    async with served(node) as client:
        good, bad = await asyncio.gather(client.propose(b"good"), client.propose(b"bad"), return_exceptions=True)

    assert good == b"good"
    assert isinstance(bad, CommandFailed)
    assert bad.kind == "KeyError"


async def test_an_oversized_command_is_refused_and_its_batch_goes_on() -> None:
    node = ServedNode("a")
    async with served(node) as client:
        good, large = await asyncio.gather(client.propose(b"good"), client.propose(bytes(ENTRY_BYTES_MAX + 1)), return_exceptions=True)

    assert good == b"did good"
    assert isinstance(large, ProposalTooLarge)
    assert (large.size_bytes, large.limit_bytes) == (ENTRY_BYTES_MAX + 1, ENTRY_BYTES_MAX)
    assert node.appended == [b"good"]


async def test_an_oversized_command_in_propose_many_refuses_all_of_them() -> None:
    node = ServedNode("a")
    async with served(node) as client:
        with pytest.raises(ProposalTooLarge):
            await client.propose_many([b"good", bytes(ENTRY_BYTES_MAX + 1)])

    assert node.appended == []


async def test_the_client_follows_the_hint_to_the_leader() -> None:
    follower, leader = ServedNode("a", leader=False), ServedNode("b")
    async with served(follower, leader) as client:
        follower.hint = ("b", leader.address)

        assert await client.propose(b"x") == b"did x"
        assert client.leader_address == leader.address

    assert leader.appended == [b"x"]


async def test_a_leader_at_an_address_that_was_not_configured_is_found_by_the_hint() -> None:
    follower, leader = ServedNode("a", leader=False), ServedNode("b")
    async with served(follower, leader):
        follower.hint = ("b", leader.address)
        async with ReplogClient([follower.address]) as client:
            assert await client.propose(b"x") == b"did x"


async def test_a_leader_whose_advertised_address_is_unreachable_is_found_by_its_name() -> None:
    follower, leader = ServedNode("a", leader=False), ServedNode("b")
    async with served(follower, leader) as client:
        follower.hint = ("b", "127.0.0.1:1")

        assert await client.propose(b"x", timeout=10) == b"did x"


async def test_leadership_that_moves_between_two_commands_is_followed() -> None:
    first, second = ServedNode("a"), ServedNode("b", leader=False)
    async with served(first, second) as client:
        await client.propose(b"1")
        first.leads, second.leads = False, True
        first.hint = ("b", second.address)
        await client.propose(b"2")

    assert (first.appended, second.appended) == ([b"1"], [b"2"])


async def test_an_election_without_any_leader_is_waited_out() -> None:
    nodes = [ServedNode("a", leader=False), ServedNode("b", leader=False)]
    async with served(*nodes) as client:
        proposing = asyncio.create_task(client.propose(b"x"))
        await until(lambda: client.retries > 2)
        nodes[1].leads = True

        assert await proposing == b"did x"

    assert nodes[1].appended == [b"x"]


async def _said_of(proposal: Awaitable[bytes]) -> ReplogError:
    with pytest.raises(ReplogError) as caught:
        await proposal
    return caught.value


async def test_no_leader_until_the_deadline_is_unavailable() -> None:
    node = ServedNode("a", leader=False)
    async with served(node) as client:
        # By the end of a second the pauses are long, so the deadline falls into one. Where the machine was so busy that it fell into an attempt, unknown is the truth.
        said = [await _said_of(client.propose(b"x", timeout=1.0)) for _ in range(2)]
        assert any(isinstance(error, Unavailable) and "nothing was appended" in str(error) for error in said), said

    assert node.appended == []


async def test_nobody_there_until_the_deadline_is_unavailable() -> None:
    async with ReplogClient(["127.0.0.1:1"], timeout=0.2) as client:
        with pytest.raises(Unavailable):
            await client.propose(b"x")


async def test_busy_is_waited_out() -> None:
    node = ServedNode("a")
    refusals = [3]

    def busy_at_first(commands: Sequence[bytes]) -> list[bytes | CommandError]:
        if refusals[0]:
            refusals[0] -= 1
            raise Busy("uncommitted bytes", 2, 1)
        return list(commands)

    node.answer = busy_at_first
    async with served(node) as client:
        assert await client.propose(b"x") == b"x"
        assert client.retries == 3


async def test_busy_until_the_deadline_is_told() -> None:
    node = ServedNode("a")

    def busy(_commands: Sequence[bytes]) -> list[bytes | CommandError]:
        raise Busy("uncommitted bytes", 2, 1)

    node.answer = busy
    async with served(node) as client:
        with pytest.raises(Busy, match="the limit is 1"):
            await client.propose(b"x", timeout=0.2)


async def test_a_connection_lost_after_sending_leaves_the_outcome_unknown() -> None:
    first, second = ServedNode("a"), ServedNode("b")
    first.hold = asyncio.Event()
    async with served(first, second) as client:
        proposing = asyncio.create_task(client.propose(b"x"))
        await until(lambda: bool(first.appended))
        await first.kill()

        with pytest.raises(OutcomeUnknown):
            await proposing

    assert second.appended == [], "a command whose outcome is unknown is not sent again"


async def test_an_idempotent_command_is_sent_again_when_its_outcome_is_unknown() -> None:
    first, second = ServedNode("a"), ServedNode("b")
    first.hold = asyncio.Event()
    async with served(first, second) as client:
        proposing = asyncio.create_task(client.propose(b"x", idempotent=True))
        await until(lambda: bool(first.appended))
        await first.kill()

        assert await proposing == b"did x"

    assert second.appended == [b"x"]


async def test_an_unknown_attempt_is_not_forgotten_when_the_retries_run_out() -> None:
    first, second = ServedNode("a"), ServedNode("b", leader=False)
    first.hold = asyncio.Event()
    async with served(first, second) as client:
        proposing = asyncio.create_task(client.propose(b"x", idempotent=True, timeout=0.6))
        await until(lambda: bool(first.appended))
        await first.kill()

        with pytest.raises(OutcomeUnknown):
            await proposing


async def test_the_servers_word_that_the_outcome_is_unknown_is_passed_on() -> None:
    node = ServedNode("a")

    def lost(_commands: Sequence[bytes]) -> list[bytes | CommandError]:
        raise OutcomeUnknown("leadership was lost")

    node.answer = lost
    async with served(node) as client:
        with pytest.raises(OutcomeUnknown, match="leadership was lost"):
            await client.propose(b"x")
        assert client.retries == 0


async def test_a_leader_that_dies_is_replaced_for_the_next_command() -> None:
    """Once the broken session is known; a command that was written into it before that has, truly, an unknown outcome."""
    first, second = ServedNode("a"), ServedNode("b", leader=False)
    async with served(first, second) as client:
        await client.propose(b"1")
        await first.kill()
        second.leads = True
        await until(lambda: not client._links)

        assert await client.propose(b"2") == b"did 2"


async def test_no_answer_within_the_timeout_leaves_the_outcome_unknown() -> None:
    node = ServedNode("a")
    node.hold = asyncio.Event()
    async with served(node) as client:
        with pytest.raises(OutcomeUnknown, match=r"within 0\.100 s"):
            await client.propose(b"x", timeout=0.1)


async def test_a_late_answer_does_no_harm() -> None:
    node = ServedNode("a")
    node.hold = asyncio.Event()
    async with served(node) as client:
        with pytest.raises(OutcomeUnknown):
            await client.propose(b"x", timeout=0.05)
        node.hold.set()

        assert await client.propose(b"y") == b"did y"


async def test_a_caller_that_gives_up_does_not_disturb_the_others() -> None:
    node = ServedNode("a")
    node.hold = asyncio.Event()
    async with served(node) as client:
        tasks = [asyncio.create_task(client.propose(b"%d" % number)) for number in range(3)]
        await until(lambda: len(node.appended) == 3)
        tasks[1].cancel()
        node.hold.set()

        assert await tasks[0] == b"did 0"
        assert await tasks[2] == b"did 2"


async def test_closing_the_client_ends_what_is_under_way() -> None:
    node = ServedNode("a")
    node.hold = asyncio.Event()
    async with served(node) as client:
        proposing = asyncio.create_task(client.propose(b"x"))
        await until(lambda: bool(node.appended))
        await client.close()

        with pytest.raises(OutcomeUnknown):
            await proposing
        with pytest.raises(ReplogError):
            await client.propose(b"y")
    remaining = [task for task in asyncio.all_tasks() if task.get_name().startswith("replog-client")]
    assert remaining == []


async def test_a_node_that_stops_answers_what_is_under_way_and_sends_the_rest_elsewhere() -> None:
    first, second = ServedNode("a"), ServedNode("b")
    first.hold = asyncio.Event()
    async with served(first, second) as client:
        under_way = asyncio.create_task(client.propose(b"1"))
        await until(lambda: bool(first.appended))
        first.service.close()
        first.hold.set()

        assert await under_way == b"did 1"
        assert first.server is not None
        async with asyncio.timeout(5):
            await first.server.stop(grace_seconds=30.0)
        await until(lambda: not client._links)
        assert await client.propose(b"2") == b"did 2"

    assert second.appended == [b"2"]


async def test_a_client_of_another_cluster_is_refused_with_both_names() -> None:
    node = ServedNode("a")
    async with served(node), ReplogClient([node.address], cluster_id="other") as client:
        with pytest.raises(PeerRefused, match=r"'other'.*'test'"):
            await client.propose(b"x")


async def test_linearizable_queries_of_one_iteration_share_one_barrier() -> None:
    node = ServedNode("a")
    async with served(node) as client:
        await client.propose(b"x")
        answers = await asyncio.gather(*(client.query(b"%d" % number) for number in range(100)))

    assert answers == [b"state of %d" % number for number in range(100)]
    assert node.barriers == 1


async def test_every_one_of_many_callers_is_told_its_own_answer_half_of_them_an_iteration_later() -> None:
    async with served(ServedNode("a")) as client:
        await client.propose(b"x")
        told: list[int] = []

        async def ask(number: int) -> None:
            assert await client.query(b"%d" % number) == b"state of %d" % number
            told.append(number)
            if number == 0:
                await asyncio.sleep(0)
                seen.append(len(told))

        seen: list[int] = []
        await asyncio.gather(*(ask(number) for number in range(2_000)))
        written = await asyncio.gather(*(client.propose(b"%d" % number) for number in range(3_000)))

    assert seen == [1_000]
    assert sorted(told) == list(range(2_000))
    assert written == [b"did %d" % number for number in range(3_000)]


async def test_a_stale_query_is_answered_by_a_follower_within_its_bound() -> None:
    node = ServedNode("a", leader=False)
    node.staleness = 2.0
    async with served(node) as client:
        assert await client.query(b"x", consistency="stale") == b"state of x"
        assert await client.query(b"x", consistency="stale", max_age=3.0) == b"state of x"
        with pytest.raises(Unavailable, match=r"2\.000 s old"):
            await client.query(b"x", consistency="stale", max_age=1.0, timeout=0.2)


async def test_a_lease_query_needs_no_barrier() -> None:
    node = ServedNode("a")
    async with served(node) as client:
        assert await client.query(b"x", consistency="lease") == b"state of x"
    assert node.barriers == 0


async def test_a_query_that_raises_fails_alone() -> None:
    async with served(ServedNode("a")) as client:
        good, bad = await asyncio.gather(client.query(b"x"), client.query(b"raise"), return_exceptions=True)

    assert good == b"state of x"
    assert isinstance(bad, QueryFailed)
    assert str(bad) == "ValueError: no such thing"


async def test_a_query_follows_the_leader_and_survives_its_death() -> None:
    first, second = ServedNode("a"), ServedNode("b")
    async with served(first, second) as client:
        await client.query(b"x")
        await first.kill()

        assert await client.query(b"y") == b"state of y"


async def test_a_result_too_large_for_an_answer_is_named_and_the_session_goes_on() -> None:
    async with served(ServedNode("a")) as client:
        with pytest.raises(QueryFailed, match="does not fit"):
            await client.query(b"size 30000000")

        assert len(await client.query(b"size 3000000")) == 3_000_000


async def test_a_barrier_gives_the_index() -> None:
    node = ServedNode("a")
    async with served(node) as client:
        await client.propose(b"x")
        assert await client.read_barrier() == 1


async def test_a_request_that_was_never_sent_by_its_deadline_may_be_tried_again() -> None:
    async with served(ServedNode("a")) as client:
        with pytest.raises((DeadlineExceeded, Unavailable)):
            await client.propose(b"x", timeout=0.0)
