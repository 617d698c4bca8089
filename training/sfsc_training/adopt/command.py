"""The command `sfsc-train adopt`."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sfsc_bundle.folder import Bundle, check_target, open_bundle
from sfsc_bundle.progress import counting
from sfsc_training.adopt.adopt import adopt
from sfsc_training.adopt.adoption import Adoption, check_unseen, check_widths
from sfsc_training.adopt.foreign import Foreign, open_foreign
from sfsc_training.adopt.input_format import Size, parse_size
from sfsc_training.adopt.options import NetworkOptions, read_option, wanted_networks
from sfsc_training.adopt.source import check_source
from sfsc_training.config import Recipe, change_recipe, load_recipe
from sfsc_training.data.dataset import Dataset
from sfsc_training.data.read import read_dataset
from sfsc_training.data.reader import read_folder
from sfsc_training.errors import AdoptionError
from sfsc_training.evaluation import print_quality
from sfsc_vehicles import write_splits

__all__ = ["adopt_command"]

_OF_VEHICLES = (r"data.camera='c(\d+)s'", "data.licence='Apache-2.0'")
"""How rendered vehicles are read, which are too few to fit a map to."""

_WITHOUT_RECIPE = ("data.skip_unreadable=true",)
"""A damaged image is left out and named, as by the recipe for photographs; a recipe or --set can refuse it."""

_EACH = "; once for all networks or once for each"

Target = Annotated[
    Path, typer.Option("--to", metavar="FOLDER", help="bundle folder to write, such as models/NAME")
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DATA",
        help="data folder; maps are fitted on its training identities; where one network alone has none, it stays "
        "as it is and is measured on rendered vehicles",
        show_default=False,
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="FILE|timm:NAME", help="ONNX graph, or a timm model with its own weights"),
]
Weights = Annotated[
    list[str] | None,
    typer.Option("--weights", metavar="NAME", help="in place of --model: ImageNet weights of the extra `weights`"),
]
Widths = Annotated[
    list[str] | None,
    typer.Option("--as", metavar="WIDTH", help="width that each network becomes; 1.0 where it is alone"),
]
Base = Annotated[
    Path | None,
    typer.Option(
        "--base", metavar="BUNDLE", help="bundle to join; its space, vectors and graphs stay as they are"
    ),
]
Unlabelled = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="also fit to all images below it: from where the networks will work"),
]
Layouts = Annotated[
    list[str] | None,
    typer.Option(
        "--layout", metavar="nchw|nhwc", help="axes of the input; default: by which one is 3 long" + _EACH
    ),
]
Channels = Annotated[
    list[str] | None, typer.Option("--channels", metavar="rgb|bgr", help="order of colours; default: rgb" + _EACH)
]
Means = Annotated[
    list[str] | None,
    typer.Option("--mean", metavar="R,G,B", help="of pixels from 0 to 1; default: timm's, or ImageNet's" + _EACH),
]
Deviations = Annotated[
    list[str] | None,
    typer.Option("--std", metavar="R,G,B", help="their standard deviation; default: as of --mean" + _EACH),
]
Sizes = Annotated[
    list[str] | None,
    typer.Option("--size", metavar="H[xW]", help="of the input, where the graph does not fix it" + _EACH),
]
Licences = Annotated[list[str] | None, typer.Option("--licence", metavar="TEXT", help="of the network" + _EACH)]
BundleSize = Annotated[
    str | None,
    typer.Option(metavar="H[xW]", help="of the bundle's images; default: the base's, else the largest input's"),
]
RecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe", metavar="RECIPE", help="recipe whose seed and section [data] say how the images are read"
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="change a key of them, as in data.query='*_1.jpg'"),
]
Replace = Annotated[bool, typer.Option("--replace", help="replace an existing bundle")]


def adopt_command(
    to: Target,
    data: Data = None,
    model: Models = None,
    weights: Weights = None,
    width: Widths = None,
    base: Base = None,
    unlabelled: Unlabelled = None,
    layout: Layouts = None,
    channels: Channels = None,
    mean: Means = None,
    std: Deviations = None,
    size: Sizes = None,
    licence: Licences = None,
    bundle_size: BundleSize = None,
    recipe: RecipeName = None,
    setting: Settings = None,
    replace: Replace = False,
) -> None:
    """Make networks that were trained elsewhere widths of one bundle, without training.

    Preprocessing and a fitted linear map become part of each graph. With --base, a bundle gains widths, and a
    gallery that it filled needs no new embedding.
    """
    console = Console(markup=False, emoji=False)  # names of folders are no markup
    check_target(to, replace)
    old = None if base is None else open_bundle(base)
    typed = (model, weights, width, layout, channels, size, mean, std, licence)
    options = NetworkOptions(*(given or [] for given in typed))
    wanted = wanted_networks(options, joins=old is not None)
    check_widths([one.width for one in wanted], old)
    for one in wanted:
        check_source(one)
    asked = None if bundle_size is None else read_option("--bundle-size", bundle_size, parse_size)
    maps = old is not None or len(wanted) > 1 or unlabelled is not None
    read_as = load_recipe(recipe, [*([] if recipe is not None else _WITHOUT_RECIPE), *(setting or [])])
    with _opened(data, read_as, console, maps=maps) as (read_as, dataset):
        if data is not None:
            check_unseen(old, data, dataset)
            _print_data(dataset, data, console)
        networks = sorted((open_foreign(one) for one in wanted), key=lambda network: float(network.width))
        height, columns = _size(networks, old, asked)
        section = change_recipe(read_as, [f"data.height={height}", f"data.width={columns}"]).data
        for network in networks:
            console.print(
                f"{network.source} becomes width {network.width}; it wants {network.input}", soft_wrap=True
            )
        bundle = adopt(
            Adoption(networks, old, section),
            dataset,
            to,
            console,
            unlabelled=unlabelled,
            unseen="that no map was fitted on" if data is not None else "of rendered vehicles",
            replace_bundle=replace,
        )
    _print(bundle, console)


@contextmanager
def _opened(
    data: Path | None, read_as: Recipe, console: Console, *, maps: bool
) -> Iterator[tuple[Recipe, Dataset]]:
    """The data folder, and how it is read; without one, rendered vehicles, which exist until the block ends."""
    if data is not None:
        yield read_as, read_dataset(data, read_as.data, read_as.seed)
        return
    if maps:
        raise AdoptionError("--data must be given, because maps bring the networks into one space")
    read_as = change_recipe(read_as, _OF_VEHICLES)
    with tempfile.TemporaryDirectory(prefix="sfsc-vehicles-") as folder:
        with counting(console, "drawing vehicles to measure on") as progress:
            write_splits(
                Path(folder),
                seed=0,
                train=2,
                test=12,
                shots=1,
                size=224,
                twin_share=0.0,
                workers=1,
                progress=lambda split: progress if split == "test" else None,
            )
        yield read_as, read_folder(Path(folder), read_as.data, read_as.seed)


def _size(networks: list[Foreign], base: Bundle | None, asked: Size | None) -> Size:
    """Height and width of the bundle's images."""
    if base is not None:
        found = base.manifest.preprocessing.height, base.manifest.preprocessing.width
        if asked not in (None, found):
            raise AdoptionError(f"--bundle-size must be that of {base.folder}, {found[0]}x{found[1]}, or left out")
        return found
    heights, widths = zip(*(network.input.size for network in networks), strict=True)
    return asked or (max(heights), max(widths))


def _print_data(dataset: Dataset, data: Path, console: Console) -> None:
    counts = ", ".join(f"{part} {len(split.paths)}" for part, split in dataset.splits.items())
    console.print(f"{data}: {counts} images", highlight=False, soft_wrap=True)
    for title, findings in (("left out", dataset.left_out), ("note", dataset.notes)):
        for finding in findings:
            console.print(f"  {title}: {finding}", highlight=False, soft_wrap=True)


def _print(bundle: Bundle, console: Console) -> None:
    print_quality(bundle.manifest.quality, console)
    console.print(f"bundle written to {bundle.folder}", soft_wrap=True)
    # `sfsc demo`, which serves the bundle itself, shows only the standard output.
    next_command = f"sfsc serve {bundle.folder} --data data/{bundle.folder.name}"
    Console(stderr=True).print(f"next: {next_command}", highlight=False, soft_wrap=True)
