"""Pictures of a deployment in words: pure functions of made-up pictures."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from eth_typing import ChecksumAddress
from hypothesis import given
from hypothesis import strategies as st
from web3 import Web3

from contracts.bindings import Phase, Tree
from contracts.deploy import AddressBook, Parameters
from contracts.events import KINDS, Event, GameOpened, JobOpened, LeafDemanded, Picked, Refuted, Revealed, SegmentFinalised
from contracts.jobs import NATIVE, NOBODY, Job, JobSpec, JobStatus, Model, Terms
from contracts.narration import job_of, line, tell
from contracts.overview import Account, Descending, GameState, Holding, JobState, OpenDemand, Overview, PostedSegment, as_json
from contracts.overview_text import deployment_text, descent_words, job_text, phase_words
from contracts.words import ETHER_COIN, LINE, Coin, counted, duration, fold_line, harmless, moment, percent, relative, short, table

ETHER = 10**18
NOW = 1_800_000_000


def address(name: str) -> ChecksumAddress:
    return Web3.to_checksum_address(Web3.keccak(text=name)[:20])


REGISTRY, GAME, REFEREE, DELIVERY = map(address, ("registry", "game", "referee", "delivery"))
OWNER, REQUESTER, TRAINER, CHALLENGER = map(address, ("owner", "requester", "trainer", "challenger"))
BOOK = AddressBook(1, REGISTRY, GAME, REFEREE, DELIVERY, 100, Parameters())
SPEC = JobSpec(b"p" * 32, 20, 37, b"i" * 32, 5, b"d" * 32, 2, 10, 4, 1)
TERMS = Terms(stake=2 * ETHER, game=GAME, segment_period=7_200, challenge_window=86_400)
TOKEN = Coin(address("token"), 6)


def job(**changes: Any) -> Job:
    spec, terms = changes.pop("spec", SPEC), changes.pop("terms", TERMS)
    usual = Job(
        status=JobStatus.TRAINING,
        requester=REQUESTER,
        trainer=TRAINER,
        bounty=ETHER,
        paid=0,
        attempt=1,
        deadline=NOW + 3 * 3_600 + 12 * 60,
        posted=0,
        finalised=0,
        state=b"s" * 32,
        live_games=0,
        open_demands=0,
        delivery_end=0,
        settled=False,
        parent=0,
        job_hash=spec.job_hash,
        spec=spec,
        terms=terms,
    )
    return replace(usual, **changes)


def state(number: int = 1, coin: Coin = ETHER_COIN, **changes: Any) -> JobState:
    """A job; what is not about its surroundings changes the job itself."""
    around = {field.name: changes.pop(field.name) for field in fields(JobState) if field.name in changes}
    usual = JobState(number, job(**changes), coin, "https://requester.example", "https://trainer.example", (), (), (), None, (), ())
    return replace(usual, **around)


def posted(number: int = 0, **changes: Any) -> PostedSegment:
    usual = PostedSegment(number, 4 * number, 4, b"h" * 32, b"e" * 32, NOW + 86_400, (), False, 4 * ETHER // 10)
    return replace(usual, **changes)


def game(number: int = 1, **changes: Any) -> GameState:
    usual = GameState(number, 1, 1, 0, CHALLENGER, 1, number, Phase.CHALLENGER, None, None, 3_600, 7_200, True, None)
    return replace(usual, **changes)


def overview(*jobs: JobState, **changes: Any) -> Overview:
    usual = Overview(BOOK, 12_345, NOW, NOW, None, OWNER, NOBODY, jobs, (), ())
    return replace(usual, **changes)


def words(text: str) -> str:
    """A text whose lines are joined."""
    return " ".join(text.split())


def shown(picture: Overview) -> str:
    """The first job of a picture, in one line."""
    return words(job_text(picture, picture.jobs[0]))


# Times and amounts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (11_520, "3 h 12 min"), (3_601, "1 h 1 s"), (86_400, "1 d"), (93_784, "1 d 2 h")],
)
def test_lengths_of_time_are_told_in_two_units(seconds: int, text: str) -> None:
    assert duration(seconds) == text


def test_how_far_away_something_is() -> None:
    assert (relative(11_520), relative(0), relative(-12)) == ("in 3 h 12 min", "now", "12 s ago")


def test_times_are_utc_as_long_as_there_is_a_calendar() -> None:
    assert moment(NOW) == "2027-01-15 08:00:00 UTC"
    assert moment(2**255) == f"second {2**255}"


@given(st.integers(0, 2**256 - 1), st.integers(0, 77))
def test_an_amount_is_told_exactly(units: int, decimals: int) -> None:
    whole, _, places = Coin(TOKEN.address, decimals).number(units).replace(",", "").partition(".")
    assert int(whole + places.ljust(decimals, "0")) == units
    assert not places.endswith("0")


@given(st.integers(0, 2**256 - 1), st.one_of(st.none(), st.integers(0, 77)))
def test_a_brief_amount_is_short_and_says_when_digits_are_left_out(units: int, decimals: int | None) -> None:
    coin = Coin(TOKEN.address, decimals)
    brief = coin.brief(units)
    assert len(brief) <= 17
    assert brief.endswith("…") or brief == coin.number(units)


def test_amounts_are_named() -> None:
    assert ETHER_COIN.amount(1_500 * ETHER + 1) == "1,500.000000000000000001 ETH"
    assert ETHER_COIN.told(1_500 * ETHER + 1) == "1,500… ETH"
    assert TOKEN.amount(2_500_000) == f"2.5 of {short(TOKEN.address)}"
    assert Coin(TOKEN.address, None).amount(7) == f"7 units of {short(TOKEN.address)}"
    assert percent(1_250) == "12.5%"


# Lines ------------------------------------------------------------------------------------------------------------------


@given(st.text(max_size=600))
def test_a_strangers_text_becomes_plain(text: str) -> None:
    assert len(harmless(text)) == len(text)
    assert all(" " <= c <= "~" for c in harmless(text))


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=600))
def test_a_long_text_is_folded_and_nothing_of_it_lost(text: str) -> None:
    lines = fold_line("label", text, 16)
    assert all(len(one) <= LINE for one in lines)
    assert "".join("".join(lines).split()) == "label" + "".join(text.split())


def test_a_table_fits_and_wraps_its_last_column() -> None:
    lines = table(("n ", "name", "what"), [(7, "abc", "x " * 100), (12, "d", "y")], 2)
    assert lines[0] == "   n  name  what"
    assert lines[1].startswith("   7  abc   x x") and lines[2].startswith("            x x")
    assert lines[-1] == "  12  d     y"
    assert all(len(one) <= LINE for one in lines)


# Games ------------------------------------------------------------------------------------------------------------------


def test_every_phase_has_words() -> None:
    told = {phase_words(game(phase=phase)) for phase in Phase}
    assert len(told) == len(Phase)
    for phase in Phase:
        who = "challenger" if phase == Phase.CHALLENGER else "trainer"
        assert not phase.live or phase_words(game(phase=phase)).startswith(f"the {who} ")


def test_a_game_without_its_attempt_has_a_bond_to_give_back() -> None:
    left = game(phase=Phase.LEAF, on=False)
    assert phase_words(left) == "another game ended the attempt; the bond can be reclaimed"
    assert (left.live, left.bonded) == (False, True)
    over = game(phase=Phase.CANCELLED, on=False)
    assert "the bond went back" in phase_words(over)
    assert not over.bonded


def test_a_side_whose_time_is_up_can_be_ended() -> None:
    assert "its time is up" not in phase_words(game(phase=Phase.CHILDREN, trainers_left=0, challengers_left=-5))
    assert "its time is up: anybody may end it" in phase_words(game(phase=Phase.CHILDREN, trainers_left=-1))
    assert "its time is up" in phase_words(game(challengers_left=-1))
    assert "left: trainer none, challenger 2 h" in shown(overview(state(games=(game(phase=Phase.LEAF, trainers_left=-1),))))


@pytest.mark.parametrize(
    ("descent", "text"),
    [
        (Descending(Tree.TRACE, 10, 0, 1_000, 0, 0, None), "trace, 10 levels above the leaves"),
        (Descending(Tree.HISTORY, 1, 3, 9, 0, 0, None), "history, 1 level above the leaves at position 3"),
        (Descending(Tree.TENSOR, 0, 0, 1, 12, 200, None), "tensor 12 of 200 bytes, at the only leaf"),
        (Descending(Tree.TENSOR, 0, 1_234, 2_000, 12, 500_000, None), "tensor 12 of 500,000 bytes, at leaf 1,234"),
        (Descending(Tree.TENSOR, 0, 0, 2_000, 12, 500_000, None), "tensor 12 of 500,000 bytes, at leaf 0"),
        (Descending(Tree.TENSOR, 6, 2, 999, 4, 250_000, None),
         "tensor 4 of 250,000 bytes, 6 levels above the leaves at position 2"),
        (Descending(Tree.RUN, 7, 0, 100, 4, 0, (8, 1_234)), "run of element 1,234 of node 8, 7 levels above the leaves"),
    ],
)  # fmt: skip
def test_where_a_descent_stands(descent: Descending, text: str) -> None:
    assert descent_words(game(phase=Phase.CHILDREN, descent=descent)) == text


def test_a_demanded_trace_comes_with_its_descendants() -> None:
    waiting = game(phase=Phase.TRACE, step=3, descent=Descending(Tree.TRACE, 6, 0, 37, 0, 0, None))
    assert phase_words(waiting) == "the trainer owes the root of the step's trace, then its descendants"
    assert descent_words(waiting) == ""


# Jobs -------------------------------------------------------------------------------------------------------------------

NEXT = [
    (state(status=JobStatus.OPEN, trainer=NOBODY), "anybody may claim it"),
    (state(status=JobStatus.OPEN, trainer=NOBODY, terms=replace(TERMS, trainer=TRAINER)), f"{short(TRAINER)} may claim it"),
    (state(), "segment 0 due in 3 h 12 min"),
    (state(deadline=NOW), "segment 0 due now"),
    (state(deadline=NOW - 60), "segment 0 was due 1 min ago; can be expired"),
    (state(deadline=NOW - 60, live_games=1), "segment 0 was due 1 min ago"),
    (state(posted=1, segments=(posted(),)), "segment 1 due in 3 h 12 min; segment 0 final in 1 d 1 s"),
    (state(status=JobStatus.VERIFICATION, posted=1, segments=(posted(window_end=NOW),)), "segment 0 final in 1 s"),
    (state(status=JobStatus.VERIFICATION, posted=1, segments=(posted(window_end=NOW - 1),)), "segment 0 can be made final"),
    (state(status=JobStatus.VERIFICATION, segments=(posted(final=True), posted(1, games=(4, 5)))), "segment 1 in 2 games"),
    (state(status=JobStatus.COMPLETED, settled=True), "all is paid"),
    (state(status=JobStatus.COMPLETED, open_demands=2, delivery_end=NOW), "2 leaves demanded"),
    (state(status=JobStatus.COMPLETED, delivery_end=NOW + 59), "delivery ends in 1 min"),
    (state(status=JobStatus.COMPLETED, delivery_end=NOW - 1, paid=ETHER * 9 // 10), "0.1 retained can be released"),
    (state(status=JobStatus.SLASHED), "over"),
    (state(status=JobStatus.CANCELLED), "over"),
]


@pytest.mark.parametrize(("one", "text"), NEXT)
def test_what_happens_to_a_job_next(one: JobState, text: str) -> None:
    picture = overview(one)
    status = next(row for row in job_text(picture, one).splitlines() if row.startswith("status"))
    assert status.endswith(f": {text}")
    assert text in words(deployment_text(picture))


@given(st.integers(0, 2**128 - 1), st.integers(0, 10_000), st.integers(1, 50), st.integers(1, 50))
def test_milestones_add_up_to_what_is_not_retained(bounty: int, retained: int, steps: int, length: int) -> None:
    spec = replace(SPEC, steps=steps, segment_length=min(length, steps))
    one = state(bounty=bounty, spec=spec, terms=replace(TERMS, retained_share=retained))
    assert sum(one.milestone(segment) for segment in range(spec.segments)) == bounty - one.retained


@pytest.mark.parametrize(
    ("status", "settled", "bounty", "stake"),
    [
        (JobStatus.OPEN, False, 7, 0),
        (JobStatus.TRAINING, False, 7, 9),
        (JobStatus.VERIFICATION, False, 7, 9),
        (JobStatus.COMPLETED, False, 7, 0),
        (JobStatus.COMPLETED, True, 0, 0),
        (JobStatus.CANCELLED, False, 0, 0),
        (JobStatus.EXPIRED, False, 0, 0),
        (JobStatus.SLASHED, False, 0, 0),
    ],
)
def test_what_the_registry_holds_for_a_job(status: JobStatus, settled: bool, bounty: int, stake: int) -> None:
    one = state(status=status, settled=settled, bounty=10, paid=3, terms=replace(TERMS, stake=9))
    assert (one.bounty_held, one.stake_held) == (bounty, stake)


def test_a_job_in_full() -> None:
    one = state(
        3,
        TOKEN,
        bounty=3_000_000,
        paid=1_000_000,
        posted=2,
        finalised=1,
        attempt=2,
        terms=replace(TERMS, token=TOKEN.address, attempts=3, stake=500_000, retained_share=1_000, delivery_period=60),
        segments=(posted(final=True, milestone=1_000_000), posted(1, games=(9,), milestone=900_000)),
        games=(game(9, job=3, attempt=2, segment=1, step=3, phase=Phase.TRACE),),
        ancestors=(2, 1),
        children=(5, 8),
    )
    text = shown(overview(one, accounts=(Account("registry", TRAINER, TOKEN, 1_000_000),)))
    for part in (
        "job 3 at block 12,345, 2027-01-15 08:00:00 UTC",
        "status training, attempt 2 of 3: segment 2 due in 3 h 12 min; segment 1 in 1 game",
        f"bounty 3 of {short(TOKEN.address)}: 1 paid, 2 held, 0.3 of that until delivery",
        f"token {TOKEN.address}",
        "2 h for each segment, window 1 d, 3 attempts, 10% retained for a delivery period of 1 min",
        "deadline segment 2 by 2027-01-15 11:12:00 UTC (in 3 h 12 min)",
        "steps 10 in 3 segments of 4",
        "parents 2, 1",
        "continued by job 5, job 8",
        f"segment 0 steps 0 to 4, final, 1 of {short(TOKEN.address)} paid",
        f"segment 1 steps 4 to 8, window ends 2027-01-16 08:00:00 UTC (in 1 d), in game 9; 0.9 of {short(TOKEN.address)} due",
        f"game 9 attempt 2, segment 1, step 3, by {short(CHALLENGER)}: the trainer owes the root of the step's trace",
        "left: trainer 1 h (running), challenger 2 h",
        f"credit trainer {TRAINER} can withdraw 1 of {short(TOKEN.address)} (registry)",
    ):
        assert part in text, part


def test_a_completed_job_names_its_model_and_open_demands() -> None:
    model = Model(b"m" * 32, SPEC.job_hash, SPEC.program_root, SPEC.data_root, REQUESTER, TRAINER, 0, 777)
    demand = OpenDemand(4, CHALLENGER, 2, NOW + 60)
    one = state(status=JobStatus.COMPLETED, model=model, demands=(demand,), open_demands=1, delivery_end=NOW + 100)
    text = shown(overview(one))
    assert f"model state {model.state.hex()}, completed in block 777, 1 open demand" in text
    assert f"demand 4 a leaf of component 2, for {short(CHALLENGER)}, by 2027-01-15 08:01:00 UTC (in 1 min)" in text


def test_games_of_another_contract_are_not_shown_and_that_is_said() -> None:
    text = shown(overview(state(terms=replace(TERMS, game=address("another")))))
    assert f"{address('another')}, whose games are not shown here" in text
    assert "not shown here" not in shown(overview(state()))


# Deployments ------------------------------------------------------------------------------------------------------------


def test_deadlines_are_in_the_chains_time_though_protocol_time_is_behind() -> None:
    picture = overview(state(deadline=NOW + 60), time=NOW + 5_000)
    text = shown(picture)
    assert "deadline segment 0 by 2027-01-15 09:24:20 UTC (in 1 min)" in text
    assert "running; protocol time is 1 h 23 min behind the chain's" in text


def test_during_a_pause_no_deadline_has_a_date() -> None:
    picture = overview(state(deadline=NOW + 60), paused_until=NOW + 86_400)
    assert "PAUSED until 2027-01-16 08:00:00 UTC at the latest (in 1 d)" in shown(picture)
    assert "deadline segment 0 by 1 min after the clocks go on" in shown(picture)


def test_an_owner_an_offer_and_nobody() -> None:
    assert f"owner           {OWNER}\n" in deployment_text(overview())
    assert f"{OWNER}, offered to {TRAINER}" in words(deployment_text(overview(pending_owner=TRAINER)))
    assert "owner           nobody, for good\n" in deployment_text(overview(owner=NOBODY))


def holding(held: int | None, **changes: Any) -> Holding:
    return replace(Holding("registry", ETHER_COIN, held, {"bounties": 3 * ETHER, "stakes": 0}, ETHER, ETHER // 2), **changes)


@pytest.mark.parametrize(
    ("held", "steady", "text"),
    [
        (9 * ETHER // 2, True, "solvent"),
        (9 * ETHER, True, "solvent"),
        (4 * ETHER, True, "SHORT BY 0.5"),
        (4 * ETHER, False, "unclear"),
        (None, True, "THE TOKEN DOES NOT ANSWER"),
    ],
)
def test_whether_a_contract_can_pay(held: int | None, steady: bool, text: str) -> None:
    picture = overview(holdings=(holding(held),), steady=steady)
    line = next(row for row in deployment_text(picture).splitlines() if row.startswith("  registry  ETH"))
    assert f"  {text}  " in line
    assert line.endswith("bounties 3, credited 1, to burn 0.5")
    assert ("The chain went on" in deployment_text(picture)) == (not steady)


def test_jobs_are_counted_by_status_and_games_by_whether_they_go_on() -> None:
    jobs = [state(n, status=status) for n, status in enumerate([JobStatus.OPEN, JobStatus.OPEN, JobStatus.SLASHED], 1)]
    jobs.append(state(4, games=(game(2, job=4), game(3, job=4, on=False), game(1, job=4))))
    lines = deployment_text(overview(*jobs)).splitlines()
    assert "4 jobs: 2 open, 1 training, 1 slashed" in lines
    assert "2 live games, 1 with a bond to reclaim" in lines
    assert [row.split(":")[0].split()[1] for row in lines if row.startswith("  game ")] == ["1", "2", "3"]


HARSH = st.text(max_size=256)
BIG = st.integers(0, 2**128 - 1)


@given(
    uri=HARSH,
    service=HARSH,
    bounty=BIG,
    stake=BIG,
    deadline=st.integers(0, 2**40 - 1),
    decimals=st.one_of(st.none(), st.integers(0, 77)),
)
def test_nothing_on_chain_breaks_a_line(
    uri: str, service: str, bounty: int, stake: int, deadline: int, decimals: int | None
) -> None:
    coin = Coin(TOKEN.address, decimals)
    terms = replace(TERMS, stake=stake, token=coin.address, attempts=255, segment_period=2**32 - 1, trainer=TRAINER)
    one = state(
        2**40, coin, uri=uri, service=service, bounty=bounty, deadline=deadline, terms=terms, games=(game(2**50, job=2**40),)
    )
    money = (Holding("registry", coin, bounty, {"bounties": bounty, "stakes": stake}, bounty, stake),)
    picture = overview(one, holdings=money, accounts=(Account("registry", TRAINER, coin, stake),))
    for text in (deployment_text(picture), job_text(picture, one)):
        assert all(len(row) <= LINE for row in text.split("\n"))
        assert all(" " <= c <= "~" or c in "…\n" for c in text)


def test_json_holds_all_of_it() -> None:
    one = state(games=(game(phase=Phase.TRACE, descent=Descending(Tree.TRACE, 6, 0, 37, 0, 0, None)),), segments=(posted(),))
    document = json.loads(json.dumps(as_json(overview(one, holdings=(holding(0),)))))
    (told,) = document["jobs"]
    assert told["job"]["status"] == "training"
    assert told["job"]["spec"]["program_root"] == "0x" + 32 * "70"
    assert told["job"]["bounty"] == ETHER
    assert told["games"][0]["phase"] == "trace" and told["games"][0]["trainers_turn"] and told["games"][0]["live"]
    assert told["games"][0]["descent"]["tree"] == ["trace"]
    assert document["holdings"][0]["owed"] == 9 * ETHER // 2 and not document["holdings"][0]["solvent"]
    assert document["book"]["parameters"]["bond"] == Parameters.bond


# Events -----------------------------------------------------------------------------------------------------------------


class Known:
    """Names of one job in a token, with games below 100."""

    def coin(self, token: str) -> Coin:
        return ETHER_COIN if token == NATIVE else TOKEN

    def job_coin(self, job: int) -> Coin:
        return TOKEN

    def game_job(self, game: int) -> int | None:
        return 7 if game < 100 else None


PLACE = {"block": 21_345_678, "index": 0, "transaction": bytes(32), "contract": REGISTRY}
SAMPLES: dict[str, Any] = {
    "int": 2**40,
    "bytes": b"\x00\xff" * 16,
    "ChecksumAddress": TRAINER,
    "bool": True,
    "str": "https://evil.example/\x1b[2J" + 200 * "x",
    "JobSpec": SPEC,
    "Terms": TERMS,
    "Tree": Tree.TENSOR,
    "tuple[bytes, ...]": (bytes(32),) * 32,
}


def event(kind: type[Event], **changes: Any) -> Any:
    told = {field.name: SAMPLES[str(field.type)] for field in fields(kind) if field.name not in PLACE}
    return kind(**PLACE | told | changes)


@pytest.mark.parametrize("kind", KINDS.values())
def test_every_event_has_words_that_fit_a_line(kind: type[Event]) -> None:
    text = line(event(kind), NOW, Known())
    assert len(text) <= LINE
    assert text.startswith("2027-01-15 08:00:00 UTC #21345678  ")
    assert all(" " <= c <= "~" or c == "…" for c in text)
    assert kind.__name__ not in text  # no event is told by its name alone


def test_an_event_that_has_no_words_is_told_by_its_numbers() -> None:
    class Novelty(Event):
        pass

    assert tell(Novelty(**PLACE), Known()) == "Novelty"


def test_events_of_games_name_their_job() -> None:
    picked = event(Picked, game=5, child=3, height=6, position=17)
    assert tell(picked, Known()) == "job 7, game 5: challenger picks descendant 3 (height 6, position 17)"
    assert tell(replace(picked, game=500), Known()).startswith("game 500: ")
    assert (job_of(picked, Known()), job_of(event(GameOpened, job=2), Known())) == (7, 2)
    assert job_of(event(LeafDemanded, job=3), Known()) == 3
    refuted = "job 7, game 5: REFUTED: what the trainer revealed last is not what was picked"
    assert tell(event(Refuted, game=5), Known()) == refuted


@pytest.mark.parametrize(
    ("tree", "height", "payload", "text"),
    [
        (Tree.TENSOR, 11, bytes(64 * 32), "64 digests of the tensor (height 11, position 9,000)"),
        (Tree.HISTORY, 1, bytes(2 * 32), "2 digests of the history (height 1, position 9,000)"),
        (Tree.RUN, 11, bytes(64 * 8), "64 partial results (height 11, position 9,000)"),
        (Tree.RUN, 1, bytes(8), "1 partial result (height 1, position 9,000)"),
        (Tree.TENSOR, 0, bytes(200), "200 bytes of leaf 9,000 of the tensor"),
    ],
)
def test_a_reveal_is_told_by_what_it_shows(tree: Tree, height: int, payload: bytes, text: str) -> None:
    revealed = event(Revealed, game=5, tree=tree, height=height, position=9_000, payload=payload)
    assert tell(revealed, Known()) == f"job 7, game 5: trainer reveals {text}"


def test_amounts_of_a_job_are_in_its_token() -> None:
    final = event(SegmentFinalised, job=1, segment=2, milestone=1_500_000)
    assert tell(final, Known()) == f"job 1: segment 2 final, 1.5 of {short(TOKEN.address)} to {short(TRAINER)}"


def test_an_offer_tells_its_size_origin_and_money() -> None:
    offer = event(JobOpened, job=4, requester=REQUESTER, bounty=ETHER, parent=3, uri="s3://jobs/\x1b[2J")
    assert tell(offer, Known()) == (
        f"job 4: offered by {short(REQUESTER)}, 10 steps, 3 segments after job 3, bounty 1, stake 2 ETH, s3://jobs/?[2J"
    )


def test_counting() -> None:
    assert (counted(1, "leaf", "leaves"), counted(2_000, "leaf", "leaves"), counted(0, "job")) == (
        "1 leaf",
        "2,000 leaves",
        "0 jobs",
    )
