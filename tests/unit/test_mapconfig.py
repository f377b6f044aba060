"""MapConfig documents become values, or are refused with the sentence that clients know."""

import contextlib
import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowmaps.errors import InvalidMapConfig
from flowmaps.mapconfig import MapConfig, canonical, parse_mapconfig, select_layers, signature, vector_extents
from flowmaps.mapconfig.layer_options import http_options, parse_color, plain_options
from flowmaps.settings import LimitSettings
from flowmaps.tile import TileCoord

LIMITS = LimitSettings()
KEY = b"a key for tests"


def mapnik(**options: Any) -> dict[str, Any]:
    return {"options": {"sql": "select 1", "cartocss": "#l{line-width:1}", "cartocss_version": "2.0.0", **options}}


def vectors(**options: Any) -> dict[str, Any]:
    return {"options": {"sql": "select 1", **options}}


def parsed(*layers: object, **members: Any) -> MapConfig:
    return parse_mapconfig({"layers": list(layers), **members}, limits=LIMITS)


def refusal(*layers: object, **members: Any) -> str:
    with pytest.raises(InvalidMapConfig) as caught:
        parsed(*layers, **members)
    return caught.value.message


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (None, "1.0.0"), ("", "1.0.0"), (0, "1.0.0"), (False, "1.0.0"), ("1.0.0", "1.0.0"), ("1.8.0", "1.8.0"),
        ("1.0.1", "1.0.1"), ("1.4.7", "1.4.7"), ("v1.2.0", "1.2.0"), (" 1.2.0 ", "1.2.0"),
    ],
)  # fmt: skip
def test_versions_of_the_range_are_read(version: object, expected: str) -> None:
    assert parsed(version=version).version == expected


@pytest.mark.parametrize(
    "version", ["0.1.0", "1.8.1", "2.0.0", "1.8.0-beta", "1.0.0-rc1", "1.5", "abc", 1.5, 2, {}, {"a": 1}, [1], True]
)
def test_other_versions_are_refused(version: object) -> None:
    if not version:
        assert parsed(version=version).version == "1.0.0"
    else:
        assert refusal(version=version).startswith("Unsupported layergroup configuration version ")


def test_ids_are_generated_by_type() -> None:
    http = {"type": "http", "options": {"urlTemplate": "http://a/{z}"}}
    torque = {"type": "torque", "options": {"sql": "select 1", "cartocss": "Map{}"}}
    config = parsed(
        http,
        mapnik(),
        {"type": "mapnik", **mapnik()},
        {"type": "cartodb", **mapnik()},
        torque,
        {"type": "", **mapnik()},
    )
    assert [layer.id for layer in config.layers] == [
        "http-layer0",
        "layer0",
        "layer1",
        "layer2",
        "torque-layer0",
        "layer3",
    ]
    named = parsed({"id": "a", **mapnik()}, mapnik())
    assert [(layer.id, layer.is_explicit_id) for layer in named.layers] == [("a", True), ("layer1", False)]


def seven() -> MapConfig:
    def entry(kind: str, name: str) -> dict[str, Any]:
        options: dict[str, Any] = {
            "plain": {"color": "red"},
            "http": {"urlTemplate": "http://a/{z}"},
            "mapnik": mapnik()["options"],
            "torque": {"sql": "select 1", "cartocss": "Map{}"},
        }[kind]
        return {"type": kind, "id": name, "options": options}

    names = ["plain0", "http0", "mapnik0", "mapnik1", "torque0", "http1", "torque1"]
    return parsed(*(entry(name[:-1], name) for name in names))


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (None, [2, 3]), ("mapnik", [2, 3]), ("all", [0, 1, 2, 3, 4, 5, 6]), ("torque", [4, 6]), ("http", [1, 5]),
        ("plain", [0]), ("1,2,3,4", [1, 2, 3, 4]), ("3,2", [2, 3]), ("mapnik1,mapnik0", [2, 3]),
        ("plain0,mapnik0", [0, 2]), ("2,2", [2, 2]), ("6", [6]), ("torque1", [6]),
    ],
)  # fmt: skip
def test_selectors_of_the_contract(selector: str | None, expected: list[int]) -> None:
    assert [layer.index for layer in select_layers(seven(), selector)] == expected


