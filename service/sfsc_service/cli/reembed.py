"""`sfsc reembed`: move the gallery of a data folder to a bundle of another embedding space."""

import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import model_validator
from pydantic_settings import CliPositionalArg, CliToggleFlag
from rich.console import Console

from sfsc_bundle.folder import Bundle, open_bundle
from sfsc_bundle.header import ImageLimits
from sfsc_bundle.machine import usable_cpus
from sfsc_bundle.preprocess import preprocess
from sfsc_bundle.progress import counting
from sfsc_bundle.retrieval import Floats
from sfsc_bundle.runner import Device
from sfsc_service.cli.at_service import PLACE, is_address, maintained
from sfsc_service.cli.folder import in_use, locked, storage_errors
from sfsc_service.cli.printing import PrintingCommand
from sfsc_service.cli.shown import escaped
from sfsc_service.client import Client
from sfsc_service.client.answers import MaintenanceAnswer
from sfsc_service.engine.networks import check_device
from sfsc_service.engine.offline_embedding import OfflineEmbedder
from sfsc_service.errors import StartError
from sfsc_service.gallery.space_map import LEAST_FOUND, FittedSpaceMap, read_space_map
from sfsc_service.lifecycle.copy_place import CopyPlace
from sfsc_service.lifecycle.reembed import (
    LeftItem,
    Reembedding,
    Sources,
    check_free_space,
    check_sources,
    fit_on_images,
    needs_nothing,
    opened_width,
)
from sfsc_service.settings import setting
from sfsc_service.store.embedded.rewriting import GallerySource

__all__ = ["Reembed"]

FIT: Literal["fit"] = "fit"
_SHOWN = 20
_NICE = 10
"""Added to the niceness while a service may have the folder open."""
_DECODE = partial(preprocess, limits=ImageLimits(max_bytes=32 * 2**20, max_pixels=178_000_000))
"""With the widest limits that a service can be set to: which of them let an image in is not known any more."""


