"""Text that must have a certain form, whose rule is told in words."""

import re

from pydantic import AfterValidator

__all__ = ["text_form"]


def text_form(pattern: str, rule: str) -> AfterValidator:
    """For `Annotated[str, …]`: the regular expression that all of the text must match, and that rule in words.

    pydantic's own `pattern` shows the regular expression to whoever breaks it.
    """

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be {rule}")
        return text

    return AfterValidator(check)
