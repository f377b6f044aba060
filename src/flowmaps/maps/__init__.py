"""The use cases of serve: create a map, and answer its tiles."""

from flowmaps.maps.creation import CreatedMap, create_map, describe_map
from flowmaps.maps.services import Services, open_services
from flowmaps.maps.tiles import Tile, answer_tile

__all__ = ["CreatedMap", "Services", "Tile", "answer_tile", "create_map", "describe_map", "open_services"]
