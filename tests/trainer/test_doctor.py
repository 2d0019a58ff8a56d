"""``refstep doctor`` says what a machine does, and fails where it computes wrongly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bisection.errors import RefstepError
from bisection.scalar import INSTRUCTIONS
from sims.cli import main
from trainer import doctor, faces
from trainer.kernels import dot
from trainer.kernels.toolchain import Toolchain, toolchain
from trainer.lowering.functions import FUNCTIONS
from trainer.lowering.listing import page

CHAIN = toolchain()


def refstep(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "refstep", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def test_json_and_text_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    doctor.show(True)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["wrong"] == []
    assert found["route"]["name"] == ("compiled" if isinstance(CHAIN, Toolchain) else "library")
    assert found["hashing"]["mb_per_second"] > 0 and found["hashing"]["backend"] == found["hashing"]["all"][0]
    doctor.show(False)
    lines = capsys.readouterr().out.splitlines()
    rows = {line[:17].strip(): line[18:] for line in lines}
    assert all(line[17] == " " and line[18] != " " for line in lines), "aligned"
    assert rows["torch"] == found["versions"]["torch"] and rows["threads"] == str(found["threads"])
    assert rows["route"].startswith(found["route"]["name"]) and rows["hashing"].startswith(found["hashing"]["backend"])
    assert rows["probes"] == "every instruction, product and hash has the right bits"


def test_without_a_compiler_all_is_well_and_the_reason_is_given() -> None:
    done = refstep("--json", REFSTEP_CXX="none")
    found = json.loads(done.stdout)
    assert done.returncode == 0 and done.stderr == ""
    assert found["route"] == {"name": "library", "reason": "REFSTEP_CXX is none"}
    assert found["compiler"] == {"none": "REFSTEP_CXX is none"} and found["kernel_cache"] is None
    assert found["hashing"]["backend"] == "hashlib" and found["wrong"] == []


def test_a_compiler_that_fails_is_one_line_of_the_reason(tmp_path: Path) -> None:
    done = refstep(REFSTEP_ISA="abacus", REFSTEP_KERNELS=str(tmp_path))
    (route,) = [line for line in done.stdout.splitlines() if line.startswith("route")]
    if isinstance(CHAIN, Toolchain):
        assert done.returncode == 0 and "library: " in route and "abacus" in route


def test_operators_are_those_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--operators"])
    said = capsys.readouterr().out
    assert said == page() and all(f"| {name} |" in said for name in FUNCTIONS)


def test_json_and_operators_together_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["doctor", "--json", "--operators"])
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_probe_runs_every_instruction() -> None:
    _, names, _ = doctor._probe()
    assert {row.name for row in INSTRUCTIONS} <= set(names.values())


def test_a_wrong_instruction_is_named_and_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(faces.INSTRUCTIONS, "shr64", lambda a, b: a)
    with pytest.raises(RefstepError, match=r"^this machine computes wrongly: shr64 on the library route$"):
        doctor.show(False)
    assert "probes            shr64 on the library route" in capsys.readouterr().out


@pytest.mark.skipif(isinstance(CHAIN, str), reason=str(CHAIN))
def test_a_wrong_product_is_named_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dot, "product", lambda made, a, b, out=np.int64: np.minimum(dot.reference(a, b), 32767))
    with pytest.raises(RefstepError, match="computes wrongly: the product of int8"):
        doctor.show(True)


def test_a_wrong_hash_is_named_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "root_of", lambda blob, backend=None: bytes(32))
    with pytest.raises(RefstepError, match="hashing by hashlib"):
        doctor.show(True)
