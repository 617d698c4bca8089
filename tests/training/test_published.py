"""Readers of published sets, on small folders in the exact layout and naming that their authors use."""

from collections import Counter

import pytest
from PIL import Image

from sfsc_training.config import DataSection
from sfsc_training.data.published.objects import CUB, INSHOP, SOP
from sfsc_training.data.published.persons import MARKET1501, MSMT17
from sfsc_training.data.published.source import PublishedImage
from sfsc_training.data.published.vehicles import VEHICLEID, VERI776
from sfsc_training.data.read import read_dataset
from sfsc_training.errors import DataError


def images(folder, *names):
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number * 20 % 256, len(name), 0)).save(path)


def section(reader, **changes):
    return DataSection(reader=reader, validation_share=0.25, check_counts=False, **changes)


def market1501(root):
    for identity in (2, 7, 10, 11):
        images(root / "bounding_box_train", *(f"{identity:04d}_c{c}s1_000451_0{c}.jpg" for c in (1, 2, 3)))
    images(root / "query", "0003_c1s1_000151_00.jpg", "0005_c2s1_000151_00.jpg")
    images(
        root / "bounding_box_test",
        "0003_c1s1_000251_01.jpg", "0003_c4s2_000251_01.jpg", "0005_c3s1_000251_01.jpg",
        "0000_c1s1_000151_01.jpg", "0000_c2s1_000151_01.jpg", "-1_c1s1_000401_03.jpg",
    )  # fmt: skip
    (root / "bounding_box_test" / "Thumbs.db").write_bytes(b"as in the archive")


def msmt17(root):
    def person(number):
        place = f"{number:04d}/{number:04d}"
        return [f"{place}_{shot:03d}_{shot + 1:02d}_0303morning_0015_{shot}.jpg" for shot in range(3)]

    def write(name, lines):
        (root / name).write_text("".join(f"{path} {int(path[:4])}\n" for path in lines))

    for part, count in (("train", 4), ("test", 2)):
        for number in range(count):
            images(root / part, *person(number))
    write("list_train.txt", [name for number in range(4) for name in person(number)[:2]])
    write("list_val.txt", [person(number)[2] for number in range(4)])
    write("list_query.txt", [person(number)[0] for number in range(2)])
    write("list_gallery.txt", [name for number in range(2) for name in person(number)[1:]])


def veri776(root):
    def write(part, *names):
        images(root / f"image_{part}", *names)
        (root / f"name_{part}.txt").write_text("\r\n".join(names) + "\r\n")

    write("train", *(f"{n:04d}_c{c:03d}_00016450_0.jpg" for n in (1, 3, 4, 6) for c in (1, 2)))
    write("query", "0002_c002_00030600_0.jpg", "0005_c003_00079280_0.jpg")
    write("test", *(f"{n:04d}_c{c:03d}_00030605_1.jpg" for n in (2, 5) for c in (2, 3, 4)))


def vehicleid(root):
    (root / "train_test_split").mkdir(parents=True)
    rows = {
        "train_list": [(n, n % 4) for n in range(1, 13)],
        "test_list_800": [(n, 90 + n % 3) for n in range(20, 29)],
    }
    for name, lines in rows.items():
        (root / f"train_test_split/{name}.txt").write_text("".join(f"{n:07d} {v}\n" for n, v in lines))
        images(root / "image", *(f"{n:07d}.jpg" for n, _ in lines))


def sop(root):
    for name, classes in (("Ebay_train", (1, 2, 3, 4)), ("Ebay_test", (11319, 11320))):
        names = [f"bicycle_final/1110858{number:05d}_{shot}.JPG" for number in classes for shot in range(2)]
        images(root, *names)
        rows = [f"{n} {classes[n // 2]} 1 {path}\n" for n, path in enumerate(names)]
        (root / f"{name}.txt").write_text("image_id class_id super_class_id path\n" + "".join(rows))


def inshop(root):
    rows = []
    for item, status in ((1, "train"), (2, "train"), (3, "train"), (6, "train"), (4, "test"), (5, "test")):
        for shot, view in enumerate(("1_front", "2_side", "3_back")):
            name = f"img/WOMEN/Blouses_Shirts/id_{item:08d}/0{shot + 1}_{view}.jpg"
            images(root / "Img", name)
            role = status if status == "train" else ("query" if shot == 0 else "gallery")
            rows.append(f"{name:<60} id_{item:08d} {role}\n")
    (root / "Eval").mkdir()
    text = f"{len(rows)}\nimage_name item_id evaluation_status\n" + "".join(rows)
    (root / "Eval/list_eval_partition.txt").write_text(text)


def cub(root):
    names = [
        f"{number:03d}.Black_footed_Albatross/Black_footed_Albatross_{shot:04d}_796111.jpg"
        for number in range(1, 9)
        for shot in range(3)
    ]
    images(root / "images", *names)
    (root / "images.txt").write_text("".join(f"{n} {name}\n" for n, name in enumerate(names, 1)))
    labels = "".join(f"{n} {(n - 1) // 3 + 1}\n" for n in range(1, len(names) + 1))
    (root / "image_class_labels.txt").write_text(labels)


