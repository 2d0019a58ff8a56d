"""``refstep chain …`` end to end: what it shows of a deployment over HTTP, what it tells while it watches, and what it sends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from web3 import Web3

from bisection.errors import ChainMismatch, RefstepError, TransactionFailed, UnavailableError, UsageError
from contracts import chain_cli, observer
from contracts.chronicle import Chronicle, read
from contracts.client import development_accounts
from contracts.deploy import AddressBook, attach
from contracts.observer import Lookup, observe
from contracts.token import Token
from contracts.words import LINE
from refstep import main
from tests.contracts.coins import Coin
from tests.contracts.descending import Descending
from tests.contracts.stage import BOUNTY, PARAMETERS, TERMS, Stage, TrainerRun
from tests.contracts.watched import WatchedProvider, watched_stage
from tests.support.rpc import Answer, chain_answers, http_server

ROLES = ("deployer", "requester", "trainer", "challenger", "watcher", "stranger")
SENDING = {"eth_sendRawTransaction", "eth_estimateGas"}
LONG = TrainerRun(steps=400, segment_length=200, name="long", components=3)


@dataclass
class Window:
    """A deployment as whoever runs a command sees it: over HTTP, with a key file for each role."""

    stage: Stage
    folder: Path
    url: str = ""
    asked: list[str] = field(default_factory=list)

    @property
    def provider(self) -> WatchedProvider:
        provider = self.stage.chain.provider
        assert isinstance(provider, WatchedProvider)
        return provider

    def path(self, name: str) -> str:
        return str(self.folder / name)

    @property
    def looking(self) -> list[str]:
        return ["--rpc-url", self.url, "--contracts", self.path("book.json")]

    def acting(self, role: str) -> list[str]:
        return [*self.looking, "--keystore", self.path(f"{role}.json"), "--password-file", self.path("password")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Window]:
    stage, folder = watched_stage(), tmp_path_factory.mktemp("window")
    window = Window(stage, folder)
    (folder / "book.json").write_text(json.dumps(asdict(stage.book)))
    (folder / "password").write_text("secret\n")
    for role, account in zip(ROLES, development_accounts(len(ROLES)), strict=True):
        path = folder / f"{role}.json"
        path.write_text(json.dumps(Account.encrypt(account.key, "secret", iterations=2)))
        path.chmod(0o600)
    with http_server(chain_answers(window.provider, window.asked)) as window.url:
        yield window


@pytest.fixture
def window(site: Window, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Window]:
    """The deployment as it was at first, and nothing asked yet."""
    monkeypatch.chdir(tmp_path)
    for name in ("REFSTEP_CONFIG", "REFSTEP_RPC_URL", "REFSTEP_CONTRACTS"):
        monkeypatch.delenv(name, raising=False)
    mark = site.stage.chain.snapshot()
    site.asked.clear()
    yield site
    site.stage.chain.restore(mark)


Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """What a command prints."""

    def printed(*arguments: str) -> str:
        capsys.readouterr()
        main(list(arguments))
        return capsys.readouterr().out

    return printed


@pytest.fixture
def refused(window: Window, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line in which a command ends that fails with this error, and has sent nothing."""

    def line(error: type[RefstepError], *arguments: str) -> str:
        capsys.readouterr()
        window.asked.clear()
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        out, err = capsys.readouterr()
        assert end.value.code == error.exit_code, err
        assert (out, err.count("\n")) == ("", 1)
        assert "eth_sendRawTransaction" not in window.asked
        return err

    return line


