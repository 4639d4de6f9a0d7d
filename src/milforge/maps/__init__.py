"""Maps of slides: what the tiles of a bag say, as a table, a picture, GeoJSON and a page."""
