"""Reading events: everything once, in order, and again after a reorganisation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from web3 import Web3

from bisection.errors import ChainMismatch, UnavailableError
from contracts.bindings import DisputeGame, step_commitment
from contracts.build import artifact
from contracts.client import LocalChain, local_chain
from contracts.deploy import AddressBook, Deployment, attach, deploy
from contracts.events import KINDS, SOURCES, Event, GameOpened, JobOpened, Rewound
from contracts.index import Index
from contracts.jobs import NOBODY, Terms, claim_commitment
from contracts.reader import Cursor, EventReader, decode
from contracts.registry import TaskRegistry
from contracts.sender import TransactionSender
from tests.contracts.stage import TrainerRun

RUN = TrainerRun(steps=2, segment_length=2)
TERMS = Terms(stake=5, game=NOBODY, segment_period=1_000, challenge_window=1_000)  # of the game contract that is there
SALT = bytes(32)


class Scene:
    """A deployment on eth-tester, and one account that plays every part."""

    def __init__(self) -> None:
        self.chain: LocalChain = local_chain(2)
        self.sender = TransactionSender(self.chain.web3, self.chain.accounts[0])
        self.book: AddressBook = deploy(self.sender, referee=artifact("referee_mock"))
        self.deployment: Deployment = attach(self.chain.web3, self.book, self.sender)

    @property
    def registry(self) -> TaskRegistry:
        return self.deployment.registry

    @property
    def game(self) -> DisputeGame:
        return self.deployment.game

    def reader(self, **settings: Any) -> EventReader:
        return EventReader(self.chain.web3, [self.book.registry, self.book.game], self.book.block, **settings)

    @property
    def terms(self) -> Terms:
        return replace(TERMS, game=self.game.address)

    def open_job(self, uri: str = "") -> int:
        return self.registry.open_job(RUN.spec, self.terms, uri, 1)

    def open_game(self, job: int) -> int:
        self.registry.commit(claim_commitment(self.sender.address, job, SALT))
        self.registry.claim(job, "", self.registry.job(job), SALT)
        tree = RUN.histories[0]
        self.registry.post_segment(job, tree.root, tree.prove(0), tree.levels[0][2], tree.prove(2))
        self.game.commit(step_commitment(self.sender.address, job, 0, 1, SALT))
        return self.game.open_step(job, 0, RUN.opening(0, 1), SALT)


@pytest.fixture(scope="module")
def theatre() -> Scene:
    return Scene()


@pytest.fixture
def scene(theatre: Scene) -> Iterator[Scene]:
    mark = theatre.chain.snapshot()
    yield theatre
    theatre.chain.restore(mark)


def uris(events: list[Event | Rewound]) -> list[str]:
    return [event.uri for event in events if isinstance(event, JobOpened)]


def test_events_come_in_order_and_once(scene: Scene) -> None:
    reader = scene.reader()
    deployed = ["OwnershipTransferred", "GameAdded", "DeliverySet"]
    assert [type(event).__name__ for event in reader.poll()] == deployed
    assert reader.poll() == []
    scene.open_game(scene.open_job("data"))
    events = reader.poll()
    assert [type(event).__name__ for event in events] == [
        "JobOpened", "Committed", "JobClaimed", "SegmentPosted", "Committed", "GameOpened", "StepShown",
    ]  # fmt: skip
    assert all(isinstance(event, Event) for event in events)
    places = [(event.block, event.index) for event in events if isinstance(event, Event)]
    assert places == sorted(places)
    assert reader.poll() == []
    assert reader.position == scene.chain.web3.eth.block_number


def test_an_event_says_all_and_where_it_stands(scene: Scene) -> None:
    job = scene.open_job("data")
    game = scene.open_game(job)
    events = scene.reader().poll()
    opened = next(event for event in events if isinstance(event, JobOpened))
    assert (opened.job, opened.spec, opened.terms, opened.bounty, opened.uri) == (job, RUN.spec, scene.terms, 1, "data")
    assert (opened.requester, opened.contract, opened.job_hash) == (scene.sender.address, scene.book.registry, RUN.spec.job_hash)
    assert opened.transaction == scene.sender.sent[-6].transaction and opened.block == scene.sender.sent[-6].block
    challenge = next(event for event in events if isinstance(event, GameOpened))
    assert (challenge.game, challenge.job, challenge.segment, challenge.contract) == (game, job, 0, scene.book.game)


def test_there_is_a_dataclass_for_every_event_with_its_fields(scene: Scene) -> None:
    told = {entry["name"]: entry for name in SOURCES for entry in artifact(name).abi if entry["type"] == "event"}
    assert told.keys() == KINDS.keys()
    base = set(Event.__dataclass_fields__)
    for name, entry in told.items():
        assert [row["name"] for row in entry["inputs"]] == [
            field for field in KINDS[name].__dataclass_fields__ if field not in base
        ]


def test_a_saved_cursor_goes_on_where_it_was(scene: Scene) -> None:
    reader = scene.reader()
    scene.open_job("before")
    assert uris(reader.poll()) == ["before"]
    scene.open_job("after")
    assert uris(scene.reader(cursor=reader.cursor).poll()) == ["after"]
    assert uris(scene.reader(cursor=Cursor()).poll()) == ["before", "after"]


@pytest.mark.parametrize("span", [1, 2, 3, 100])
def test_a_long_history_comes_in_parts(scene: Scene, span: int) -> None:
    for i in range(7):
        scene.open_job(str(i))
    reader = scene.reader(span=span, most=2)
    read: list[str] = []
    while reader.position < scene.chain.web3.eth.block_number:
        before = reader.position
        read += uris(reader.poll())
        assert reader.position - before <= 2 * span
    assert read == [str(i) for i in range(7)]


def test_after_a_reorganisation_the_reader_says_what_to_forget_and_reads_again(scene: Scene) -> None:
    reader = scene.reader()
    scene.open_job("stays")
    assert uris(reader.poll()) == ["stays"]
    common, mark = reader.position, scene.chain.snapshot()
    for name in ("goes", "goes too"):
        scene.open_job(name)
    assert uris(reader.poll()) == ["goes", "goes too"]
    scene.chain.restore(mark)
    for _ in range(2):
        scene.chain.advance(1)
    assert reader.poll() == [Rewound(common)]
    assert reader.poll() == []
    scene.open_job("comes")
    assert uris(reader.poll()) == ["comes"]


def test_a_node_that_is_behind_is_no_ground_to_act_on(scene: Scene) -> None:
    """Several nodes behind one address are not always equally far; an older one must not look like a reorganisation."""
    reader, mark = scene.reader(), scene.chain.snapshot()
    scene.open_job("known")
    reader.poll()
    cursor = reader.cursor
    scene.chain.restore(mark)
    with pytest.raises(UnavailableError, match="it is behind"):
        reader.poll()
    assert reader.cursor == cursor
    scene.chain.advance(1)
    scene.chain.advance(1)
    assert reader.poll()[0] == Rewound(cursor.blocks[-2][0])


def test_a_reorganisation_and_what_happened_instead_come_together(scene: Scene) -> None:
    reader, mark = scene.reader(), scene.chain.snapshot()
    reader.poll()
    common = reader.position
    scene.open_job("goes")
    reader.poll()
    scene.chain.restore(mark)
    for name in ("comes", "comes too"):
        scene.chain.advance(1)
        scene.open_job(name)
    first, *rest = reader.poll()
    assert first == Rewound(common)
    assert uris(rest) == ["comes", "comes too"]


def test_a_reorganisation_deeper_than_memory_is_no_guess(scene: Scene) -> None:
    mark = scene.chain.snapshot()
    reader = scene.reader(depth=3)
    for i in range(5):
        scene.open_job(str(i))
    reader.poll()
    assert len(reader.cursor.blocks) == 3
    scene.chain.restore(mark)
    scene.chain.advance(50)
    for _ in range(6):
        scene.chain.advance(1)
    with pytest.raises(ChainMismatch, match="reset, or reorganised too deeply"):
        reader.poll()


def test_a_cursor_of_another_chain_is_noticed(scene: Scene) -> None:
    with pytest.raises(ChainMismatch, match="start again without the saved cursor"):
        scene.reader(cursor=Cursor(((1, bytes(32)), (2, b"\1" * 32)))).poll()


def test_a_poll_that_fails_has_read_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = scene.reader()
    scene.open_job("a")
    get_logs, calls = scene.chain.web3.eth.get_logs, iter(range(100))

    def breaks(query: Any) -> Any:
        if next(calls) == 3:
            raise UnavailableError("the node is away")
        return get_logs(query)

    monkeypatch.setattr(scene.chain.web3.eth, "get_logs", breaks)
    with pytest.raises(UnavailableError):
        reader.poll()
    assert uris(reader.poll()) == ["a"]


def test_a_block_that_is_replaced_while_it_is_read_is_read_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = scene.reader()
    reader.poll()
    mark = scene.chain.snapshot()
    scene.open_job("goes")
    get_logs = scene.chain.web3.eth.get_logs

    def reorganises(query: Any) -> Any:
        logs = get_logs(query)
        monkeypatch.undo()
        scene.chain.restore(mark)
        scene.chain.advance(1)
        scene.open_job("comes")
        return logs

    monkeypatch.setattr(scene.chain.web3.eth, "get_logs", reorganises)
    assert uris(reader.poll()) == []
    assert uris(reader.poll()) == ["comes"]


def test_a_reorganisation_of_five_blocks_is_followed_though_history_was_read_in_long_spans(scene: Scene) -> None:
    for i in range(20):
        scene.open_job(str(i))
    mark = scene.chain.snapshot()
    for _ in range(5):
        scene.open_job("goes")
    reader = scene.reader(span=2000)
    assert uris(reader.poll())[20:] == ["goes"] * 5
    scene.chain.restore(mark)
    for _ in range(6):
        scene.open_job("comes")
    first, *rest = reader.poll()
    assert first == Rewound(reader.position - 6) and uris(rest) == ["comes"] * 6


def test_an_index_that_cannot_be_read_anew_tells_what_it_told_before(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were it half read, a game of one's own could seem not to be there, and be opened again."""
    job = scene.open_job("stays")
    index, mark = Index(scene.chain.web3, scene.book), scene.chain.snapshot()
    game = scene.open_game(job)
    index.update()
    scene.chain.restore(mark)
    for _ in range(9):
        scene.chain.advance(1)
    get_logs, start = scene.chain.web3.eth.get_logs, scene.book.block

    def breaks(query: Any) -> Any:
        if query["fromBlock"] == start + 1:  # the second of those that are read anew
            raise UnavailableError("the node is away")
        return get_logs(query)

    monkeypatch.setattr(scene.chain.web3.eth, "get_logs", breaks)
    for _ in range(3):
        with pytest.raises(UnavailableError):
            index.update()
        assert index.games == {job: [game]} and index.job_uris == {job: "stays"}
    monkeypatch.undo()
    index.update()
    assert index.games == {} and index.job_uris == {job: "stays"}


def test_an_unknown_event_is_not_passed_over(scene: Scene) -> None:
    receipt = scene.registry.cancel(scene.open_job())
    log = dict(receipt["logs"][0])
    for topics in ([], [bytes(32)]):
        with pytest.raises(ChainMismatch, match="an event that this build does not know"):
            decode({**log, "topics": topics})  # type: ignore[typeddict-item]


def test_other_contracts_are_not_listened_to(scene: Scene) -> None:
    other = deploy(scene.sender, referee=artifact("referee_mock"))
    TaskRegistry(scene.chain.web3, other.registry, scene.sender).open_job(
        RUN.spec, replace(TERMS, game=Web3.to_checksum_address(other.game)), "elsewhere", 1
    )
    assert uris(scene.reader().poll()) == []