def story(stage: Stage) -> dict[str, int]:
    """Jobs and games in many states, by what they are."""
    run = TrainerRun(tensors=200)
    jobs = {"training": stage.posted(run, segments=2, terms=replace(TERMS, attempts=2, retained_share=1_000, delivery_period=60))}
    game = stage.traced(jobs["training"], run, segment=0, step=2)
    stage.challenger.game.demand_trace(game, run.roots(0, 2))
    descending = Descending(stage, game, run.trace(2).root)
    descending.answer(run.trace(2))
    descending.pick(1)
    jobs["blind"] = stage.posted(LONG, segments=1)
    stage.watcher.opens_blind(jobs["blind"], 0)
    jobs["open"] = stage.requester.registry.open_job(run.spec, stage.terms(), "https://evil.example/\x1b[2J\x07\u202e", 5 * 10**17)
    coin = Coin(stage)
    coin.fund(stage.requester, stage.book.registry)
    coin.fund(stage.trainer, stage.book.registry)
    jobs["token"] = stage.opened(run, stage.terms(token=coin.address, stake=7_000_001), 12_000_000)
    stage.claim(jobs["token"])
    jobs["completed"] = stage.completed(run, terms=replace(TERMS, retained_share=2_500, delivery_period=9_000))
    stage.watcher.delivery.demand(jobs["completed"], 1)
    child = replace(run.spec, initial_state=run.states[-1].root)
    jobs["child"] = stage.requester.registry.open_job(
        child, stage.terms(trainer=stage.trainer.address), "https://requester.example", 10**18, jobs["completed"]
    )
    jobs["slashed"] = stage.posted(LONG)
    stage.watcher.opens_blind(jobs["slashed"], 1)
    stage.convicted(jobs["slashed"], LONG)
    return jobs


# Looking ----------------------------------------------------------------------------------------------------------------


def test_an_empty_deployment_is_shown(window: Window, run: Run) -> None:
    text = run("chain", "show", *window.looking)
    for address in (window.stage.book.registry, window.stage.book.game, window.stage.book.referee, window.stage.book.delivery):
        assert address in text
    assert "owner           " + window.stage.deployer.address in text
    assert "25% burnt, 40.01% to the challenger, 34.99% to the requester" in text
    assert "clocks: trainer 16 min 40 s, challenger 10 min" in text
    assert "0 jobs" in text and "0 live games" in text


def test_a_deployment_is_shown_with_its_jobs_games_and_money(window: Window, run: Run) -> None:
    jobs = story(window.stage)
    lines = run("chain", "show", *window.looking).splitlines()
    assert max(map(len, lines)) <= LINE
    assert "7 jobs: 2 open, 3 training, 1 completed, 1 slashed" in lines
    rows = {line.split()[0]: line for line in lines if line.startswith("  ") and line.split()[0].isdecimal()}
    assert "training 1/2" in rows[str(jobs["training"])]
    assert f"{window.stage.trainer.address[:6]}…" in rows[str(jobs["training"])]
    assert rows[str(jobs["open"])].endswith("anybody may claim it")
    assert "1 leaf demanded" in rows[str(jobs["completed"])]
    assert "2 live games, 1 with a bond to reclaim" in lines
    assert "SHORT" not in "".join(lines)
    assert sum(" solvent " in line for line in lines) == 4


def test_money_that_is_held_is_money_that_is_owed(window: Window, run: Run) -> None:
    story(window.stage)
    overview = json.loads(run("chain", "show", "--json", *window.looking))
    holdings = {(one["contract"], one["coin"]["address"] == "0x" + 40 * "0"): one for one in overview["holdings"]}
    assert all(one["held"] == one["owed"] and one["solvent"] for one in holdings.values())
    assert holdings["registry", True]["held"] == window.stage.balance(window.stage.book.registry)
    assert holdings["registry", False]["deposits"] == {"bounties": 12_000_000, "stakes": 7_000_001}
    assert holdings["game", True]["deposits"] == {"bonds": 3 * PARAMETERS.bond}
    assert holdings["delivery", True]["deposits"] == {"bonds": PARAMETERS.delivery_bond}


def test_a_job_is_shown_in_full(window: Window, run: Run) -> None:
    jobs, stage = story(window.stage), window.stage
    text = run("chain", "show", str(jobs["training"]), *window.looking)
    assert max(map(len, text.splitlines())) <= LINE
    joined = " ".join(text.split())
    assert "status training, attempt 1 of 2: segment 2 due in" in joined
    assert f"requester {stage.requester.address}" in joined and f"trainer {stage.trainer.address}" in joined
    assert "10% retained for a delivery period of 1 min" in joined
    assert "segment 0 steps 0 to 4, window ended" in joined and "in game 1; 1.08 ETH due" in joined
    assert "the trainer owes the descendants of a node" in joined
    assert "(trace, 4 levels above the leaves at position 1)" in joined
    assert "material https://requester.example data service https://trainer.example" in joined


