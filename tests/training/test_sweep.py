"""Sweeps, their results, and the report on them."""

import base64
import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from sfsc_bundle.machine import processor
from sfsc_training import sweep
from sfsc_training.cli import main
from sfsc_training.data.reader import read_folder
from sfsc_training.errors import CheckpointError, DataError, RecipeError
from sfsc_training.evaluation import cross_generation, embed_split, evaluate_mixed, evaluate_split
from sfsc_training.loop import RunOptions
from sfsc_training.report.page import write_report
from sfsc_training.report.plots import conflict_curve, mixed_curve
from sfsc_training.results import read_result
from sfsc_training.run import open_run
from sfsc_training.sweep import read_sweep, run_sweep
from tests.training.conftest import SMALL_RECIPE

QUIET = Console(quiet=True)
CHILDREN = {
    "next": "teacher = { classify = 1.0 }\n",
    "independent": "[network]\nseparate = true\n[loss]\nclassifier = 'separate'\ncompatible = 'base'\n",
    "bct": "teacher = { full = true, classifier = true }\n"
    "[network]\nseparate = true\n[loss]\ncompatible = 'cross-entropy'\n",
    "unified": "",
    "bct-s": "[loss]\ncompatible = 'base'\n[aggregation]\nkind = 'sum'\n",
    "sfsc": "",
}
SWEEP = """
settings = ["optimiser.steps=4"]
run = [
  { recipe = "DIR/independent.toml" },
  { recipe = "DIR/bct.toml", teacher = "independent" },
  { recipe = "DIR/unified.toml", settings = ["widths=[0.5]"] },
  { recipe = "DIR/bct-s.toml" },
  { recipe = "DIR/sfsc.toml", seeds = [0, 1] },
  { recipe = "DIR/next.toml", teacher = "sfsc" },
]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("sweep")
    (place / "small.toml").write_text(SMALL_RECIPE)
    for name, sections in CHILDREN.items():
        widths = "widths = [0.5]\n" if name == "unified" else ""
        (place / f"{name}.toml").write_text(
            f'base = "small.toml"\nname = "{name}"\nmethod = "{name}"\n{widths}{sections}[optimiser]\nsteps = 5\n'
        )
    (place / "sweep.toml").write_text(SWEEP.replace("DIR", str(place)))
    return place


def go(folder, data):
    return list(
        run_sweep(
            read_sweep(folder / "sweep.toml"),
            lambda recipe: read_folder(data, recipe.data, recipe.seed),
            folder / "runs",
            folder / "results",
            ["test"],
            QUIET,
            RunOptions(threads=1, workers=0, checkpoint_every=2),
        )
    )


@pytest.fixture(scope="module")
def results(folder, small_data):
    return go(folder, small_data)


def test_every_run_leaves_what_is_needed_to_repeat_it(results, small_data):
    assert [path.stem for path in results] == [
        "independent-seed0-test", "bct-seed0-test", "unified-seed0-test", "bct-s-seed0-test", "sfsc-seed0-test",
        "sfsc-seed1-test", "next-seed0-test",
    ]  # fmt: skip
    for path in results:
        found = json.loads(path.read_text())
        result = read_result(path)
        dataset = read_folder(small_data, result.recipe.data, result.recipe.seed)
        assert found["data"]["recipe_sha256"] == result.recipe.sha256
        assert found["data"]["data_sha256"] == dataset.sha256
        assert found["figures"][0]["value"] == pytest.approx(result.mean)
        assert {"torch", "timm", "python"} <= found["data"]["versions"].keys()
        assert found["machine"]["processor"] == processor()
        assert result.macs == sorted(result.macs)
        assert [entry["step"] for entry in result.history] == [0, 3]
    assert json.loads(results[1].read_text())["data"]["teacher"] == "independent-seed0"


def test_a_result_holds_the_aligned_and_the_raw_figures(results, folder, small_data):
    found = json.loads(results[4].read_text())
    run = open_run(folder / "runs/sfsc-seed0")
    split = read_folder(small_data, run.recipe.data, 0).test
    figures = {figure["name"]: figure["value"] for figure in found["figures"]}
    assert read_result(results[4]).raw == found["data"]["raw"]
    assert found["data"]["alignment"] == run.alignment.description.model_dump(mode="json")
    for opened, part, suffix in ((run, "evaluation", ""), (run.unaligned(), "raw", ", raw")):
        embedded = embed_split(opened, split, QUIET)
        cross, mixed = evaluate_split(embedded), evaluate_mixed(embedded)
        stored = found["data"][part]
        assert np.array(stored["mean_ap"]) == pytest.approx(np.array(cross.mean_ap))
        assert stored["mixed_gallery"]["curve"] == [list(row) for row in mixed.curve]
        assert figures[f"mean of the matrix{suffix}, test"] == pytest.approx(np.mean(cross.mean_ap))
        assert figures[f"mixed gallery{suffix}, test"] == pytest.approx(np.mean(mixed.mean_ap))
        gaps = np.array(mixed.mean_ap) - np.mean(cross.mean_ap, axis=1)
        assert stored["mixed_gallery"]["gaps"] == pytest.approx(gaps)


def test_mixed_galleries_of_a_report(results, tmp_path):
    runs = [read_result(path) for path in results[3:6]]
    text = write_report(runs, tmp_path / "report").read_text()
    rows = dict(re.findall(r"<tr><td>([\w-]+, [\d.]+)</td>(.*?)</tr>", text))
    assert set(rows) == {"bct-s, 0.5", "bct-s, 1.0", "sfsc, 0.5", "sfsc, 1.0"}
    assert (
        f"<td>{runs[0].mixed['mean_ap'][1]:.1f}</td><td>{runs[0].mixed['gaps'][1]:+.1f}</td>" in rows["bct-s, 1.0"]
    )
    (axes,) = mixed_curve({"set-bct-s": runs[:1], "set-sfsc": runs[1:]}).axes
    alone, both = axes.lines
    assert list(alone.get_xdata()) == [0, 25, 50, 75, 100]
    assert list(alone.get_ydata()) == pytest.approx([np.mean(row) for row in runs[0].mixed["curve"]])
    expected = [np.mean(rows) for rows in zip(*(run.mixed["curve"] for run in runs[1:]), strict=True)]
    assert list(both.get_ydata()) == pytest.approx(expected)


def test_results_of_earlier_versions_can_be_reported(results, tmp_path):
    earlier = [
        dataclasses.replace(found, evaluation={**found.evaluation, "mixed_gallery": None})
        for found in map(read_result, results[3:5])
    ]
    text = write_report(earlier, tmp_path / "report").read_text()
    assert "mixed widths" not in text
    assert "Ablation" in text


def test_a_new_generation_is_measured_against_the_old_one_too(results):
    generations = json.loads(results[6].read_text())["data"]["evaluation"]["generations"]
    assert generations["widths"] == ["old/0.5", "old/1.0", "new/0.5", "new/1.0"]
    old = [cell for row in read_result(results[4]).mean_ap for cell in row]
    assert [cell for row in generations["mean_ap"][:2] for cell in row[:2]] == pytest.approx(old)


@pytest.mark.usefixtures("results")
def test_a_finished_run_is_evaluated_on_both_splits(folder, small_data, tmp_path):
    runs = folder / "runs/sfsc-seed0"
    shutil.copytree(runs, tmp_path / "runs/sfsc-seed0")
    words = ["sweep", folder / "sweep.toml", "--data", small_data, "--only", "sfsc-seed0", "--split", "both"]
    run_command([*words, "--out", tmp_path / "runs", "--results", tmp_path / "results"])
    for part in ("validation", "test"):
        found = json.loads((tmp_path / f"results/sfsc-seed0-{part}.json").read_text())
        assert found["figures"][0]["name"].endswith(f", {part}")
        assert found["data"]["weights_sha256"] == open_run(runs).weights_sha256


def test_settings_of_a_run_come_after_those_of_all(folder, tmp_path):
    text = 'settings = ["optimiser.steps=7", "optimiser.lr=0.5"]\n'
    run = '{ recipe = "DIR/sfsc.toml", settings = ["optimiser.steps=9"] }'
    path = tmp_path / "sweep.toml"
    path.write_text(f"{text}run = [{run.replace('DIR', str(folder))}]")
    (planned,) = read_sweep(path)
    assert (planned.recipe.optimiser.steps, planned.recipe.optimiser.lr) == (9, 0.5)


def test_only_some_runs_of_a_sweep(folder, small_data, tmp_path, capsys):
    words = ["sweep", folder / "sweep.toml", "--data", small_data, "--out", tmp_path, "--results", tmp_path]
    run_command([*words, "--only", "sfsc-*1", "--workers", 0])
    assert [path.name for path in tmp_path.glob("*.json")] == ["sfsc-seed1-test.json"]
    with pytest.raises(SystemExit):
        run_command([*words, "--only", "nothing"])
    assert "--only: no run of" in capsys.readouterr().err


def run_command(words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["sfsc-train", *map(str, words)])
        try:
            main()
        except SystemExit as ended:
            if ended.code:
                raise


def test_what_has_a_result_is_not_trained_again(results, folder, small_data, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("nothing is left to train")

    monkeypatch.setattr(sweep, "train", refuse)
    assert go(folder, small_data) == results


def test_a_sweep_cut_off_goes_on_with_the_run_it_was_at(results, folder, small_data, tmp_path, monkeypatch):
    copy = shutil.copytree(folder, tmp_path / "copy")
    path = copy / "results/sfsc-seed0-test.json"
    expected = json.loads(path.read_text())["data"]["weights_sha256"]
    path.unlink()
    shutil.rmtree(copy / "runs/sfsc-seed0")
    from sfsc_training import loop

    save = loop.write_checkpoint

    def save_and_die(place, checkpoint):
        save(place, checkpoint)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "write_checkpoint", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        go(copy, small_data)
    monkeypatch.undo()
    assert len(go(copy, small_data)) == len(results)
    assert json.loads(path.read_text())["data"]["weights_sha256"] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be used"),
        ('run = [{ recipe = "small.toml", colour = 1 }]', "colour"),
        ('run = [{ recipe = "nothing" }]', "no recipe 'nothing'"),
        (
            'run = [{ recipe = "DIR/bct.toml", teacher = "independent" }]',
            "bct must come after its teacher, independent",
        ),
        (
            'run = [{ recipe = "DIR/next.toml" }]',
            "next: recipe next needs a finished run as its teacher; .* in a sweep teacher",
        ),
        (
            'run = [{ recipe = "DIR/sfsc.toml" }, { recipe = "DIR/unified.toml", teacher = "sfsc" }]',
            "unified: recipe unified has no section .teacher. that says how to use sfsc-seed0",
        ),
        (
            'run = [{ recipe = "DIR/sfsc.toml" }, '
            '{ recipe = "DIR/next.toml", teacher = "sfsc", settings = ["network.dimension=32"] }]',
            "next: the teacher sfsc-seed0 has embeddings of dimension 16; the recipe has network.dimension = 32",
        ),
        ('run = [{ recipe = "DIR/sfsc.toml", seeds = [1, 1] }]', "two runs are named sfsc-seed1"),
    ],
)
def test_a_wrong_sweep_is_named_before_anything_is_trained(folder, tmp_path, text, message):
    path = tmp_path / "wrong.toml"
    path.write_text(text.replace("DIR", str(folder)))
    with pytest.raises(RecipeError, match=message):
        read_sweep(path)


def test_a_sweep_says_which_of_its_runs_diverged(folder, small_data, tmp_path, capsys):
    settings = '["name=boom", "optimiser.lr=1e30", "loss.logits=linear", "method=x"]'
    sweep_file = tmp_path / "sweep.toml"
    sweep_file.write_text(f"run = [{{ recipe = '{folder / 'small.toml'}', settings = {settings} }}]")
    with pytest.raises(SystemExit):
        run_command(["sweep", sweep_file, "--data", small_data, "--out", tmp_path, "--results", tmp_path])
    assert re.search("boom-seed0: training diverged: the loss of width .* at step [1-9]", capsys.readouterr().err)


def test_the_report_stands_alone(results, tmp_path):
    page = write_report([read_result(path) for path in results], tmp_path / "report")
    text = page.read_text()
    assert "src=" in text
    assert not re.search(r'(src|href)="(?!data:)', text)
    images = [base64.b64decode(found) for found in re.findall(r"data:image/png;base64,([^\"]+)", text)]
    files = sorted((tmp_path / "report").glob("*.png"))
    assert {path.stem for path in files} == {
        "matrices", "cost", "mixed", "conflicts", "gradient_norm", "uncertainty", "loss"
    }  # fmt: skip
    assert sorted(images) == sorted(path.read_bytes() for path in files)
    for path in files:
        with Image.open(path) as image:
            assert min(image.size) > 200
    rows = dict(re.findall(r"<tr><td>([\w-]+)</td>(.*?)</tr>", text))
    assert "±" in rows["sfsc"]
    assert f"{read_result(results[3]).mean:.1f}" in rows["bct-s"]
    unified = read_result(results[2]).mean
    assert f"{read_result(results[3]).mean - unified:+.1f}" in rows["bct-s"]
    assert "Ablation" in text


def test_the_gain_is_over_the_narrowest_width_alone(results, tmp_path):
    runs = [read_result(path) for path in (results[2], results[2], results[3])]
    recipe = runs[0].recipe.model_copy(update={"name": "full", "widths": (1.0,)})
    found = {"mean_ap": [[99.0]], "cost": {"macs": {"1.0": 1000}}}
    wide = dataclasses.replace(runs[0], recipe=recipe, evaluation=runs[0].evaluation | found, history=())
    text = write_report([wide, *runs[1:]], tmp_path / "report").read_text()
    rows = dict(re.findall(r"<tr><td>([\w-]+)</td>(.*?)</tr>", text))
    assert f"{runs[2].mean - runs[1].mean:+.1f}" in rows["bct-s"]
    assert "<td>–</td>" not in rows["bct-s"]
    assert f"{99.0 - runs[1].mean:+.1f}" in rows["full"]
    alone = write_report([wide, runs[2]], tmp_path / "without").read_text()
    assert "<td>–</td>" in dict(re.findall(r"<tr><td>([\w-]+)</td>(.*?)</tr>", alone))["bct-s"]


def test_conflicts_are_averaged_over_stretches_and_seeds(results):
    runs = [read_result(path) for path in results[4:6]]
    shares = ((0, 0.0, 1.0), (1, 0.5, 1.0), (20, 0.25, 0.0), (39, 1.0, 0.5))
    for seed, run in enumerate(runs):
        entry = run.history[0]
        run.history[:] = [entry | {"step": step, "conflicts": found[seed]} for step, *found in shares]
    # 40 steps are twenty stretches of two, drawn at their middles; the name loses what all have in common
    (axes,) = conflict_curve({"set-sfsc": runs, "set-bct-s": runs[:1]}).axes
    both, first = axes.lines
    assert (both.get_label(), first.get_label()) == ("sfsc", "bct-s")
    assert list(both.get_xdata()) == [1.0, 21.0, 39.0]
    assert list(both.get_ydata()) == [62.5, 12.5, 75.0]
    assert list(first.get_ydata()) == [25.0, 25.0, 100.0]


def test_what_cannot_be_reported_is_named(results, folder, tmp_path):
    with pytest.raises(CheckpointError, match="has no validation evaluation"):
        read_result(folder / "runs/sfsc-seed0", "validation")
    assert read_result(folder / "runs/sfsc-seed0").mean == read_result(results[4]).mean
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is not a result of this version"):
        read_result(tmp_path / "x.json")
    mixed = json.loads(results[0].read_text())
    mixed["data"]["evaluation"]["protocol"] = "3 queries against 4 gallery images"
    (tmp_path / "mixed.json").write_text(json.dumps(mixed))
    with pytest.raises(DataError, match=r"same queries and gallery, found .*; independent: 3 queries against 4"):
        write_report([read_result(results[3]), read_result(tmp_path / "mixed.json")], tmp_path)
    with pytest.raises(DataError, match="at least one run"):
        write_report([], tmp_path)


@pytest.mark.usefixtures("results")
def test_the_matrix_across_two_generations(folder, small_data):
    names = ("independent-seed0", "bct-seed0")
    old, new = (open_run(folder / "runs" / name, aligned=False) for name in names)
    split = read_folder(small_data, new.recipe.data, 0).test
    cross = cross_generation(new, old, split, QUIET)
    assert cross.widths == ("old/0.5", "old/1.0", "new/0.5", "new/1.0")
    # The frozen full network is the old one, so its rows and columns are too.
    assert cross.mean_ap[1][1] == pytest.approx(cross.mean_ap[3][3])
    assert cross.mean_ap[1][3] == pytest.approx(cross.mean_ap[1][1])
