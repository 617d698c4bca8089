"""`sfsc-train adopt`: from foreign graphs and a folder to a bundle, and what it refuses before any work."""

import json
import shutil
import sys

import numpy as np
import onnx
import pytest
from PIL import Image

from sfsc_bundle.folder import Bundle, open_bundle
from sfsc_bundle.manifest import Preprocessing
from sfsc_bundle.preprocess import preprocess
from sfsc_bundle.runner import make_runner
from sfsc_training.adopt.adoption import check_unseen
from sfsc_training.cli import main
from sfsc_training.config import DataSection
from sfsc_training.data.reader import read_folder
from sfsc_training.errors import AdoptionError
from tests.tiny_bundle import make_tiny_bundle
from tests.training.conftest import draw_identities
from tests.training.foreign_graphs import embedder

READ = ("--set", "data.query='*_0.png'", "--set", "data.validation_share=0.25")


@pytest.fixture
def say(capsys, monkeypatch):
    """`say(*words)`: exit code and what `sfsc-train adopt` prints on both streams."""

    def spoken(*words):
        monkeypatch.setattr(sys, "argv", ["sfsc-train", "adopt", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return stop.value.code, " ".join((printed.out + printed.err).split())

    return spoken


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    """Two networks of other sizes, layouts and dimensions; the large one costs more."""
    folder = tmp_path_factory.mktemp("graphs")
    onnx.save(embedder(size=(40, 40), dimension=16, seed=1), folder / "large.onnx")
    onnx.save(embedder(size=(24, 24), dimension=12, seed=2, layout="nhwc"), folder / "small.onnx")
    return folder


@pytest.fixture
def both(graphs):
    return ("--model", graphs / "large.onnx", "--as", 1, "--model", graphs / "small.onnx", "--as", 0.25)


def pixels_of(split, preprocessing):
    return np.stack([preprocess(path.read_bytes(), preprocessing) for path in split.paths])


def embedded(bundle, split):
    pixels = pixels_of(split, bundle.manifest.preprocessing)
    return {width: make_runner(bundle, width)(pixels) for width in bundle.manifest.widths}


def test_one_network_alone_needs_no_data(say, graphs, tmp_path):
    words = ("--to", tmp_path / "alone", "--model", graphs / "large.onnx")
    code, text = say(*words)
    assert not code, text
    assert f"next: sfsc serve {tmp_path / 'alone'} --data data/alone" in text
    manifest = open_bundle(tmp_path / "alone").manifest
    assert manifest.quality.dataset == "test split, 12 identities of rendered vehicles"
    assert (manifest.quality.queries, manifest.alignment.base) == (72, None)
    assert [model.map for model in manifest.provenance.models] == ["none"]
    code, text = say(*words)
    assert (code, "already exists" in text) == (2, True)
    assert not say(*words, "--replace")[0]


def test_several_networks_need_data(say, both, graphs, tmp_path):
    base = make_tiny_bundle(tmp_path / "base").folder
    for words in (both, ("--base", base, "--model", graphs / "small.onnx", "--as", 0.1)):
        code, text = say("--to", tmp_path / "new", *words)
        assert (code, "--data must be given, because maps bring" in text) == (2, True), text
    assert not (tmp_path / "new").exists()


def test_two_networks_become_two_widths_of_one_space(say, both, small_data, tmp_path):
    words = ("--to", tmp_path / "new", "--data", small_data, *both, *READ, "--mean", "0,0,0", "--std", "1,1,1")
    code, text = say(*words, "--licence", "MIT", "--licence", "ours")
    assert not code, text
    assert (
        "small.onnx becomes width 0.25; it wants RGB of 24x24 as nhwc, pixels less 0 0 0, divided by 1 1 1" in text
    )
    bundle = open_bundle(tmp_path / "new")
    manifest = bundle.manifest
    assert (manifest.widths, manifest.dimension) == (("0.25", "1.0"), 16)
    assert (manifest.preprocessing.height, manifest.preprocessing.width) == (40, 40)
    assert [row.macs for row in manifest.submodels] == sorted(row.macs for row in manifest.submodels)
    assert all(row.parity.onnx_min_cosine >= 0.9999 for row in manifest.submodels)
    models = manifest.provenance.models
    assert [(m.width, m.source, m.licence) for m in models] == [
        ("1.0", "large.onnx", "MIT"),
        ("0.25", "small.onnx", "ours"),
    ][::-1]
    assert manifest.alignment.chosen_by == "mAP of the mixed gallery of 2 validation identities"
    assert (manifest.alignment.images, manifest.alignment.identities) == (48, 8)  # those that chose it, too
    test = read_folder(small_data, DataSection(query="*_0.png"), 0).test
    rows = embedded(bundle, test)
    agreement = (rows["0.25"] * rows["1.0"]).sum(axis=1)
    assert agreement.mean() > (rows["0.25"] * rows["1.0"][::-1]).sum(axis=1).mean()
    assert f"query width 0.25: mAP {manifest.quality.mean_ap[0][0]:.1f}" in text


def test_what_is_left_out_is_said_before_a_network_is_opened(say, graphs, small_data, tmp_path):
    data = shutil.copytree(small_data, tmp_path / "data")
    (data / "train/alone").mkdir()
    shutil.copy(next((data / "train").rglob("*.png")), data / "train/alone/one.png")
    next((data / "test").rglob("*.png")).write_bytes(b"no image")
    words = ("--to", tmp_path / "new", "--data", data, *READ)
    code, text = say(*words, "--model", graphs / "large.onnx")
    assert not code, text
    finding = "left out: identities with fewer than 2 images: 1, 'alone'"
    assert text.index(finding) < text.index("large.onnx becomes width 1.0")
    assert "1 of 16 images cannot be read and are left out" in text
    refusing = ("--set", "data.skip_unreadable=false")
    code, text = say("--to", tmp_path / "strict", *words[2:], *refusing, "--model", graphs / "large.onnx")
    assert code == 2
    assert "train and adopt leave out what cannot be used with --set data.skip_unreadable=true" in text
    (tmp_path / "no.onnx").write_text("no graph")
    code, text = say("--to", tmp_path / "other", "--data", tmp_path / "nowhere", "--model", tmp_path / "no.onnx")
    assert (code, "nowhere does not exist" in text) == (2, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--weights", "resnet50"), "--weights must be one of efficientnet-lite0"),
        (("--model", "timm:no_such_model"), "--model timm:no_such_model must name a model that timm has"),
        (("--model", "no.onnx"), "no.onnx cannot be read as an ONNX graph: there is no such file"),
    ],
)
def test_a_network_that_nobody_knows_is_refused_before_vehicles_are_drawn(say, tmp_path, words, message):
    code, text = say("--to", tmp_path / "new", *words)
    assert code == 2
    assert message in text
    assert "drawing" not in text


def test_the_bundles_own_size_can_be_another(say, both, small_data, tmp_path):
    code, text = say("--to", tmp_path / "new", "--data", small_data, *both, *READ, "--bundle-size", "32x28")
    assert not code, text
    preprocessing = open_bundle(tmp_path / "new").manifest.preprocessing
    assert preprocessing == Preprocessing(height=32, width=28)


def test_a_base_gains_a_width_and_keeps_everything_else(say, graphs, small_data, tmp_path):
    base = make_tiny_bundle(tmp_path / "old", widths=("0.5", "1.0"), size=28)
    model = graphs / "small.onnx"
    words = ("--base", base.folder, "--model", model, "--as", 0.25, "--data", small_data, *READ)
    code, text = say("--to", tmp_path / "new", *words)
    assert not code, text
    bundle = open_bundle(tmp_path / "new")
    assert bundle.manifest.widths == ("0.25", "0.5", "1.0")
    assert bundle.manifest.space == base.manifest.space
    assert bundle.manifest.submodels[1:] == base.manifest.submodels
    assert (bundle.manifest.provenance.extends, len(bundle.manifest.provenance.models)) == ("tiny-space", 1)
    for part in base.manifest.submodels:
        assert (bundle.folder / part.file).read_bytes() == (base.folder / part.file).read_bytes()
    train = read_folder(small_data, DataSection(), 0).train
    rows, before = embedded(bundle, train), embedded(base, train)
    assert all(np.array_equal(rows[width], before[width]) for width in ("0.5", "1.0"))
    assert rows["0.25"].shape[1] == base.manifest.dimension
    agreement = (rows["0.25"] * rows["1.0"]).sum(axis=1)
    assert agreement.mean() > (rows["0.25"] * rows["1.0"][::-1]).sum(axis=1).mean()
    code, text = say(
        "--to",
        tmp_path / "more",
        "--base",
        bundle.folder,
        "--model",
        model,
        "--as",
        0.2,
        "--data",
        small_data,
        *READ,
    )
    assert not code, text
    again = open_bundle(tmp_path / "more").manifest
    assert ([m.width for m in again.provenance.models], again.provenance.extends) == (
        ["0.25", "0.2"],
        "tiny-space",
    )


def test_unlabelled_images_are_what_a_base_is_met_by(say, graphs, small_data, tmp_path):
    base = make_tiny_bundle(tmp_path / "old", size=28)
    elsewhere = draw_identities(tmp_path / "elsewhere", identities=6, shots=4, seed=9)
    words = ("--base", base.folder, "--model", graphs / "small.onnx", "--as", 0.1, "--data", small_data, *READ)
    code, text = say("--to", tmp_path / "new", *words, "--unlabelled", elsewhere)
    assert not code, text
    found = open_bundle(tmp_path / "new").manifest.alignment
    assert found.unlabelled == (24 if found.ridge_share < 1 else 0)
    leaked = next((small_data / "test").rglob("*.png"))
    shutil.copy(leaked, elsewhere / "renamed.png")
    code, text = say("--to", tmp_path / "other", *words, "--unlabelled", elsewhere)
    assert (code, "found 1 of 25" in text) == (2, True)


def test_one_network_alone_needs_no_width_and_no_images(say, graphs, small_data, tmp_path):
    few = shutil.copytree(small_data, tmp_path / "few")
    for path in sorted((few / "train").iterdir())[2:]:
        shutil.rmtree(path)
    code, text = say("--to", tmp_path / "new", "--data", few, "--model", graphs / "large.onnx")
    assert not code, text
    manifest = open_bundle(tmp_path / "new").manifest
    assert (manifest.widths, manifest.alignment.base, manifest.provenance.models[0].map) == (
        ("1.0",),
        None,
        "none",
    )
    assert "as many images as an embedding has dimensions" in manifest.alignment.chosen_by


SMALL = ("--model", "small.onnx")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*SMALL, *SMALL, "--as", 1, "--as", "1.0"), "--as must give every network a width of its own, found 1.0"),
        ((*SMALL, *SMALL, "--as", 1), "--as must be given once for each of 2 networks, found 1"),
        ((*SMALL, "--as", "wide"), "--as 'wide' cannot be read: a width is a number above 0"),
        ((), "given either by --model or by --weights, found neither"),
        ((*SMALL, "--weights", "mobilenetv2"), "given either by --model or by --weights, found both"),
        ((*SMALL, "--mean", "1,2"), "--mean '1,2' cannot be read: it must have 3 numbers, red, green and blue"),
        ((*SMALL, "--mean", "1,2,x"), "--mean '1,2,x' cannot be read: could not convert"),
        ((*SMALL, "--size", "0"), "--size '0' cannot be read: a size must be above 0"),
        ((*SMALL, "--layout", "hwc"), "--layout 'hwc' cannot be read: it must be nchw or nhwc"),
        ((*SMALL, "--channels", "grb"), "--channels 'grb' cannot be read: it must be rgb or bgr"),
        (
            (*SMALL, "--size", 24, "--size", 24),
            "--size must be given once, for every network, or once for each of 1",
        ),
        (
            (*SMALL, "--base", "old", "--as", 0.5),
            "--as must be another width than those of old (0.5, 1.0), found 0.5",
        ),
        ((*SMALL, "--base", "old"), "--as must be given once for each of 1 networks, found 0"),
        ((*SMALL, "--base", "old", "--as", 0.75), "a wider network must not cost less than a narrower one"),
        ((*SMALL, "--base", "schema1", "--as", 0.25), "must be 2, found 1, of an older version"),
        ((*SMALL, "--base", "nowhere", "--as", 0.25), "nowhere is not a bundle"),
        ((*SMALL, "--to", "old"), "old already exists; give another folder, or replace it with --replace"),
        ((*SMALL, "--to", "not a name"), "the folder of a bundle names it: must be 1 to 64 letters"),
        ((*SMALL, "--data", "nowhere"), "--data nowhere does not exist"),
        ((*SMALL, "--data", "lone"), "training needs at least 2 identities; found 1"),
        ((*SMALL, "--base", "old", "--as", 0.1, "--data", "few"), "needs at least 16 images"),
        ((*SMALL, "--set", "data.query=nothing"), "leave 0 queries"),
        (
            (*SMALL, "--data", "single", "--set", "data.skip_unreadable=false"),
            "identities with fewer than 2 images: 4",
        ),
        ((*SMALL, "--bundle-size", "4000"), "data.height: must be less than or equal to 2048, found 4000"),
        (
            (*SMALL, "--base", "old", "--as", 0.1, "--bundle-size", 20),
            "--bundle-size must be that of old, 16x16, or left out",
        ),
        ((*SMALL, "--bundle-size", "large"), "--bundle-size 'large' cannot be read"),
        ((*SMALL, "--unlabelled", "nowhere"), "folder of unlabelled images nowhere does not exist"),
    ],
)
def test_refusals_come_before_any_work(say, graphs, small_data, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    shutil.copy(graphs / "small.onnx", tmp_path)
    shutil.copytree(small_data, "data")
    for name, kept in (("lone", 1), ("few", 2)):
        shutil.copytree(small_data, name)
        for path in sorted((tmp_path / name / "train").iterdir())[kept:]:
            shutil.rmtree(path)
    for identity in sorted(shutil.copytree(small_data, tmp_path / "single").glob("test/*")):
        for path in sorted(identity.iterdir())[1:]:
            path.unlink()
    make_tiny_bundle(tmp_path / "old", widths=("0.5", "1.0"))
    older = json.loads((tmp_path / "old/manifest.json").read_text()) | {"schema_version": 1}
    (tmp_path / "schema1").mkdir()
    (tmp_path / "schema1/manifest.json").write_text(json.dumps(older))
    monkeypatch.setattr("sfsc_training.data.images.preprocess", None)  # no image may be decoded
    code, text = say("--to", "new", "--data", "data", *words)
    assert (code, message in text) == (2, True), text
    assert not (tmp_path / "new").exists()


def test_an_image_that_a_network_gives_zeros_is_named(say, small_data, tmp_path):
    data = shutil.copytree(small_data, tmp_path / "data")
    black = sorted((data / "test").rglob("*.png"))[3]
    Image.new("RGB", (32, 32)).save(black)
    graph = embedder(size=(24, 24))
    del next(node for node in graph.graph.node if node.op_type == "Conv").input[2]
    onnx.save(graph, tmp_path / "network.onnx")
    words = ("--model", tmp_path / "network.onnx", "--mean", "0,0,0")
    code, text = say("--to", tmp_path / "new", "--data", data, *words)
    assert code == 2
    name = black.relative_to(data).as_posix()
    assert f"width 1.0 gives zeros, or numbers that are not finite, for {name}" in text
    assert not (tmp_path / "new").exists()


def test_a_base_is_not_measured_on_images_that_it_was_trained_on(small_data, tmp_path):
    whole = tmp_path / "whole"
    for part in ("train", "test"):
        shutil.copytree(small_data / part, whole, dirs_exist_ok=True)
    dataset = read_folder(whole, DataSection(), 0)
    base = make_tiny_bundle(tmp_path / "old")

    def trained(seed, data_sha256):
        update = {"recipe": {"name": "base", "seed": seed}, "data_sha256": data_sha256}
        origin = base.manifest.provenance.model_copy(update=update)
        return Bundle(base.folder, base.manifest.model_copy(update={"provenance": origin}))

    check_unseen(trained(0, dataset.sha256), whole, dataset)
    check_unseen(trained(1, "0" * 64), whole, dataset)
    check_unseen(None, whole, dataset)
    with pytest.raises(AdoptionError, match=r"must not be those that the base was trained on, found \d+ of them"):
        check_unseen(trained(1, dataset.sha256), whole, dataset)