def test_a_game_says_whose_turn_it_is_and_for_how_long(window: Window, run: Run) -> None:
    job = window.stage.posted(LONG, segments=1)
    window.stage.watcher.opens_blind(job, 0)
    window.stage.chain.advance(100)
    joined = " ".join(run("chain", "show", str(job), *window.looking).split())
    assert "left: trainer 15 min (running), challenger 10 min" in joined
    window.stage.chain.advance(1_000)
    joined = " ".join(run("chain", "show", str(job), *window.looking).split())
    assert "its time is up: anybody may end it" in joined and "left: trainer none, challenger 10 min" in joined


def test_the_clocks_of_a_game_do_not_run_in_a_pause(window: Window, run: Run) -> None:
    stage = window.stage
    job = stage.posted(LONG, segments=1)
    stage.watcher.opens_blind(job, 0)
    (before,) = json.loads(run("chain", "show", str(job), "--json", *window.looking))["jobs"][0]["games"]
    stage.deployer.registry.pause()
    stage.chain.advance(5_000)
    for end in (lambda: None, stage.deployer.registry.unpause):
        end()
        (game,) = json.loads(run("chain", "show", str(job), "--json", *window.looking))["jobs"][0]["games"]
        assert before["trainers_left"] - game["trainers_left"] == 1  # of the block before the pause
        assert game["challengers_left"] - before["challengers_left"] == stage.now() - stage.registry.clock()


def test_a_completed_job_names_its_model_its_lineage_and_what_is_still_owed(window: Window, run: Run) -> None:
    jobs, stage = story(window.stage), window.stage
    joined = " ".join(run("chain", "show", str(jobs["completed"]), *window.looking).split())
    assert f"model state {stage.registry.model(jobs['completed']).state.hex()}" in joined
    assert f"continued by job {jobs['child']}" in joined
    assert "demand 1 a leaf of component 1" in joined
    assert f"trainer {stage.trainer.address} can withdraw 3.25" in joined
    assert f"parents {jobs['completed']}" in " ".join(run("chain", "show", str(jobs["child"]), *window.looking).split())


def test_a_slashed_job_names_its_games_and_credits(window: Window, run: Run) -> None:
    jobs, stage = story(window.stage), window.stage
    text = run("chain", "show", str(jobs["slashed"]), *window.looking)
    assert "over, the trainer was convicted" in text
    assert "another game ended the attempt; the bond can be reclaimed" in text
    assert f"challenger {stage.challenger.address} can withdraw 0.400100000000000002 ETH (registry)" in text


def test_a_strangers_text_moves_no_cursor(window: Window, run: Run) -> None:
    job = str(story(window.stage)["open"])
    assert "https://evil.example/?[2J??" in run("chain", "show", job, *window.looking)
    for text in (run("chain", "show", job, *window.looking), run("chain", "watch", "--once", *window.looking)):
        assert "offered" in text or "material" in text
        assert not set(text) & set("\x1b\x07\u202e")
    assert set(run("chain", "show", job, "--json", *window.looking)) <= set(map(chr, range(32, 127))) | {"\n"}


def test_a_text_that_is_none_keeps_nobody_from_looking(window: Window, run: Run) -> None:
    stage = window.stage
    call = stage.requester.registry.call("open_job", TrainerRun().spec, stage.terms(), 0, 0, "http://abc")
    stage.requester.sender.send(replace(call, data=call.data.replace(b"abc", b"a\xff\x00")))
    stage.opened(TrainerRun())
    assert "material http://a??" in " ".join(run("chain", "show", "1", *window.looking).split())
    assert "job 2: offered" in run("chain", "watch", "--once", *window.looking)


def test_a_pause_is_shown_and_time_stands_still(window: Window, run: Run) -> None:
    stage = window.stage
    job = stage.claimed(TrainerRun())
    stage.deployer.registry.pause()
    before = run("chain", "show", str(job), *window.looking)
    stage.chain.advance(5_000)
    text = run("chain", "show", str(job), *window.looking)
    joined = " ".join(text.split())
    assert "PAUSED until 2027-01-29" in joined and "protocol time is 1 h 23 min behind the chain's" in joined
    assert [line for line in text.splitlines() if "after the clocks go on" in line] == [
        line for line in before.splitlines() if "after the clocks go on" in line
    ]
    stage.deployer.registry.unpause()
    text = run("chain", "show", str(job), *window.looking)
    assert "running; protocol time is 1 h 23 min behind the chain's" in text


