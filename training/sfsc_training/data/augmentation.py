"""The augmentation of a recipe, by torchvision's v2 transforms."""

import torch
from torch import Tensor
from torchvision.transforms import v2

from sfsc_training.config import AugmentationSection

__all__ = ["Augmentation", "GrowingAugmentation"]


class GrowingAugmentation:
    """The augmentation of each step: at first to smaller images, by the shares in `section.growing`."""

    def __init__(self, section: AugmentationSection, height: int, width: int, steps: int) -> None:
        self._steps = steps
        self._stages: list[tuple[float, Augmentation]] = []
        end = 0.0
        for share, size in section.growing:
            end += share * steps
            small = Augmentation(section, round(height * size), round(width * size), resize=True)
            self._stages.append((end, small))
        self._last = Augmentation(section, height, width)

    @property
    def last_from(self) -> float:
        """The step from which the images no longer grow."""
        return max((end for end, _ in self._stages if end < self._steps), default=0.0)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of each stage, in order."""
        return [augmentation.size for _, augmentation in self._stages] + [self._last.size]

    def at(self, step: int) -> "Augmentation":
        """That of one step."""
        return next((augmentation for end, augmentation in self._stages if step < end), self._last)


class Augmentation:
    """uint8 [n, 3, H, W] → uint8 [n, 3, height, width], drawn for each image from torch's global generator.

    `size`: height and width of what comes out.

    Args:
        resize: the images come in another size than height × width.
    """

    def __init__(self, section: AugmentationSection, height: int, width: int, *, resize: bool = False) -> None:
        self.size = height, width
        steps: list[v2.Transform] = []
        if section.crop_scale:
            steps.append(v2.RandomResizedCrop((height, width), scale=section.crop_scale, antialias=True))
        elif resize:
            steps.append(v2.Resize((height, width), antialias=True))
        if section.pad_crop:
            padding = v2.RandomCrop((height, width), padding=section.pad_crop, fill=section.fill)
            steps.insert(len(steps) if resize else 0, padding)
        if section.degrees or section.translate or section.shear or section.scale != (1.0, 1.0):
            steps.append(_affine(section))
        if section.flip:
            steps.append(v2.RandomHorizontalFlip(section.flip))
        if section.brightness or section.contrast or section.saturation or section.hue:
            steps.append(v2.ColorJitter(section.brightness, section.contrast, section.saturation, section.hue))
        if section.grey:
            steps.append(v2.RandomGrayscale(section.grey))
        if section.erase:
            steps.append(v2.RandomErasing(section.erase, scale=(0.02, 0.25), value=section.fill))
        self._transform = v2.Compose(steps) if steps else None

    def __call__(self, images: Tensor) -> Tensor:
        if self._transform is None:
            return images
        return torch.stack([self._transform(image) for image in images])


def _affine(section: AugmentationSection) -> v2.RandomAffine:
    return v2.RandomAffine(
        section.degrees,
        translate=(section.translate, section.translate) if section.translate else None,
        scale=section.scale,
        shear=section.shear or None,
        interpolation=v2.InterpolationMode.BILINEAR,
        fill=section.fill,
    )
