"""How an extra of this project is installed, for the messages of what is missing."""

__all__ = ["installing"]


def installing(extras: str) -> str:
    """What installs extras, named as in `service,cpu`.

    It names the checkout and no package index: this project is on none, where anybody could take its name.

    >>> installing("heif")
    "pip install '.[heif]' in the checkout of sfsc"
    """
    return f"pip install '.[{extras}]' in the checkout of sfsc"