@pytest.mark.parametrize("job", ["0", "99", "-1"])
def test_a_job_that_does_not_exist(window: Window, refused: Callable[..., str], job: str) -> None:
    for command in ("show", "watch"):
        assert f"there is no job {job}" in refused(UsageError, "chain", command, *window.looking, "--", job)


def test_few_requests_show_a_deployment(window: Window, run: Run) -> None:
    story(window.stage)
    window.asked.clear()
    run("chain", "show", *window.looking)
    few = len(window.asked)
    for _ in range(10):
        window.stage.posted(TrainerRun())
    window.asked.clear()
    run("chain", "show", *window.looking)
    assert few < 70
    assert len(window.asked) - few <= 2 * 10
    assert window.asked.count("eth_getLogs") == 1


def limited(honest: Answer, blocks: int) -> Answer:
    """A node that refuses to look for logs in more than so many blocks."""

    def answer(request: dict[str, Any]) -> bytes:
        if request["method"] == "eth_getLogs":
            (place,) = request["params"]
            if int(place["toBlock"], 16) - int(place["fromBlock"], 16) >= blocks:
                return b'{"jsonrpc": "2.0", "id": 0, "error": {"code": -32602, "message": "block range is too large"}}'
        return honest(request)

    return answer


def test_a_node_that_answers_for_few_blocks_at_once_shows_the_same(window: Window, run: Run) -> None:
    story(window.stage)
    whole = run("chain", "show", *window.looking)
    with http_server(limited(chain_answers(window.provider, []), 7)) as url:
        assert run("chain", "show", *window.looking, "--rpc-url", url) == whole


# Watching ---------------------------------------------------------------------------------------------------------------


def test_all_that_has_happened_is_told_in_order(window: Window, run: Run) -> None:
    jobs = story(window.stage)
    lines = run("chain", "watch", "--once", *window.looking).splitlines()
    assert max(map(len, lines)) <= LINE
    assert lines == sorted(lines, key=lambda line: int(line.split("#")[1].split()[0]))
    assert all(line.startswith("2027-01-15 ") and " UTC #" in line for line in lines)
    told = [line.split("  ", 1)[1] for line in lines]
    short = {role: f"{actor.address[:6]}…{actor.address[-4:]}" for role, actor in zip(ROLES, window.stage.actors, strict=True)}
    assert f"job 1: claimed by {short['trainer']}, https://trainer.example" in told
    assert f"job 1, game 1: opened by {short['challenger']} on segment 0" in told
    assert "job 1, game 1: trainer reveals 16 digests of the trace (height 8, position 0)" in told
    assert f"job {jobs['completed']}, demand 1: {short['watcher']} demands a leaf of component 1" in told
    slashed = (
        f"job {jobs['slashed']}: SLASHED, {short['trainer']} loses its stake: 0.4001… ETH to {short['challenger']}, 0.25… burnt"
    )
    assert slashed in told


def test_one_job_is_watched_from_a_block_on(window: Window, run: Run) -> None:
    jobs = story(window.stage)
    mine = run("chain", "watch", str(jobs["slashed"]), "--once", *window.looking).splitlines()
    assert mine and all(f"  job {jobs['slashed']}" in line for line in mine)
    assert any("challenger points at step 1" in line for line in mine)  # which names the game only
    last = mine[-1].split("#")[1].split()[0]
    assert run("chain", "watch", str(jobs["slashed"]), "--once", "--from-block", last, *window.looking).splitlines() == [
        line for line in mine if f"#{last} " in line
    ]


def test_events_are_told_as_json_lines(window: Window, run: Run) -> None:
    job = window.stage.posted(TrainerRun(), segments=1)
    events = [json.loads(line) for line in run("chain", "watch", str(job), "--once", "--json", *window.looking).splitlines()]
    assert [event["event"] for event in events] == ["JobOpened", "JobClaimed", "SegmentPosted"]
    assert events[0]["bounty"] == BOUNTY and events[0]["terms"]["stake"] == TERMS.stake
    assert events[0]["time"] == "2027-01-15 08:00:07 UTC"


