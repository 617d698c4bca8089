"""Batches from other processes: every one arrives, or the training ends with a sentence."""

import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest

from sfsc_training.config import AugmentationSection
from sfsc_training.data import loader
from sfsc_training.data.augmentation import GrowingAugmentation
from sfsc_training.data.batches import Batches
from sfsc_training.data.sampling import Shuffle
from sfsc_training.errors import TrainingError


def make_batches(steps: int) -> Batches:
    pixels, classes = np.zeros((8, 96, 96, 3), dtype=np.uint8), np.arange(8, dtype=np.int64)
    augmentation = GrowingAugmentation(AugmentationSection(), 96, 96, steps)
    return Batches(pixels, classes, augmentation, Shuffle(8, 8, 0), seed=0, start=0, stop=steps)


def test_too_little_shared_memory_is_found_before_a_batch_is_lost(monkeypatch):
    monkeypatch.setattr(loader.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**6))
    with pytest.raises(
        TrainingError, match=r"need 1.1 MB of shared memory; /dev/shm has 1.0 MB free: give --workers 0"
    ):
        next(loader.deliver(make_batches(3), workers=1))
    assert len(list(loader.deliver(make_batches(3), workers=0))) == 3


def test_batches_that_are_lost_are_missed(monkeypatch):
    monkeypatch.setattr(Batches, "__iter__", lambda self: iter([self.batch(0)]))
    with pytest.raises(TrainingError, match="2 of 3 batches from the worker processes were lost"):
        list(loader.deliver(make_batches(3), workers=1))


def test_a_worker_that_is_killed_ends_the_training_with_a_sentence(monkeypatch):
    def killed(self):
        yield self.batch(0)
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(Batches, "__iter__", killed)
    with (
        pytest.raises(
            TrainingError, match=r"a process that prepares batches has ended or hangs \(DataLoader worker"
        ),
        loader.explain_lost_workers(),
    ):
        list(loader.deliver(make_batches(3), workers=1))


def test_other_errors_are_left_alone():
    with pytest.raises(RuntimeError, match="something else"), loader.explain_lost_workers():
        raise RuntimeError("something else")