class Reembed(PrintingCommand):
    """Move the gallery of a data folder that no service has open to a bundle of another embedding space.

    Every stored image is embedded by the new bundle; ids, metadata, times, images and collections stay. The new
    gallery is made beside the old one and takes its place in one step, when it is whole; the old one is kept under
    another name. Interrupted, the command goes on where it was when it is repeated. With --prepare, most of the
    work is done while a service still serves the old gallery. Given the address of a service, and a key with the
    scope admin in SFSC_API_KEY where it asks for one, the service does that part itself, in idle moments.

    How many items have an image, and how many are vectors without one, is said first. Where there are such
    vectors, nothing is done without --drop, which leaves them out, or --map, which multiplies them by a map.

    example: sfsc reembed data --bundle models/new
    example: sfsc reembed data --bundle models/new --map fit
    example: sfsc reembed http://127.0.0.1:8000 --bundle new
    """

    data: CliPositionalArg[str] = setting(..., "folder or URL", f"{PLACE}; also SFSC_DATA")
    bundle: Path = setting(
        ..., "folder", "the bundle to move to; at a service the name of one beside the one that it serves"
    )
    width: str | None = setting(None, "width", "the width to embed at; unset: the bundle's widest")
    drop: CliToggleFlag[bool] = setting(
        False, "flag", "leave out items without an image that can be embedded; the old gallery keeps them"
    )
    map: str | None = setting(
        None,
        "fit or file",
        "multiply the vectors of items without an image that can be embedded by a map: fit, one that is fitted on "
        "those with one and judged on images held out; or an .npz file with an array `map`",
    )
    prepare: CliToggleFlag[bool] = setting(
        False,
        "flag",
        "only embed images, while a service may have the folder open; without this flag the command then embeds "
        "what has changed since, and does the rest",
    )
    to: Path | None = setting(
        None,
        "folder",
        "a new folder for the new gallery, at a service one in its data folder; unset: it takes the place of the "
        "data folder",
    )
    delete_old: CliToggleFlag[bool] = setting(False, "flag", "delete the old gallery once the new one is in place")
    device: Device = setting("cpu", "device", "where to compute: cpu or cuda")
    threads: int = setting(0, "threads", "threads to use; 0: as many as cores", ge=0, le=1024)

    @model_validator(mode="after")
    def _check_choice(self) -> Self:
        if self.drop and self.map is not None:
            raise ValueError("only one of --drop and --map may be given; found both")
        if self.prepare and (self.drop or self.map is not None or self.delete_old):
            raise ValueError(
                "--prepare must not be given with --drop, --map or --delete-old, which are for the end"
            )
        if is_address(self.data) and (self.drop or self.map is not None or self.delete_old):
            raise ValueError("--drop, --map and --delete-old need a data folder that no service has open")
        if self.delete_old and self.to is not None:
            raise ValueError("--delete-old must not be given with --to, which leaves the data folder as it is")
        return self

    def run(self) -> None:
        """Count, embed, swap. Raises StoreError, StartError, ServiceError, BundleError, DeviceError."""
        if is_address(self.data):
            self._ask_service()
            return
        data = Path(self.data)
        place = CopyPlace(data, self.to)
        with storage_errors(), (in_use if self.prepare else locked)(data) as folders:
            bundle, width = self._opened_bundle()
            if place.placed and not self.prepare:
                why = f"what was interrupted is done: the new gallery is in {self.to or self.data}"
                self._print_nothing_done(why, self._put(place))
                return
            sources = {name: GallerySource(folder) for name, folder in folders.items()}
            if needs_nothing(sources, bundle.manifest):
                space = bundle.manifest.space
                self._print_nothing_done(f"the bundle can serve this gallery as it is, in the space {space}", None)
                return
            self._say_what_there_is(sources)
            check_sources(sources)
            place.check()
            if not self.prepare:
                self._refuse_vectors(sources)
            check_free_space(sources, place.unfinished, bundle.manifest.dimension)
            threads = self.threads or usable_cpus()
            with closing(OfflineEmbedder(bundle, width, self.device, threads, _DECODE)) as embedder:
                if self.prepare:
                    self._prepare(sources, place, embedder)
                else:
                    self._move(sources, place, embedder)

    def _opened_bundle(self) -> tuple[Bundle, str]:
        check_device(self.device)
        bundle = open_bundle(self.bundle)
        return bundle, opened_width(bundle, self.width)

    def _ask_service(self) -> None:
        to = None if self.to is None else str(self.to)

        def begin(client: Client) -> MaintenanceAnswer:
            return client.reembed(str(self.bundle), width=self.width, to=to)

        found = maintained(self.data, "reembed", begin, "images embedded")
        left = [LeftItem(**item) for item in found["not_embedded"]]
        self._say_left(left, found["further_not_embedded"])
        self._print(
            found,
            f"{found['embedded']} images are embedded, {found['without_image']} items are vectors without one; "
            "stop the service and run `sfsc reembed` on its data folder to do the rest",
        )

    def _print_nothing_done(self, why: str, old: Path | None) -> None:
        document = {"items": 0, "embedded": 0, "mapped": 0, "dropped": 0, "not_embedded": [], "map": None}
        self._print(document | {"old": None if old is None else str(old)}, f"nothing was embedded: {why}")

    def _say_what_there_is(self, sources: Sources) -> None:
        for name, source in sources.items():
            self._say(
                f"collection {name}: {len(source)} items, {len(source.with_image)} with an image, "
                f"{len(source.without_image)} vectors without one"
            )

    def _say(self, line: str) -> None:
        """For people: on stderr where stdout is for a program."""
        print(escaped(line), file=sys.stderr if self.as_json else sys.stdout, flush=True)

    def _refuse_vectors(self, sources: Sources) -> None:
        count = sum(len(source.without_image) for source in sources.values())
        if count and not self.drop and self.map is None:
            raise StartError(
                f"{count} of {sum(map(len, sources.values()))} items are vectors without an image, which the new "
                "bundle cannot embed; --drop leaves them out, --map fit brings them into its space; nothing was "
                "changed"
            )

    def _prepare(self, sources: Sources, place: CopyPlace, embedder: OfflineEmbedder) -> None:
        os.nice(_NICE)  # a service may have work to do
        with (
            closing(Reembedding(sources, place.unfinished, embedder)) as work,
            counting(Console(stderr=True), "images embedded") as progress,
        ):
            left = work.embed_images(progress)
            embedded = work.items
        self._say_left(left)
        images = sum(len(source.with_image) for source in sources.values())
        self._print(
            {"embedded": embedded, "images": images, "not_embedded": [item._asdict() for item in left]},
            f"{embedded} images are embedded; stop the service and repeat the command without --prepare",
        )

    def _move(self, sources: Sources, place: CopyPlace, embedder: OfflineEmbedder) -> None:
        fitted, values = None, None
        if any(len(source.without_image) for source in sources.values()):
            fitted, values = self._values(sources, embedder)
        with closing(Reembedding(sources, place.unfinished, embedder)) as work:
            with counting(Console(stderr=True), "images embedded") as progress:
                left = work.embed_images(progress)
            self._say_left(left)
            self._refuse_left(left)
            if left and values is None:
                fitted, values = self._values(sources, embedder)
            mapped = 0 if values is None else work.map_others(values)
            items = work.finish()
            old = self._put(place)
        document = {
            "items": items,
            "embedded": items - mapped,
            "mapped": mapped,
            "dropped": sum(map(len, sources.values())) - items,
            "not_embedded": [item._asdict() for item in left],
            "map": None if fitted is None else _described(fitted),
            "old": None if old is None else str(old),
        }
        said = f"{items} items are in {self.to or self.data}: {items - mapped} embedded, {mapped} mapped; "
        said += f"{document['dropped']} were left out"
        self._print(document, said if old is None else f"{said}\nthe old gallery is in {old}")

    def _values(self, sources: Sources, embedder: OfflineEmbedder) -> tuple[FittedSpaceMap | None, Floats | None]:
        """The map for what cannot be embedded, if there is to be one. Raises StartError: it is of no use."""
        if self.map is None:
            return None, None
        if self.map != FIT:
            (dimension,) = {source.dimension for source in sources.values()}
            return None, read_space_map(Path(self.map), dimension, embedder.manifest.dimension)
        fitted = fit_on_images(sources, embedder)
        self._say(
            f"a map was fitted on {fitted.fitted} images and judged on {fitted.judged} others: the cosine with "
            f"the new vector is {fitted.cosine:.3f} (median), and {fitted.found:.0%} find themselves first"
        )
        if not fitted.helps:
            raise StartError(
                f"map: at least {LEAST_FOUND:.0%} of the images that judge it must find themselves first, found "
                f"{fitted.found:.0%}: mapped vectors would hardly be found; --drop leaves such items out"
            )
        return fitted, fitted.values

    def _say_left(self, left: list[LeftItem], further: int = 0) -> None:
        for item in left[:_SHOWN]:
            self._say(f"not embedded: {item.id!r} in {item.collection}: {item.reason}")
        if (more := len(left[_SHOWN:]) + further) > 0:
            self._say(f"not embedded: {more} more (see --json)")

    def _refuse_left(self, left: list[LeftItem]) -> None:
        if left and not self.drop and self.map is None:
            raise StartError(
                f"{len(left)} items have an image that cannot be embedded; repeat the command with --drop, which "
                "leaves them out, or --map fit; what was embedded is kept for that, and the gallery is as it was"
            )

    def _put(self, place: CopyPlace) -> Path | None:
        old = place.put()
        if old is not None and self.delete_old:
            shutil.rmtree(old)
            return None
        return old

    def _print(self, document: Mapping[str, Any], text: str) -> None:
        if self.as_json:
            self.print_json(document)
        else:
            for line in text.split("\n"):
                print(escaped(line))


def _described(fitted: FittedSpaceMap) -> dict[str, float]:
    return {
        "fitted": fitted.fitted,
        "judged": fitted.judged,
        "cosine": round(fitted.cosine, 4),
        "found": round(fitted.found, 4),
    }
