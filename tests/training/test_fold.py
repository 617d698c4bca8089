"""An alignment is folded into a sub-model: same arithmetic, same graph, and export writes it all down."""

import numpy as np
import onnx
import pytest
import torch
from rich.console import Console
from torch import nn
from torch.nn import functional as F

from sfsc_bundle.folder import open_bundle
from sfsc_bundle.preprocess import preprocess
from sfsc_bundle.runner import make_runner
from sfsc_training.align_run import align_run
from sfsc_training.alignment import Method
from sfsc_training.config import NetworkSection, load_recipe
from sfsc_training.data.reader import read_folder
from sfsc_training.errors import ExportError
from sfsc_training.evaluation import embed_split, evaluate_mixed, evaluate_split
from sfsc_training.export import Servable, export, to_onnx
from sfsc_training.loop import RunOptions, train
from sfsc_training.networks.build import make_family
from sfsc_training.networks.fold import fold_map
from sfsc_training.run import open_run
from tests.training.test_networks import randomised

QUIET = Console(quiet=True)


def random_map(seed, dimension):
    return np.random.default_rng(seed).normal(size=(dimension, dimension)).astype(np.float32)


@pytest.mark.parametrize("separate", [False, True])
def test_a_folded_network_is_the_network_and_the_map(separate):
    section = NetworkSection(backbone="resnet18", dimension=24, separate=separate)
    family = make_family(section, (0.5, 1.0))
    for module in family.members if separate else [family]:
        randomised(module)
    images = torch.randint(0, 255, (6, 3, 64, 64), dtype=torch.uint8)
    for index in (0, 1):
        values = random_map(index, 24)
        with torch.no_grad():
            expected = F.normalize(F.normalize(family(images, index)) @ torch.from_numpy(values))
            folded = fold_map(family.sliced(index).eval(), values)
            assert (F.normalize(folded(images)) - expected).abs().max() <= 1e-5
            assert (F.normalize(family(images, index)) - expected).abs().max() > 0.1


def test_a_folded_graph_has_the_nodes_and_the_size_of_the_plain_one():
    family = randomised(make_family(NetworkSection(backbone="resnet18", dimension=24), (0.5, 1.0)))
    example = torch.zeros(2, 64, 64, 3, dtype=torch.uint8)
    graphs = [
        onnx.load_from_string(to_onnx(Servable(plain).eval(), example)).graph
        for plain in (family.sliced(0), fold_map(family.sliced(0), random_map(0, 24)))
    ]
    nodes = [[(node.op_type, len(node.input)) for node in graph.node] for graph in graphs]
    assert nodes[0] == nodes[1]
    shapes = [sorted(tuple(values.dims) for values in graph.initializer) for graph in graphs]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    "end",
    [
        [nn.Linear(4, 4), nn.BatchNorm1d(4)],  # has a bias
        [nn.Linear(4, 4, bias=False), nn.ReLU()],
        [nn.ReLU(), nn.BatchNorm1d(4)],
    ],
)
def test_other_last_layers_are_refused(end):
    with pytest.raises(ExportError, match="linear layer without bias and a batch normalisation"):
        fold_map(nn.Sequential(nn.Identity(), *end), random_map(0, 4))


def test_a_bundle_embeds_as_its_run_is_aligned_and_says_how(small_recipe, small_data, tmp_path):
    recipe = load_recipe(str(small_recipe))
    dataset = read_folder(small_data, recipe.data, recipe.seed)
    train(recipe, dataset, tmp_path / "run", QUIET, RunOptions(threads=1, workers=0))
    raw = open_run(tmp_path / "run", dataset)
    run = align_run(raw, dataset, QUIET, method=Method("procrustes", 0.7, 0.01))
    export(run, dataset, tmp_path / "aligned", QUIET)
    bundle = open_bundle(tmp_path / "aligned")
    manifest = bundle.manifest
    assert (manifest.space, manifest.alignment) == (run.space, run.alignment.description)
    assert {submodel.normalisation for submodel in manifest.submodels} == {run.family.normalisation}
    assert manifest.provenance.kind == "trained"
    embedded = embed_split(run, dataset.test, QUIET)
    images = np.stack([preprocess(path.read_bytes(), manifest.preprocessing) for path in dataset.test.paths])
    plain = embed_split(raw, dataset.test, QUIET).embeddings
    for width in manifest.widths:
        found = make_runner(bundle, width)(images)
        assert (found * embedded.embeddings[width]).sum(axis=1).min() > 0.9999
        assert (found * plain[width]).sum(axis=1).min() < 0.999
    mixed = evaluate_mixed(embedded)
    assert manifest.quality.mean_ap == evaluate_split(embedded).mean_ap
    assert manifest.quality.mixed.mean_ap == mixed.mean_ap
    assert manifest.quality.mixed.curve == mixed.curve
    sizes = [(submodel.parameters, submodel.macs) for submodel in manifest.submodels]
    export(raw, dataset, tmp_path / "raw", QUIET)
    unaligned = open_bundle(tmp_path / "raw").manifest
    assert [(submodel.parameters, submodel.macs) for submodel in unaligned.submodels] == sizes
    assert (unaligned.space, unaligned.alignment.base) == (raw.space, None)
