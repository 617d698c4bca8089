"""Why a start or a request fails, and how each cause is answered.

StartError       the service cannot start with these settings; the command prints the message and exits with 1
Problem          a request is refused; `code` is stable and stands in the answer
    the request is wrong      invalid_parameter invalid_json invalid_request unknown_width unknown_space
                              unknown_model contradictory_limits not_found item_not_found collection_not_found
                              already_aligned gallery_shared one_width maintenance_running no_backup_folder
                              backup_exists method_not_allowed unsupported_media_type head_too_large
                              body_too_large body_stalled
    the caller may not        key_missing key_unknown scope_missing quota_exceeded foreign_host foreign_origin
    the image is wrong        the codes of sfsc_bundle.errors.ImageError
    the store refuses         the codes of sfsc_service.store.errors
    the service cannot now    queue_full queue_timeout bulk_full address_limit deadline_unreachable
                              deadline_passed client_gone shutting_down too_many_connections no_worker
                              inference_failed inference_hung out_of_memory internal_error
ServiceError     raised by the client for a problem that the service answered

`STATUS` alone maps a code to its HTTP status and title.
"""

from typing import Literal

__all__ = ["STATUS", "Code", "Problem", "ServiceError", "StartError"]

Code = Literal[
    "invalid_parameter",
    "invalid_json",
    "invalid_request",
    "unknown_width",
    "unknown_space",
    "unknown_model",
    "contradictory_limits",
    "not_found",
    "item_not_found",
    "collection_not_found",
    "already_aligned",
    "gallery_shared",
    "one_width",
    "maintenance_running",
    "no_backup_folder",
    "backup_exists",
    "method_not_allowed",
    "unsupported_media_type",
    "head_too_large",
    "body_too_large",
    "body_stalled",
    "key_missing",
    "key_unknown",
    "scope_missing",
    "quota_exceeded",
    "foreign_host",
    "foreign_origin",
    "image_not_recognised",
    "image_too_large",
    "image_too_many_pixels",
    "image_damaged",
    "crop_outside",
    "collection_invalid",
    "id_invalid",
    "space_mismatch",
    "dimension_mismatch",
    "width_invalid",
    "vector_invalid",
    "metadata_invalid",
    "picture_invalid",
    "filter_invalid",
    "cursor_invalid",
    "exact_unavailable",
    "limit_exceeded",
    "input_refused",
    "store_busy",
    "store_closed",
    "store_failed",
    "outcome_unknown",
    "store_unavailable",
    "queue_full",
    "queue_timeout",
    "bulk_full",
    "address_limit",
    "deadline_unreachable",
    "deadline_passed",
    "client_gone",
    "shutting_down",
    "too_many_connections",
    "no_worker",
    "inference_failed",
    "inference_hung",
    "out_of_memory",
    "internal_error",
]

