"""A search of a store as a request asks for it: exact for certain, or as the store searches by itself."""

from sfsc_service.store.protocol import Filter, Float32, Hit, Store

__all__ = ["search_store"]


def search_store(
    store: Store,
    queries: Float32,
    k: int,
    filter: Filter | None = None,
    *,
    exact: bool,
    with_vectors: bool = False,
) -> tuple[list[list[Hit]], bool]:
    """The hits for each of `queries` [n, D], and whether they are exactly the best ones.

    Raises StoreError; ExactSearchUnavailableError where they are to be `exact` and the store cannot do it.
    """
    if exact:
        return store.search(queries, k, filter, with_vectors=with_vectors), True
    return store.search_approximately(queries, k, filter, with_vectors=with_vectors)
