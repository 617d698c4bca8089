"""/v1 by OpenAI's own package, against a real service."""

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest

from tests.service.images import draw_image, half_a_jpeg
from tests.service.live import Live


@pytest.fixture
def client(live: Live) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def uri(image: bytes, kind: str = "jpeg") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def embedding(live: Live, image: bytes, width: str) -> list[float]:
    vector: list[float] = live.post_image("/embed", image, width=width).json()["results"][0]["embedding"]
    return vector


def test_models_are_the_bundle_at_each_width(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [
        "tiny@0.25", "tiny@0.5", "tiny@0.75", "tiny@1.0", "tiny@auto",
    ]  # fmt: skip


@pytest.mark.parametrize("encoding", [None, "float", "base64"])
@pytest.mark.parametrize("width", ["0.25", "1.0"])
def test_an_image_is_embedded_as_by_embed(live: Live, client: openai.OpenAI, width: str, encoding: Any) -> None:
    options = {} if encoding is None else {"encoding_format": encoding}
    answer = client.embeddings.create(model=f"tiny@{width}", input=uri(draw_image(1)), **options)
    assert (answer.object, answer.model) == ("list", f"tiny@{width}")
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (0, 0)
    (entry,) = answer.data
    found: Any = entry.embedding
    if isinstance(found, str):
        found = np.frombuffer(base64.b64decode(found), "<f4")
    np.testing.assert_allclose(found, embedding(live, draw_image(1), width), atol=1e-6)


def test_several_images_keep_their_order(live: Live, client: openai.OpenAI) -> None:
    images = [uri(draw_image(n, format="PNG"), "png") for n in range(3)]
    answer = client.embeddings.create(model="tiny@0.5", input=images, dimensions=16)
    assert [entry.index for entry in answer.data] == [0, 1, 2]
    for n, entry in enumerate(answer.data):
        np.testing.assert_allclose(entry.embedding, embedding(live, draw_image(n, format="PNG"), "0.5"), atol=1e-6)


def test_auto_lets_the_service_choose_and_says_what(client: openai.OpenAI) -> None:
    (entry,) = client.embeddings.create(model="tiny@auto", input=uri(draw_image(1))).data
    assert entry.model_extra == {"width": "1.0", "reason": "budget"}


@pytest.mark.parametrize(
    ("options", "kind", "code", "param", "said"),
    [
        ({"model": "text-embedding-3-small"}, openai.NotFoundError, "unknown_model", "model", "tiny@auto"),
        ({"model": "tiny@0.3"}, openai.NotFoundError, "unknown_model", "model", "tiny@0.25"),
        ({"input": "a red car"}, openai.UnprocessableEntityError, "invalid_parameter", "input", "data URI"),
        ({"input": []}, openai.UnprocessableEntityError, "invalid_parameter", "input", "at least 1"),
        ({"input": [1, 2]}, openai.UnprocessableEntityError, "invalid_parameter", "input", "text"),
        (
            {"input": "data:image/png;base64,!"},
            openai.UnprocessableEntityError, "invalid_parameter", "input", "input[0]: must be base64",
        ),
        ({"input": uri(b"x")}, openai.UnprocessableEntityError, "image_not_recognised", "input", "JPEG"),
        (
            {"input": [uri(draw_image(1)), uri(half_a_jpeg())]},
            openai.UnprocessableEntityError, "image_damaged", "input", "input[1]",
        ),
        ({"input": [uri(b"x")] * 5}, openai.UnprocessableEntityError, "invalid_parameter", "input", "at most 4"),
        ({"input": uri(b"x" * 200_001)}, openai.APIStatusError, "image_too_large", "input", "200000"),
        ({"dimensions": 8}, openai.UnprocessableEntityError, "invalid_parameter", "dimensions", "must be 16"),
    ],
)  # fmt: skip
def test_refusals_are_openais_exceptions_with_our_message(
    client: openai.OpenAI,
    options: dict[str, Any],
    kind: type[openai.APIStatusError],
    code: str,
    param: str,
    said: str,
) -> None:
    with pytest.raises(kind) as caught:
        client.embeddings.create(**{"model": "tiny@0.5", "input": uri(draw_image(1)), **options})
    assert (caught.value.code, caught.value.param) == (code, param)
    assert said in str(caught.value)


def test_other_bodies_and_paths_are_refused_in_openais_way_too(live: Live, client: openai.OpenAI) -> None:
    response = live.http.post("/v1/embeddings", content=b"{", headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_json")
    response = live.post_image("/v1/embeddings", draw_image(1))
    assert (response.status_code, response.json()["error"]["code"]) == (415, "unsupported_media_type")
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("tiny@0.5")
    assert caught.value.code == "not_found"
    assert "error" not in live.http.get("/nowhere").json()