# reader → layout, source, identities of (train, validation, test), queries, gallery, cameras
CASES = {
    "market1501": (market1501, MARKET1501, (3, 1, 3), 2, 6, True),
    "msmt17": (msmt17, MSMT17, (3, 1, 2), 2, 4, True),
    "veri776": (veri776, VERI776, (3, 1, 2), 2, 6, True),
    "vehicleid": (vehicleid, VEHICLEID, (3, 1, 3), 6, 3, False),
    "sop": (sop, SOP, (3, 1, 2), 4, 4, False),
    "inshop": (inshop, INSHOP, (3, 1, 2), 2, 4, False),
    "cub": (cub, CUB, (3, 1, 4), 12, 12, False),
}


@pytest.fixture(params=sorted(CASES))
def case(request, tmp_path):
    layout, source, *expected = CASES[request.param]
    root = tmp_path / source.folder
    root.mkdir()
    layout(root)
    return request.param, source, root, expected


def test_splits_and_roles(case, tmp_path):
    reader, source, root, (identities, queries, gallery, cameras) = case
    dataset = read_dataset(root, section(reader), seed=0)
    parts = (dataset.train, dataset.validation, dataset.test)
    assert tuple(len(part.identities) for part in parts) == identities
    assert (len(dataset.test.query), len(dataset.test.gallery)) == (queries, gallery)
    assert all((part.cameras is not None) == cameras for part in parts)
    assert all(path.is_file() for part in parts for path in part.paths)
    assert len({frozenset(part.identities) for part in parts}) == 3
    assert not set(dataset.train.identities) & set(dataset.validation.identities)
    assert len(dataset.validation.query) == len(dataset.validation.paths)
    assert dataset.licence == source.licence
    assert source.url.startswith("https://")
    assert read_dataset(tmp_path, section(reader), seed=0).sha256 == dataset.sha256
    assert read_dataset(root, section(reader), seed=3).train.names != dataset.train.names


def test_published_counts_are_checked(case):
    reader, source, root, _ = case
    with pytest.raises(DataError, match=rf"{reader}: train has \d+ images of 4 identities; published: "):
        read_dataset(root, section(reader).model_copy(update={"check_counts": True}), seed=0)
    images_, identities = source.counts["train"][0]
    numbers = [str(n % identities) for n in range(images_)]
    source.check("train", [PublishedImage(root, number) for number in numbers])


def test_what_is_missing_is_named_with_its_source(case, tmp_path):
    reader, source, root, _ = case
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as error:
        read_dataset(tmp_path / "empty", section(reader), seed=0)
    assert "empty lacks " in str(error.value)
    assert source.url in str(error.value)
    if reader != "market1501":  # it has no list to compare the folder with
        next(path for path in sorted(root.rglob("*")) if path.suffix.lower() == ".jpg").unlink()
        with pytest.raises(DataError, match=r"1 \w+ images are missing; the first is"):
            read_dataset(root, section(reader), seed=0)


def test_market_junk_and_distractors(tmp_path):
    market1501(tmp_path)
    test = read_dataset(tmp_path, section("market1501"), seed=0).test
    labels = test.labels()
    gallery = labels.take(test.gallery)
    assert Counter(gallery.identity.tolist())[-1] == 1
    distractors = test.identities.index("0000")
    assert Counter(gallery.identity.tolist())[distractors] == 2
    assert distractors not in labels.take(test.query).identity
    assert gallery.camera.tolist().count(1) == 3


def test_vehicleid_draws_one_image_of_each_vehicle(tmp_path):
    vehicleid(tmp_path)
    test = read_dataset(tmp_path, section("vehicleid"), seed=0).test
    assert sorted(test.classes[test.gallery]) == [0, 1, 2]
    others = [read_dataset(tmp_path, section("vehicleid"), seed).test.names for seed in range(1, 5)]
    assert any(names != test.names for names in others)
    with pytest.raises(DataError, match=r"data.subset of vehicleid must be one of"):
        read_dataset(tmp_path, section("vehicleid", subset="801"), seed=0)
    with pytest.raises(DataError, match=r"lacks train_test_split/test_list_1600.txt"):
        read_dataset(tmp_path, section("vehicleid", subset="1600"), seed=0)


@pytest.mark.parametrize(
    ("reader", "file", "line", "message"),
    [
        ("market1501", "query/x.jpg", "", "is not named like an image of Market-1501"),
        ("msmt17", "list_query.txt", "0000/x.jpg 0", "line 1: expected PATH IDENTITY with a camera"),
        ("veri776", "name_query.txt", "x.jpg", "is not named like 0001_c001_00016450_0.jpg"),
        ("vehicleid", "train_test_split/train_list.txt", "0000001", "line 1: expected IMAGE VEHICLE"),
        ("sop", "Ebay_test.txt", "head\n1 2 3", "line 2: expected 4 columns"),
        ("inshop", "Eval/list_eval_partition.txt", "1\nhead\na b c", "evaluation_status must be one of"),
        ("cub", "images.txt", "77 x.jpg", "has no class for image 77"),
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path, reader, file, line, message):
    CASES[reader][0](tmp_path)
    (tmp_path / file).write_text(line)
    with pytest.raises(DataError, match=message):
        read_dataset(tmp_path, section(reader), seed=0)
