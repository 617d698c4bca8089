"""The index of a collection in Milvus, which it has for good, and what its searches are given.

FLAT      every vector is read: exact.
IVF_FLAT  the vectors of the lists that are nearest to the query are read. With all lists, a search is exact.
HNSW      a graph is followed. Milvus keeps one index per vector and offers no other way to read the vectors, so
          no search is exact.

Scores are exact in all three: each compares the vectors as they came. Quantised indexes (IVF_SQ8, SCANN) do not.
"""

from typing import Any, Literal, NamedTuple, assert_never

from sfsc_service.store.errors import FolderMismatchError

__all__ = ["FLAT", "HNSW", "IVF_FLAT", "IndexKind", "MilvusSearch", "check_index", "index_for"]

MilvusSearch = Literal["exact", "ivf", "hnsw"]
"""How a gallery is searched where exactness is not asked for."""
_LISTS = 1_024
"""Per segment, of which Milvus fills each with a million vectors of 128 numbers or so."""
_PROBED_LISTS = 128
_LEAST_EF = 256


class IndexKind(NamedTuple):
    """`exact`: parameters of exact searches, None where there are none."""

    type: str
    built_with: dict[str, Any]
    exact: dict[str, Any] | None

    def about(self, k: int) -> dict[str, Any]:
        """Parameters of a search for about the best k."""
        if self == HNSW:
            return {"ef": max(_LEAST_EF, 2 * k)}
        return {"nprobe": _PROBED_LISTS} if self == IVF_FLAT else {}


FLAT = IndexKind("FLAT", {}, {})
IVF_FLAT = IndexKind("IVF_FLAT", {"nlist": _LISTS}, {"nprobe": _LISTS})
HNSW = IndexKind("HNSW", {"M": 16, "efConstruction": 200}, None)


def index_for(search: MilvusSearch) -> IndexKind:
    """The index that a new collection gets."""
    match search:
        case "exact":
            return FLAT
        case "ivf":
            return IVF_FLAT
        case "hnsw":
            return HNSW
        case _:
            assert_never(search)


def check_index(found: str, search: MilvusSearch | None) -> IndexKind:
    """The index of a collection, by its type in Milvus; it must serve such searches, any where `search` is None.

    Raises FolderMismatchError.
    """
    kind = next((one for one in (FLAT, IVF_FLAT, HNSW) if one.type == found), None)
    if kind is None:
        raise FolderMismatchError(f"store: the index must be FLAT, IVF_FLAT or HNSW; found {found}")
    if search is None or kind == index_for(search) or (search == "exact" and kind.exact is not None):
        return kind
    rule = f"the gallery in Milvus has the index {found}, and search = {search} needs {index_for(search).type}"
    raise FolderMismatchError(f"search: {rule}; docs/scale.md says how to change it")