@pytest.mark.parametrize(
    "selector",
    ["wrongFilter0,mapnik1", "mapnik,mapnik1", "blend,mapnik1", "mapnik1,http", "cartodb", "torque0,raster", "0,mapnik1",
     "mapnik1,0", "0,7", "-1,1", "p,0", "", ",", "0,", "mapnik0 ,mapnik1"],
)  # fmt: skip
def test_wrong_selectors_of_the_contract(selector: str) -> None:
    with pytest.raises(InvalidMapConfig, match="Invalid layer filtering"):
        select_layers(seven(), selector)


@pytest.mark.parametrize("selector", ["7", "01", "1.5", "-1", "1e1", "0x1", "99999999999999999999"])
def test_numbers_that_name_no_layer(selector: str) -> None:
    with pytest.raises(InvalidMapConfig, match="not found in layergroup"):
        select_layers(seven(), selector)


def test_an_explicit_id_wins_over_a_generated_one() -> None:
    config = parsed(mapnik(), {"id": "layer0", **mapnik()})
    assert [layer.index for layer in select_layers(config, "layer0")] == [1]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([{}], (4096, 256)),
        ([{}, {"vector_extent": 4096}], (4096, 4096)),
        ([{"vector_extent": 666}, {"vector_extent": 666, "vector_simplify_extent": 666}], (666, 666)),
        ([{"vector_simplify_extent": 256}, {}], (4096, 256)),
        ([{"vector_extent": 8192, "vector_simplify_extent": 512}], (8192, 512)),
        ([{"vector_extent": "512"}], (512, 512)),
        ([{"vector_extent": 4096 * 2**18}], (4096 * 2**18,) * 2),
    ],
)
def test_extents_that_agree(layers: list[dict[str, Any]], expected: tuple[int, int]) -> None:
    assert tuple(vector_extents(parsed(*(vectors(**options) for options in layers)))) == expected


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([{"vector_extent": 888}, {}], "Multiple extent values in mapConfig (888,4096)"),
        ([{"vector_extent": 0}], "Invalid vector_extent. Must be between 1 and 2147483647"),
        ([{"vector_extent": 2**31}], "Invalid vector_extent. Must be between 1 and 2147483647"),
        ([{"vector_extent": "x"}], "Invalid vector_extent. Must be between 1 and 2147483647"),
        ([{"vector_extent": True}], "Invalid vector_extent. Must be between 1 and 2147483647"),
        ([{"vector_simplify_extent": 256}, {"vector_simplify_extent": 5}], "Multiple simplify extent values in mapConfig (256,5)"),
        ([{"vector_simplify_extent": 0}], "Invalid vector_simplify_extent (0). Must be between 1 and vector_extent [4096]"),
        ([{"vector_simplify_extent": 5000}], "Invalid vector_simplify_extent (5000). Must be between 1 and vector_extent [4096]"),
    ],
)  # fmt: skip
def test_extents_that_do_not(layers: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(InvalidMapConfig) as caught:
        vector_extents(parsed(*(vectors(**options) for options in layers)))
    assert caught.value.message == message


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), [1], {"a": 1}, "4096 ", None, -1, 1e300])
def test_an_extent_of_any_shape_is_no_defect(odd: object) -> None:
    for option in ("vector_extent", "vector_simplify_extent"):
        config = parsed(vectors(**{option: odd}))
        # Whatever it is read as: numbers, or a refusal of ours.
        with contextlib.suppress(InvalidMapConfig):
            assert vector_extents(config).extent >= 1


def test_buffers_by_format() -> None:
    config = parsed(buffersize={"png": 0, "mvt": 7.9})
    assert [config.buffer_px(name, 64) for name in ("png", "mvt", "grid.json", "png32")] == [0, 7, 64, 64]
    sizes: list[object] = ["1", "", "1e10", None, True, [], float("inf")]
    for size in sizes:
        assert refusal(buffersize={"png": size}) == 'Buffer size of format "png" must be a number'


def test_zoom_windows_ignore_what_is_no_number() -> None:
    config = parsed(mapnik(minzoom="2", maxzoom=None), mapnik(minzoom=2, maxzoom=4.5), minzoom=1, maxzoom="x")
    assert [(layer.minzoom, layer.maxzoom) for layer in config.layers] == [(None, None), (2, 4.5)]
    assert [zoom for zoom in range(8) if config.layers[1].at_zoom(zoom)] == [2, 3, 4]
    assert (config.minzoom, config.maxzoom) == (1, None)


def test_interactivity_is_a_list_or_a_text() -> None:
    config = parsed(mapnik(interactivity=["a", "b"]), mapnik(interactivity="a, b,a"), mapnik(interactivity=""))
    assert [layer.interactivity for layer in config.layers] == [("a", "b"), ("a", "b"), ()]
    assert refusal(mapnik(interactivity=[1])) == "Invalid interactivity value type for layer 0: object"


