"""Reader, decoded images, augmentation and batches."""

import shutil

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from sfsc_bundle.image_formats import SUFFIXES
from sfsc_training.config import AugmentationSection, DataSection, VehiclesSection
from sfsc_training.data.augmentation import Augmentation, GrowingAugmentation
from sfsc_training.data.batches import Batches
from sfsc_training.data.images import OnDemand, load_images, load_split
from sfsc_training.data.loader import deliver
from sfsc_training.data.reader import read_folder
from sfsc_training.data.sampling import Identities, Shuffle
from sfsc_training.data.vehicles import read_vehicles
from sfsc_training.errors import DataError
from tests.training.conftest import draw_identities

SECTION = DataSection(height=32, width=32, validation_share=0.25)


def test_splits_are_disjoint_and_complete(small_data):
    dataset = read_folder(small_data, SECTION, seed=0)
    names = [set(split.identities) for split in (dataset.train, dataset.validation, dataset.test)]
    assert [len(name) for name in names] == [6, 2, 4]
    assert not names[0] & names[1]
    assert not (names[0] | names[1]) & names[2]
    assert dataset.train.identities[int(dataset.train.classes[-1])] in dataset.train.names[-1]


def test_a_flat_folder_is_split_by_identity_and_seed(tmp_path):
    folder = draw_identities(tmp_path / "flat", identities=10, shots=2, seed=3)
    one, again, other = (read_folder(folder, SECTION, seed) for seed in (0, 0, 1))
    assert len(one.test.identities) == 5
    assert one.test.names == again.test.names
    assert one.test.names != other.test.names
    assert one.sha256 == again.sha256


@pytest.mark.parametrize(
    ("query", "gallery", "camera", "queries", "gallery_size", "protocol"),
    [
        (None, None, None, 16, 16, "every image queries all others"),
        ("*_0.png", None, None, 4, 12, "4 queries against 12 gallery images"),
        ("*_0.png", "*_[12].png", None, 4, 8, "4 queries against 8 gallery images"),
        ("*_0.png", None, r"c(\d)", 4, 16, "4 queries against 16 gallery images, own camera excluded"),
    ],
)
def test_roles(small_data, query, gallery, camera, queries, gallery_size, protocol):
    section = SECTION.model_copy(update={"query": query, "gallery": gallery, "camera": camera})
    split = read_folder(small_data, section, seed=0).test
    assert (len(split.query), len(split.gallery), split.protocol()) == (queries, gallery_size, protocol)
    if camera:
        assert sorted(set(split.labels().camera)) == [0, 1]


@pytest.fixture
def own_data(small_data, tmp_path):
    return shutil.copytree(small_data, tmp_path / "own")


def test_what_is_wrong_with_a_folder_is_named(own_data, tmp_path):
    with pytest.raises(DataError, match="nowhere does not exist"):
        read_folder(tmp_path / "nowhere", SECTION, 0)
    (own_data / "train" / "hollow").mkdir()
    with pytest.raises(DataError, match=r"identity folders without an image: 1, 'train/hollow' \("):
        read_folder(own_data, SECTION, 0)
    (tmp_path / "void").mkdir()
    with pytest.raises(DataError, match="void has no images; they must lie at IDENTITY/IMAGE"):
        read_folder(tmp_path / "void", SECTION, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": "*.tiff"}, r"leave 0 queries"),
        ({"camera": r"c(\d"}, "not a regular expression"),
        ({"camera": r"c\d"}, "must have one group; found 0"),
        ({"camera": r"x(\d)"}, "does not match the file name"),
    ],
)
def test_a_wrong_protocol_is_named(small_data, change, message):
    with pytest.raises(DataError, match=message):
        read_folder(small_data, SECTION.model_copy(update=change), 0)


def test_an_identity_in_both_splits_is_refused(own_data):
    shutil.copytree(own_data / "train" / "id100", own_data / "test" / "id100")
    with pytest.raises(DataError, match="identities with images in more than one split: 1, 'id100'"):
        read_folder(own_data, SECTION, 0)


def test_content_changes_the_digest(own_data):
    before = read_folder(own_data, SECTION, 0).sha256
    shutil.copyfile(own_data / "train/id100/c1_0.png", own_data / "train/id101/c1_0.png")
    assert read_folder(own_data, SECTION, 0).sha256 != before