STATUS: dict[Code, tuple[int, str]] = {
    "invalid_parameter": (422, "A parameter breaks a rule"),
    "invalid_json": (400, "The body is not valid JSON"),
    "invalid_request": (400, "The request cannot be read"),
    "unknown_width": (422, "The bundle has no such width"),
    "unknown_space": (422, "The gallery does not hold this embedding space"),
    "unknown_model": (404, "The service has no such model"),
    "contradictory_limits": (422, "The limits contradict each other"),
    "not_found": (404, "Nothing exists at this address"),
    "item_not_found": (404, "The gallery has no such item"),
    "collection_not_found": (404, "The service has no such collection"),
    "already_aligned": (409, "The gallery is aligned"),
    "gallery_shared": (409, "The gallery is shared with other services"),
    "one_width": (409, "The bundle has one width only"),
    "maintenance_running": (409, "Other maintenance is under way"),
    "no_backup_folder": (409, "The service has no folder for backups"),
    "backup_exists": (409, "A backup has this name"),
    "method_not_allowed": (405, "The method is not allowed here"),
    "unsupported_media_type": (415, "The body's media type is not accepted here"),
    "head_too_large": (431, "The request's head is too large"),
    "body_too_large": (413, "The body is too large"),
    "body_stalled": (408, "The body stopped arriving"),
    "key_missing": (401, "A key is needed"),
    "key_unknown": (401, "The key is not known"),
    "scope_missing": (403, "The key does not allow this"),
    "quota_exceeded": (429, "The quota of the key is used up"),
    "foreign_host": (421, "The service has no such name"),
    "foreign_origin": (403, "Pages of other sites may not call the service"),
    "image_not_recognised": (422, "The image has no accepted format"),
    "image_too_large": (413, "The image has too many bytes"),
    "image_too_many_pixels": (413, "The image has too many pixels"),
    "image_damaged": (422, "The image is damaged"),
    "crop_outside": (422, "The crop is not within the image"),
    "collection_invalid": (422, "The name of the collection breaks a rule"),
    "id_invalid": (422, "The id breaks a rule"),
    "space_mismatch": (422, "The gallery does not hold this embedding space"),
    "dimension_mismatch": (422, "The vector has another dimension than the gallery"),
    "width_invalid": (422, "The width breaks a rule"),
    "vector_invalid": (422, "The vector breaks a rule"),
    "metadata_invalid": (422, "The metadata breaks a rule"),
    "picture_invalid": (422, "The image breaks a rule"),
    "filter_invalid": (422, "The filter breaks a rule"),
    "cursor_invalid": (422, "The cursor breaks a rule"),
    "exact_unavailable": (422, "The gallery cannot be searched exactly"),
    "limit_exceeded": (422, "A limit is exceeded"),
    "input_refused": (422, "A parameter breaks a rule"),
    "store_busy": (429, "Too many changes are waiting"),
    "store_closed": (503, "The store is closed"),
    "store_failed": (503, "The store cannot answer"),
    "outcome_unknown": (503, "The change may or may not have been stored"),
    "store_unavailable": (503, "The store cannot answer"),
    "queue_full": (429, "The queue is full"),
    "queue_timeout": (503, "The request waited too long"),
    "bulk_full": (429, "Bulk calls take too long"),
    "address_limit": (429, "Too many requests of one address are under way"),
    "deadline_unreachable": (503, "The deadline cannot be met"),
    "deadline_passed": (504, "The deadline has passed"),
    "client_gone": (499, "The client has disconnected"),
    "shutting_down": (503, "The service is shutting down"),
    "too_many_connections": (503, "Too many connections are open"),
    "no_worker": (503, "No worker is left"),
    "inference_failed": (500, "The network returned no usable vector"),
    "inference_hung": (500, "The network did not finish in time"),
    "out_of_memory": (503, "The service has no memory left for this request"),
    "internal_error": (500, "Something went wrong inside the service"),
}


_DETAIL_CHARACTERS = 1000
_PARAMETER_CHARACTERS = 60


class StartError(Exception):
    """The service cannot start with these settings; the message is a sentence that says why."""


class Problem(Exception):  # noqa: N818 - RFC 9457's own word
    """A refused request.

    Args:
        code: stable; `STATUS` gives its status and title.
        detail: names the parameter, the rule and what was found; cut to 1,000 characters.
        parameter: the name of the parameter that breaks the rule, if one does; cut to 60 characters.
        retry_after_s: seconds after which the same request may succeed.
    """

    def __init__(
        self,
        code: Code,
        detail: str,
        parameter: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        self.detail = _cut(detail, _DETAIL_CHARACTERS)
        super().__init__(self.detail)
        self.code: Code = code
        self.parameter = None if parameter is None else _cut(parameter, _PARAMETER_CHARACTERS)
        self.retry_after_s = retry_after_s

    @property
    def status(self) -> int:
        """The HTTP status of its code."""
        return STATUS[self.code][0]


class ServiceError(Exception):
    """A problem that the service answered, raised by the client.

    `code` and `detail` are the problem's; `status` is the HTTP status, 0 where no answer came at all.
    """

    def __init__(self, code: str, detail: str, status: int) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.status = status


def _cut(text: str, characters: int) -> str:
    """A call may have ten thousand problems, each of which quotes what was sent."""
    return text if len(text) <= characters else text[:characters] + "…"
