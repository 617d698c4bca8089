"""Calls about what the service measures and fits on the gallery's own images."""

from typing import Any

from sfsc_service.client.answers import AlignAnswer, QualityAnswer, answer_reader
from sfsc_service.client.call import Call, Prepared, Route

__all__ = ["OwnImagesRoutes"]


class OwnImagesRoutes:
    """Those methods of both clients."""

    @Route
    def quality(self) -> Prepared[QualityAnswer]:
        """How well each width searches, by the bundle or measured on the gallery's own images."""
        return Call("GET", "/quality", answer_reader(QualityAnswer))

    @Route
    def measure_quality(self, *, field: str | None = None) -> Prepared[QualityAnswer]:
        """Ask for a measurement on the gallery's own images; `field` of the metadata names what they show."""
        return Call("POST", "/quality", answer_reader(QualityAnswer), _field(field))

    @Route
    def forget_quality(self) -> Prepared[QualityAnswer]:
        """Forget what was measured."""
        return Call("DELETE", "/quality", answer_reader(QualityAnswer))

    @Route
    def alignment(self) -> Prepared[AlignAnswer]:
        """Whether the widths are aligned on the gallery's own images, and how far it is."""
        return Call("GET", "/align", answer_reader(AlignAnswer))

    @Route
    def align(self, *, field: str | None = None) -> Prepared[AlignAnswer]:
        """Ask for an alignment on the gallery's own images; `field` of the metadata names what they show."""
        return Call("POST", "/align", answer_reader(AlignAnswer), _field(field))

    @Route
    def undo_alignment(self) -> Prepared[AlignAnswer]:
        """Undo the alignment, or give up one that was asked for."""
        return Call("DELETE", "/align", answer_reader(AlignAnswer))


def _field(field: str | None) -> dict[str, Any]:
    return {} if field is None else {"field": field}
