"""What a start or a request can fail of, and the answer that each cause gets.

StartError       the service cannot start as asked; the command ends with exit code 1 and this sentence
Problem          a request that is refused; `kind` is the stable code of the answer
    the request is wrong      invalid_parameter invalid_json invalid_request unknown_width unknown_space
                              contradictory_limits not_found item_not_found method_not_allowed
                              unsupported_media_type body_too_large body_stalled
    the image is wrong      the codes of sfsc_bundle.errors.ImageError
    the store refuses         the codes of sfsc_service.store.errors
    the service cannot now    queue_full deadline_unreachable deadline_passed client_gone shutting_down
                              too_many_connections no_worker inference_failed inference_hung internal_error
ServiceError     what the client makes of a problem that it was answered

`STATUS` is the only place that knows which HTTP status and title a code has.
"""

from typing import Literal, get_args

__all__ = ["STATUS", "Kind", "Problem", "ServiceError", "StartError"]

Kind = Literal[
    "invalid_parameter",
    "invalid_json",
    "invalid_request",
    "unknown_width",
    "unknown_space",
    "contradictory_limits",
    "not_found",
    "item_not_found",
    "method_not_allowed",
    "unsupported_media_type",
    "body_too_large",
    "body_stalled",
    "image_not_recognised",
    "image_too_large",
    "image_too_many_pixels",
    "image_damaged",
    "id_invalid",
    "space_mismatch",
    "dimension_mismatch",
    "width_invalid",
    "vector_invalid",
    "metadata_invalid",
    "picture_invalid",
    "filter_invalid",
    "cursor_invalid",
    "limit_exceeded",
    "input_refused",
    "store_busy",
    "store_closed",
    "store_failed",
    "store_unavailable",
    "queue_full",
    "deadline_unreachable",
    "deadline_passed",
    "client_gone",
    "shutting_down",
    "too_many_connections",
    "no_worker",
    "inference_failed",
    "inference_hung",
    "internal_error",
]

STATUS: dict[Kind, tuple[int, str]] = {
    "invalid_parameter": (422, "A parameter breaks a rule"),
    "invalid_json": (400, "The body is not valid JSON"),
    "invalid_request": (400, "The request cannot be read"),
    "unknown_width": (422, "The bundle has no such width"),
    "unknown_space": (422, "The gallery does not hold this embedding space"),
    "contradictory_limits": (422, "The limits contradict each other"),
    "not_found": (404, "There is nothing at this address"),
    "item_not_found": (404, "The gallery has no such item"),
    "method_not_allowed": (405, "The method is not allowed here"),
    "unsupported_media_type": (415, "The body's media type is not accepted here"),
    "body_too_large": (413, "The body is too large"),
    "body_stalled": (408, "The body stopped coming"),
    "image_not_recognised": (422, "The image is of no accepted format"),
    "image_too_large": (413, "The image has too many bytes"),
    "image_too_many_pixels": (413, "The image has too many pixels"),
    "image_damaged": (422, "The image is damaged"),
    "id_invalid": (422, "The id breaks a rule"),
    "space_mismatch": (422, "The gallery does not hold this embedding space"),
    "dimension_mismatch": (422, "The vector has another dimension than the gallery"),
    "width_invalid": (422, "The width breaks a rule"),
    "vector_invalid": (422, "The vector breaks a rule"),
    "metadata_invalid": (422, "The metadata break a rule"),
    "picture_invalid": (422, "The image breaks a rule"),
    "filter_invalid": (422, "The filter breaks a rule"),
    "cursor_invalid": (422, "The cursor breaks a rule"),
    "limit_exceeded": (422, "A limit is exceeded"),
    "input_refused": (422, "A parameter breaks a rule"),
    "store_busy": (429, "Too many changes wait already"),
    "store_closed": (503, "The store is closed"),
    "store_failed": (503, "The store cannot answer"),
    "store_unavailable": (503, "The store cannot answer"),
    "queue_full": (429, "The queue is full"),
    "deadline_unreachable": (503, "The deadline cannot be met"),
    "deadline_passed": (504, "The deadline has passed"),
    "client_gone": (499, "The client has gone"),
    "shutting_down": (503, "The service is shutting down"),
    "too_many_connections": (503, "Too many connections are open"),
    "no_worker": (503, "No worker is left"),
    "inference_failed": (500, "The network gave no usable answer"),
    "inference_hung": (500, "The network did not come back in time"),
    "internal_error": (500, "Something went wrong inside the service"),
}

KINDS: frozenset[str] = frozenset(get_args(Kind))


class StartError(Exception):
    """The service cannot start as asked; the message is a sentence."""


class Problem(Exception):  # noqa: N818 - RFC 9457's own word
    """A refused request.

    Args:
        kind: the stable code; `STATUS` gives its status and title.
        detail: names the parameter, the rule and what was found.
        parameter: the parameter alone, where one is to blame.
        retry_after_s: seconds after which the same request may succeed.
    """

    def __init__(
        self,
        kind: Kind,
        detail: str,
        parameter: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind: Kind = kind
        self.detail = detail
        self.parameter = parameter
        self.retry_after_s = retry_after_s

    @property
    def status(self) -> int:
        """The HTTP status of its kind."""
        return STATUS[self.kind][0]


class ServiceError(Exception):
    """A problem that a service answered, as its client sees it.

    `code` and `detail` are the problem's; `status` is the HTTP status, 0 where no answer came at all.
    """

    def __init__(self, code: str, detail: str, status: int) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.status = status