def test_images_are_decoded_in_order_and_counted(small_data):
    split = read_folder(small_data, SECTION, 0).test
    seen = []
    images = load_images(split.paths, SECTION, lambda: seen.append(1))
    assert images.shape == (16, 32, 32, 3)
    assert len(seen) == 16
    assert np.array_equal(images[5], load_images(split.paths[5:6], SECTION)[0])


def test_an_unreadable_image_is_named(own_data):
    broken = own_data / "test" / "id200" / "c1_0.png"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(DataError, match=r"id200/c1_0.png cannot be read"):
        load_images(read_folder(own_data, SECTION, 0).test.paths, SECTION)


def test_unreadable_images_are_counted_or_left_out(own_data):
    for name in ("id200/c1_0.png", "id201/c2_1.png"):
        (own_data / "test" / name).write_bytes(b"no image")
    section = SECTION.model_copy(update={"query": "*_0.png"})
    split = read_folder(own_data, section, 0).test
    with pytest.raises(DataError, match=r"id200/c1_0.png cannot be read.*; 2 of 16 images cannot be read"):
        load_split(split, section)
    kept, images = load_split(split, section.model_copy(update={"skip_unreadable": True}))
    assert len(kept.paths) == len(images) == 14
    assert (len(kept.query), len(kept.gallery)) == (3, 11)
    assert {kept.names[row] for row in kept.query} == {f"test/id20{n}/c1_0.png" for n in (1, 2, 3)}
    assert np.array_equal(images, load_images(kept.paths, section))


def test_what_takes_more_memory_than_allowed_is_decoded_when_it_is_asked_for(small_data):
    paths = read_folder(small_data, SECTION, 0).test.paths
    kept = load_images(paths, SECTION)
    read = load_images(paths, SECTION.model_copy(update={"max_cache_gib": 1e-6}))
    assert isinstance(kept, np.ndarray)
    assert isinstance(read, OnDemand)
    assert read.shape == kept.shape
    np.testing.assert_array_equal(read[np.array([2, 0])], kept[[2, 0]])


EVERYTHING = AugmentationSection(
    pad_crop=2, flip=0.5, degrees=10, translate=0.1, scale=(0.9, 1.1), shear=5, crop_scale=(0.5, 1.0),
    brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1, grey=0.2, erase=0.5,
)  # fmt: skip


def make_batches(start=0, stop=7, size=4, count=10, section=EVERYTHING):
    random = np.random.default_rng(0)
    images = random.integers(0, 255, (count, 16, 16, 3), dtype=np.uint8)
    classes = np.arange(count, dtype=np.int64)
    sampler = Shuffle(count, size, seed=5)
    return Batches(
        images, classes, GrowingAugmentation(section, 16, 16, stop), sampler, seed=5, start=start, stop=stop
    )


def test_augmentation_keeps_type_and_shape_and_draws_for_each_image():
    images = torch.randint(0, 255, (1, 3, 16, 16), dtype=torch.uint8).expand(6, -1, -1, -1)
    changed = Augmentation(EVERYTHING, 16, 16)(images)
    assert changed.shape == images.shape
    assert changed.dtype == torch.uint8
    assert len({image.numpy().tobytes() for image in changed}) > 3
    assert Augmentation(AugmentationSection(), 16, 16)(images) is images


@pytest.mark.parametrize("crop", [None, (0.5, 1.0)])
def test_growing_images_start_small_and_end_whole(crop):
    section = AugmentationSection(growing=((0.5, 0.25), (0.25, 0.5)), crop_scale=crop, pad_crop=1)
    batches = make_batches(stop=8, section=section)
    sizes = [batches.batch(step)[0][0].shape[-2:] for step in range(8)]
    assert [size[0] for size in sizes] == [4, 4, 4, 4, 8, 8, 16, 16]
    assert all(height == width for height, width in sizes)


