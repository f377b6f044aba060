"""The use cases of serve: create a map, and answer what is asked of it."""

from flowmaps.maps.attributes import answer_attributes
from flowmaps.maps.clusters import answer_cluster
from flowmaps.maps.creation import CreatedMap, create_map, described_map
from flowmaps.maps.revocation import revoke_map
from flowmaps.maps.services import Services, open_services
from flowmaps.maps.static_maps import View, answer_static, view_of_bbox
from flowmaps.maps.tilejson import answer_tilejson, with_addresses
from flowmaps.maps.tiles import answer_tile

__all__ = [
    "CreatedMap",
    "Services",
    "View",
    "answer_attributes",
    "answer_cluster",
    "answer_static",
    "answer_tile",
    "answer_tilejson",
    "create_map",
    "described_map",
    "open_services",
    "revoke_map",
    "view_of_bbox",
    "with_addresses",
]