def test_members_that_only_servers_wrote_are_dropped() -> None:
    plain = parsed(mapnik())
    assert parsed(mapnik(), dbparams={"name": "x"}, salt="y", ds={}, cfg={}).document == plain.document


def test_a_deep_document_is_refused() -> None:
    deep: object = 1
    for _ in range(200):
        deep = [deep]
    assert "nested deeper" in refusal(x=deep)


# --- tokens


def test_a_token_is_a_pure_function_of_document_and_tenant() -> None:
    document = parsed(mapnik(interactivity=["a"])).document
    token = signature(document, tenant="t", key=KEY)
    assert len(token) == 32
    assert token == signature(copy.deepcopy(document), tenant="t", key=KEY)
    assert token == signature(parsed(mapnik(interactivity="a")).document, tenant="t", key=KEY)
    others = [
        signature(document, tenant="u", key=KEY),
        signature(document, tenant="t", key=b"another key"),
        signature(parsed(mapnik(interactivity="b")).document, tenant="t", key=KEY),
        signature(parsed(mapnik(interactivity="a"), extra=1).document, tenant="t", key=KEY),
    ]
    assert len({token, *others}) == 5


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=4),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
            st.lists,
            max_leaves=6,
        ),
    )
)
def test_the_canonical_form_does_not_know_the_order_of_members(document: dict[str, Any]) -> None:
    assert canonical(document) == canonical(dict(reversed(document.items())))
    assert canonical(json.loads(json.dumps(document))) == canonical(document)


# --- options of http and plain layers


def test_addresses_of_remote_tiles() -> None:
    tile = TileCoord(3, 5, 1)
    options = http_options({"urlTemplate": "http://{s}.x/{z}/{ x }/{y}"})
    assert options.subdomains == ("a", "b", "c")
    assert options.address(tile) == "http://a.x/3/5/1"
    south = http_options({"urlTemplate": "http://x/{z}/{x}/{y}", "tms": True})
    assert (south.subdomains, south.address(tile)) == ((), "http://x/3/5/6")
    assert http_options({"urlTemplate": "http://{s}.x/", "subdomains": "xy"}).address(tile) == "http://x.x/"
    for template in ("http://x/{q}", "http://x/{}"):
        with pytest.raises(InvalidMapConfig, match="No value provided for variable"):
            http_options({"urlTemplate": template}).address(tile)


@pytest.mark.parametrize(
    ("text", "color"),
    [
        ("red", (255, 0, 0, 1.0)), ("RED ", (255, 0, 0, 1.0)), ("#f00", (255, 0, 0, 1.0)), ("#FF0000", (255, 0, 0, 1.0)),
        ("#ff000080", (255, 0, 0, 128 / 255)), ("rgb(1,2,3)", (1, 2, 3, 1.0)), ("rgba(1, 2, 3, .5)", (1, 2, 3, 0.5)),
        ("rgb(100%, 0%, 0%)", (255, 0, 0, 1.0)), ("hsl(120, 100%, 50%)", (0, 255, 0, 1.0)),
        ("hsla(240, 100%, 50%, 25%)", (0, 0, 255, 0.25)), ("rgb(300, -5, 0)", (255, 0, 0, 1.0)),
        ("", None), ("reddish", None), ("#ff", None), ("#ggg", None), ("rgb(1,2)", None), ("rgb(1,2,x)", None),
        ("rgb(1,2,3,4)", None), ("url(x)", None), ("rgba(1,2,3)", None),
    ],
)  # fmt: skip
def test_colours_of_plain_layers(text: str, color: object) -> None:
    assert parse_color(text) == color


def test_a_colour_outranks_an_image() -> None:
    assert plain_options({"color": "red", "imageUrl": "http://x"}).image_url is None
    assert plain_options({"color": "", "imageUrl": "http://x"}).image_url == "http://x"
    assert plain_options({"color": [1, 2, 3, 51]}).color == (1, 2, 3, 0.2)
    for color in ([], [1, 2], [1, 2, 3, 4, 5], [1, 2, "3"], [1, 2, True], [1, 2, -1]):
        with pytest.raises(InvalidMapConfig, match="invalid integer array"):
            plain_options({"color": color})
    for odd in (True, {"a": 1}, 7, 1.5):
        with pytest.raises(InvalidMapConfig, match="Failed to parse color"):
            plain_options({"color": odd})