def watched(
    window: Window, run: Run, monkeypatch: pytest.MonkeyPatch, acts: list[Callable[[], None]], *flags: str
) -> tuple[list[str], list[str]]:
    """What ``chain watch`` prints and complains while these things happen, one between two looks; then Ctrl-C ends it."""
    left = iter(acts)

    def sleep(seconds: float) -> None:
        act = next(left, None)
        if act is None:
            raise KeyboardInterrupt
        act()

    monkeypatch.setattr(chain_cli, "sleep", sleep)
    complaints: list[str] = []
    monkeypatch.setattr(chain_cli, "_aside", complaints.append)
    lines = run("chain", "watch", *window.looking, *flags).splitlines()
    assert "Ctrl-C ends it" in complaints.pop(0)
    return lines, complaints


def test_what_happens_is_told_as_it_happens_until_ctrl_c(window: Window, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = window.stage.opened(TrainerRun())
    lines, _ = watched(window, run, monkeypatch, [lambda: None, lambda: window.stage.claim(before) and None])
    assert [line.split("  ")[1].split(",")[0][:20] for line in lines] == ["0x3C44…93BC commits ", "job 1: claimed by 0x"]


def test_a_reorganisation_is_said(window: Window, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, run_ = window.stage, TrainerRun()
    fork = stage.now() and window.provider.block

    def reorganise() -> None:
        window.provider.reorganise(fork)
        stage.opened(run_)
        stage.opened(run_)

    lines, _ = watched(window, run, monkeypatch, [lambda: stage.opened(run_) and None, reorganise], "--from-block", str(fork))
    assert [line.split(":")[0] for line in lines if "REORG" in line] == ["REORGANISED"]
    at = next(number for number, line in enumerate(lines) if "REORG" in line)
    assert f"after {fork:,} did not happen" in lines[at]
    assert "job 1: offered" in lines[at - 1]
    assert "offered" in lines[at + 1]


def test_a_node_that_is_away_is_waited_for(
    window: Window, run: Run, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    away, honest = [False], chain_answers(window.provider, [])

    def answer(request: dict[str, Any]) -> bytes:
        return b"" if away[0] else honest(request)

    def leave() -> None:
        away[0] = True
        window.stage.opened(TrainerRun())

    def come_back() -> None:
        away[0] = False

    with http_server(answer) as url:
        acts: list[Callable[[], None]] = [leave, lambda: None, come_back]
        lines, complaints = watched(window, run, monkeypatch, acts, "--rpc-url", url)
        leave()
        refused(UnavailableError, "chain", "watch", "--once", *window.looking, "--rpc-url", url)
    assert len(lines) == 1 and "offered" in lines[0]
    assert len(complaints) == 2
    assert complaints[0].startswith("waiting: the node at") and complaints[1] == "the node answers again"


def test_nothing_is_lost_of_what_was_read_while_the_node_went_away(
    window: Window, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, failures = Lookup.time, [UnavailableError("gone")]

    def time(lookup: Lookup, block: int) -> int:
        if failures:
            raise failures.pop()
        return honest(lookup, block)

    def two_jobs() -> None:
        window.stage.opened(TrainerRun())
        window.stage.opened(TrainerRun())

    monkeypatch.setattr(Lookup, "time", time)
    lines, complaints = watched(window, run, monkeypatch, [two_jobs, lambda: None])
    assert complaints == ["waiting: gone", "the node answers again"]
    assert [line.split("  ")[1].split(":")[0] for line in lines] == ["job 1", "job 2"]


def test_a_block_that_is_not_there_yet_is_refused(window: Window, refused: Callable[..., str]) -> None:
    assert "there is no block 999 yet" in refused(UsageError, "chain", "watch", "--from-block", "999", *window.looking)


# Pictures of a chain that goes on ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("moves", "reads", "steady"), [(0, 1, True), (1, 2, True), (99, 3, False)])
def test_a_picture_is_taken_again_until_the_chain_stands_still(
    window: Window, monkeypatch: pytest.MonkeyPatch, moves: int, reads: int, steady: bool
) -> None:
    stage, seen = window.stage, list[int]()
    stage.posted(TrainerRun(), segments=1)

    def moving(web3: Web3, book: AddressBook, last: int) -> Chronicle:
        seen.append(last)
        if len(seen) <= moves:
            stage.posted(TrainerRun())
        return read(web3, book, last)

    monkeypatch.setattr(observer, "read", moving)
    assert observe(attach(stage.chain.web3, stage.book)).steady == steady
    assert len(seen) == reads


def test_answers_that_do_not_fit_together_are_said_not_to(
    window: Window, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    window.stage.opened(TrainerRun())
    monkeypatch.setattr(observer, "read", lambda web3, book, last: Chronicle())
    assert "do not fit together" in refused(UnavailableError, "chain", "show", *window.looking)


# Owning -----------------------------------------------------------------------------------------------------------------


def test_the_owner_pauses_and_goes_on(window: Window, run: Run, refused: Callable[..., str]) -> None:
    registry = window.stage.registry
    assert "all clocks stand still until" in run("chain", "pause", *window.acting("deployer"))
    assert registry.paused()
    assert "stand still already" in refused(UsageError, "chain", "pause", *window.acting("deployer"))
    assert run("chain", "unpause", *window.acting("deployer")) == "all clocks go on\n"
    assert not registry.paused()
    assert "clocks are running" in refused(UsageError, "chain", "unpause", *window.acting("deployer"))
    assert "too soon after the last pause" in refused(TransactionFailed, "chain", "pause", *window.acting("deployer"))


def test_the_ownership_goes_over_in_two_steps(window: Window, run: Run, refused: Callable[..., str]) -> None:
    stage = window.stage
    heir = stage.stranger.address
    assert "is not offered to" in refused(UsageError, "chain", "accept-ownership", *window.acting("stranger"))
    assert heir in run("chain", "transfer-ownership", heir.lower(), *window.acting("deployer"))
    assert f"offered to {heir}" in run("chain", "show", *window.looking)
    assert run("chain", "accept-ownership", *window.acting("stranger")) == f"{heir} is the owner\n"
    assert stage.registry.owner() == heir
    assert f"which is {heir}" in refused(UsageError, "chain", "pause", *window.acting("deployer"))


def test_an_offer_of_the_ownership_can_be_taken_back(window: Window, run: Run, refused: Callable[..., str]) -> None:
    run("chain", "transfer-ownership", window.stage.stranger.address, *window.acting("deployer"))
    assert "taken back" in run("chain", "transfer-ownership", "0x" + 40 * "0", *window.acting("deployer"))
    assert "is not offered to" in refused(UsageError, "chain", "accept-ownership", *window.acting("stranger"))


@pytest.mark.parametrize("command", [["pause"], ["unpause"], ["transfer-ownership", "0x" + 40 * "1"]])
def test_nobody_else_can(window: Window, refused: Callable[..., str], command: list[str]) -> None:
    assert "is not the owner" in refused(UsageError, "chain", *command, *window.acting("stranger"))
    assert not SENDING & set(window.asked)


@pytest.mark.parametrize("address", ["me", "0x123", "0x" + 40 * "g", 40 * "1", "0xF39Fd6e51aad88F6F4ce6aB8827279cffFb92266"])
def test_what_is_no_address_is_refused(window: Window, refused: Callable[..., str], address: str) -> None:
    for command in (["transfer-ownership", address], ["approve", address, "1"], ["withdraw", "--token", address]):
        assert "is no address" in refused(UsageError, "chain", *command, *window.acting("deployer"))
        assert window.asked == []


def test_another_chains_book_is_refused(window: Window, refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(json.dumps(asdict(replace(window.stage.book, game=window.stage.book.registry))))
    for command in ("show", "watch"):
        refused(ChainMismatch, "chain", command, "--rpc-url", window.url, "--contracts", "other.json")


# Money ------------------------------------------------------------------------------------------------------------------


def test_all_that_is_owed_is_withdrawn(window: Window, run: Run) -> None:
    stage = window.stage
    stage.convicted(stage.posted(LONG), LONG)
    who = stage.challenger
    owed = who.registry.credit(who.address) + who.game.credit(who.address)
    before = stage.balance(who.address)
    lines = run("chain", "withdraw", *window.acting("challenger")).splitlines()
    assert lines == ["0.400100000000000002 ETH withdrawn from TaskRegistry", "0.010000000000000003 ETH withdrawn from DisputeGame"]
    assert stage.balance(who.address) == before + owed > before
    assert run("chain", "withdraw", *window.acting("challenger")) == f"nothing of ETH is owed to {who.address}\n"


def test_what_belongs_to_nobody_is_burnt(window: Window, run: Run) -> None:
    stage = window.stage
    stage.convicted(stage.posted(LONG), LONG)
    assert ", to burn 0.25" in run("chain", "show", *window.looking)
    assert run("chain", "burn", *window.acting("stranger")) == "0.250000000000000001 ETH burnt\n"
    assert stage.registry.burnable() == 0
    assert run("chain", "burn", *window.acting("stranger")) == "nothing of ETH is to be burnt\n"


def test_the_registry_is_allowed_to_take_a_token(window: Window, run: Run) -> None:
    stage, coin = window.stage, Coin(window.stage)
    token = Token(stage.chain.web3, coin.address)
    who = stage.requester.address
    text = run("chain", "approve", coin.address, "2.5", *window.acting("requester"))
    assert text == f"the registry may take 2.5 of {coin.address[:6]}…{coin.address[-4:]} from {who}\n"
    assert token.allowance(who, stage.book.registry) == 2_500_000
    run("chain", "approve", coin.address, "1", *window.acting("requester"))
    assert token.allowance(who, stage.book.registry) == 1_000_000
    run("chain", "approve", coin.address, "0", *window.acting("requester"))
    assert token.allowance(who, stage.book.registry) == 0


@pytest.mark.parametrize(
    ("amount", "words"), [("lots", "a number of tokens"), ("-1", "a number"), ("nan", "a number"), ("0.0000001", "decimal places")]
)
def test_an_amount_that_cannot_be(window: Window, refused: Callable[..., str], amount: str, words: str) -> None:
    coin = Coin(window.stage)
    assert words in refused(UsageError, "chain", "approve", *window.acting("requester"), "--", coin.address, amount)


def test_ether_and_what_is_no_token_need_no_allowance(window: Window, refused: Callable[..., str]) -> None:
    acting = window.acting("requester")
    assert "ether needs no allowance" in refused(UsageError, "chain", "approve", "0x" + 40 * "0", "1", *acting)
    for address in (window.stage.stranger.address, window.stage.book.registry):
        assert "no ERC-20 token" in refused(UsageError, "chain", "approve", address, "1", *acting)


# Deploying --------------------------------------------------------------------------------------------------------------


def test_a_deployment_has_the_parameters_that_it_was_given(window: Window, run: Run, tmp_path: Path) -> None:
    flags = ["--reward-share", "1234", "--delivery-bond", "0.5", "--answer-period", "77", "--burn-share", "5"]
    acting = [*window.acting("deployer"), "--contracts", "mine.json"]
    text = run("chain", "deploy", *acting, *flags)
    book = AddressBook.load(tmp_path / "mine.json")
    assert book.delivery in text and f"owner    {window.stage.deployer.address}" in text
    p = book.parameters
    assert (p.burn_share, p.reward_share, p.delivery_bond, p.answer_period) == (5, 1234, 5 * 10**17, 77)
    shown = run("chain", "show", "--rpc-url", window.url, "--contracts", "mine.json")
    assert "a demand        bond 0.5 ETH, 1 min 17 s for the answer" in shown


@pytest.mark.parametrize(
    "flags", [["--reward-share", "9000"], ["--delivery-bond", "0"], ["--answer-period", "0"], ["--reward-share", "-1"]]
)
def test_parameters_that_cannot_be(window: Window, refused: Callable[..., str], flags: list[str]) -> None:
    refused(UsageError, "chain", "deploy", *window.acting("deployer"), "--contracts", "mine.json", *flags)
    assert not SENDING & set(window.asked)