@pytest.mark.parametrize("growing", [((0.6, 0.5), (0.5, 0.75)), ((0.5, 0.0),)])
def test_growing_images_have_possible_shares(growing):
    with pytest.raises(ValidationError, match="growing must have shares of the steps up to 1 and sizes above 0"):
        AugmentationSection(growing=growing)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_depends_on_seed_and_step_alone(workers):
    whole = list(deliver(make_batches(), workers=0))
    later = list(deliver(make_batches(start=3), workers=workers))
    assert len(later) == 4
    for [(images, classes)], [(other_images, other_classes)] in zip(whole[3:], later, strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(classes, other_classes)


def test_an_epoch_is_a_permutation():
    sampler = Shuffle(10, 5, seed=5)
    first = np.concatenate([sampler.rows(step) for step in (0, 1)])
    second = np.concatenate([sampler.rows(step) for step in (2, 3)])
    assert sorted(first) == sorted(second) == list(range(10))
    assert list(first) != list(second)


def test_batches_of_identities_hold_so_many_images_of_each():
    classes = np.repeat(np.arange(6), [5, 4, 4, 4, 2, 1])
    sampler = Identities(classes, size=12, images=4, seed=1)
    for epoch in range(3):
        steps = [sampler.rows(2 * epoch + step) for step in range(2)]
        assert all(len(rows) == 12 for rows in steps)
        identities = classes[np.concatenate(steps)].reshape(6, 4)
        assert (identities == identities[:, :1]).all()
        assert sorted(identities[:, 0]) == list(range(6))
    rows = sampler.rows(0).reshape(3, 4)
    assert all(len(set(group)) == min(4, (classes == classes[group[0]]).sum()) for group in rows)
    assert np.array_equal(sampler.rows(5), Identities(classes, size=12, images=4, seed=1).rows(5))
    assert not np.array_equal(sampler.rows(5), Identities(classes, size=12, images=4, seed=2).rows(5))
    with pytest.raises(DataError, match=r"a batch of 32 with sampler.images = 4 needs 8 identities; found 6"):
        Identities(classes, size=32, images=4, seed=1)


def test_parts_hold_the_rows_of_the_step_whoever_takes_them():
    def parts(mine):
        sampler = Shuffle(10, 8, seed=5)
        images = np.arange(10 * 16 * 16 * 3, dtype=np.uint64).astype(np.uint8).reshape(10, 16, 16, 3)
        augmentation = GrowingAugmentation(EVERYTHING, 16, 16, 9)
        return Batches(
            images, np.arange(10), augmentation, sampler, seed=5, start=0, stop=9, micro_batches=4, mine=mine
        ).batch(7)

    whole, second = parts(None), parts(range(2, 4))
    assert torch.cat([classes for _, classes in whole]).tolist() == Shuffle(10, 8, seed=5).rows(7).tolist()
    for (images, classes), (other_images, other_classes) in zip(whole[2:], second, strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(classes, other_classes)


VEHICLES = DataSection(
    height=64, width=64, validation_share=0, vehicles=VehiclesSection(seed=3, train=3, test=2, shots=1)
)


def test_vehicles_are_drawn_once_and_read_with_the_camera_rule(tmp_path):
    seen = []
    dataset = read_vehicles(tmp_path / "v", VEHICLES, 0, lambda done, total: seen.append((done, total)))
    assert (len(dataset.train.paths), len(dataset.test.paths)) == (18, 12)
    assert seen[-1] == (12, 12)
    assert "own camera excluded" in dataset.test.protocol()
    assert sorted(set(dataset.test.labels().camera)) == [0, 1, 2, 3, 4, 5]
    # An even start of the test identities keeps both of a pair of twins on one side.
    assert dataset.test.identities == ("v000004", "v000005")
    again = read_vehicles(tmp_path / "v", VEHICLES, 0)
    assert again.sha256 == dataset.sha256


def test_vehicles_do_not_mix_with_what_lies_there(tmp_path):
    read_vehicles(tmp_path / "v", VEHICLES, 0)
    other = VEHICLES.model_copy(update={"vehicles": VehiclesSection(seed=4, train=3, test=2, shots=1)})
    with pytest.raises(DataError, match=r"holds vehicles drawn as .*'seed': 3"):
        read_vehicles(tmp_path / "v", other, 0)
    (tmp_path / "own" / "train" / "a").mkdir(parents=True)
    with pytest.raises(DataError, match="own is neither; for your own images take another recipe, such as photos"):
        read_vehicles(tmp_path / "own", VEHICLES, 0)
    with pytest.raises(DataError, match="vehicles are square images; data asks for 64×32"):
        read_vehicles(tmp_path / "flat", VEHICLES.model_copy(update={"width": 32}), 0)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_of_every_image_format_are_read(own_data, suffix):
    (image,) = sorted((own_data / "test").rglob("*_0.png"))[:1]
    added = image.with_name(f"added{suffix}")
    shutil.copyfile(image, added)
    assert added.relative_to(own_data).as_posix() in read_folder(own_data, SECTION, 0).test.names
