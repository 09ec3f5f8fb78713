"""Ablations: what is trained, what is continued, and what the table says of it."""

import csv
import io
import re
import statistics

import pytest
from eager import run_eagerly
from runs import ONE_EPOCH

from keras_senet import cli
from keras_senet.analysis import Variant, ablation
from keras_senet.analysis.ablation import Ablation, SeedResult, VariantResult, as_csv, table
from keras_senet.recipes.variants import VARIANTS, variant_of
from keras_senet.runs.tables import Metrics
from keras_senet.se import SE
from keras_senet.training import RECIPES, Trainer

RECIPE = RECIPES["digits"].override(epochs=1, batch_size=16, warmup_epochs=0.0)
PLAIN, GATED = VARIANTS["plain"], VARIANTS["se"]
FLAGS = ["ablate", *ONE_EPOCH]


@run_eagerly()
def test_it_trains_what_is_missing(tmp_path, monkeypatch):
    """One run was interrupted; it is continued, and nothing is trained twice."""
    started = RECIPE.override(se=None, seed=3)
    Trainer(
        started, tmp_path / "plain" / "seed3", verbose=False, max_steps=3, checkpoint_steps=2
    ).train()
    calls = []
    both = Ablation(RECIPE, tmp_path, [PLAIN, GATED], [3], verbose=False)
    both.train(after_each=lambda: calls.append([len(row.runs) for row in both.rows()]))
    assert calls == [[1, 0], [1, 1]]
    for row in both.rows():
        (last,) = Metrics(tmp_path / row.variant.name / "seed3" / "metrics.csv").read()
        (run,) = row.runs
        assert run == SeedResult(3, 100 * (1 - last["test_accuracy"]), 100 * (1 - last["accuracy"]))
    monkeypatch.setattr(ablation, "Trainer", None)
    (tmp_path / "plain" / "seed3" / "model.keras").unlink()
    both.train()

    flags = [*FLAGS, "--workdir", str(tmp_path), "--variants", "plain", "se", "--seeds", "3"]
    assert cli.main([*flags, "--table"]) == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "ablation.csv").read_text())))
    assert [row["variant"] for row in rows] == ["plain", "se"]
    assert int(rows[1]["parameters"]) > int(rows[0]["parameters"])
    assert (tmp_path / "ablation.png").exists()
    assert "| plain |" in (tmp_path / "ablation.md").read_text()

    other = Ablation(RECIPE.override(learning_rate=0.5), tmp_path, [PLAIN], [3], verbose=False)
    with pytest.raises(ValueError, match="another recipe: learning_rate"):
        other.rows()


def test_the_table_compares_seed_by_seed():
    runs = {"plain": ((0, 21.0), (1, 24.0)), "se": ((0, 20.0), (1, 22.0), (2, 30.0)), "mine": ()}
    variants = (PLAIN, GATED, Variant("mine", SE(reduction=2)))
    rows = [
        VariantResult(
            v, 1000, 20_000, tuple(SeedResult(seed, e, e - 1) for seed, e in runs[v.name])
        )
        for v in variants
    ]
    plain, gated, mine = table(rows)
    assert plain[3] == f"22.50 ± {statistics.stdev((21.0, 24.0)):.2f}"
    assert plain[4] == "+1.50"  # of seeds 0 and 1 only
    assert plain[5:] == ("23.30", "+1.02", "2")
    assert gated[4] == "+0.00"
    assert mine == ("mine", "1,000", "20,000", "-", "-", "-", "-", "0")
    lines = as_csv(rows).split("\n")
    assert lines[0].startswith("variant,se,seed,test_error,training_error,parameters,multiply_adds")
    assert lines[1] == "plain,none,0,21.00,20.00,1000,20000,23.3,Table 10"
    assert lines[3] == "se,default,0,20.00,19.00,1000,20000,22.28,Table 10"
    assert (len(lines), lines[-1]) == (1 + 5 + 1, "")
    assert rows[2].mean is None
    assert VariantResult(PLAIN, 1, 1, (SeedResult(0, 5.0, 4.0),)).deviation is None


def test_without_runs_there_is_a_table(tmp_path, capsys):
    assert (
        cli.main(
            [
                *FLAGS,
                "--workdir",
                str(tmp_path / "new"),
                "--table",
                "--variants",
                "se",
                "mine:reduction=2",
            ]
        )
        == 0
    )
    assert "mine" in capsys.readouterr().out
    assert not (tmp_path / "new" / "ablation.png").exists()


@pytest.mark.parametrize("name", VARIANTS)
def test_the_papers_variants_are_se_blocks(name):
    variant = VARIANTS[name]
    assert (variant.se is None) == (name == "plain")
    assert (variant.se == SE()) == (name == "se")
    assert isinstance(variant.se, SE | None)
    assert variant.paper
    assert variant.table


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--variants r3", "must be one of plain, se, .*'r3'"),
        ("--variants mine:", "'mine:'"),
        ("--variants mine:reduction=²", "--se.reduction must be an integer from 1 to .*²"),
        ("--variants a/b:reduction=2", "name of a variant must be of letters.*'a/b'"),
        ("--variants ..:reduction=4", "not .*Received: '\\.\\.'"),
        ("--variants a|b:reduction=4", "Received: 'a\\|b'"),
        ("--variants :reduction=4", "Received: ''"),
        ("--variants se mine:ratio=2", "SE blocks must be .*'ratio=2'"),
        ("--variants se se", "each once.*se"),
        ("--seeds 1 1", "each once"),
        ("--seeds -1", "--seeds -1"),
        ("--recipe digit", '"digit" for --recipe'),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_trained(flags, message, tmp_path, capsys):
    workdir = tmp_path / "new"
    assert cli.main([*FLAGS, "--workdir", str(workdir), *flags.split()]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert re.search(message, error)
    assert not workdir.exists()


def test_a_variant_of_ones_own():
    assert variant_of("r64:reduction=64") == Variant("r64", SE(reduction=64))
    assert variant_of("tanh") is VARIANTS["tanh"]
    assert variant_of("v1.0_r64+tanh-2:reduction=64").name == "v1.0_r64+tanh-2"
