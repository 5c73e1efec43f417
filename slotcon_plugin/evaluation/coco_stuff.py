"""The 27 coarse classes of COCO-Stuff, from its pixel maps or from COCO's panoptic format.

One level above the fine classes in the hierarchy of COCO-Stuff (Caesar et al., CVPR 2018), as in
the protocol of IIC and PiCIE: 12 classes of things, 15 of stuff.
"""

# fmt: off
CLASSES = (
    "electronic-things", "appliance-things", "food-things", "furniture-things", "indoor-things",
    "kitchen-things", "accessory-things", "animal-things", "outdoor-things", "person-things",
    "sports-things", "vehicle-things",
    "ceiling-stuff", "floor-stuff", "food-stuff", "furniture-stuff", "raw-material-stuff",
    "textile-stuff", "wall-stuff", "window-stuff", "building-stuff", "ground-stuff", "plant-stuff",
    "sky-stuff", "solid-stuff", "structural-stuff", "water-stuff",
)
THINGS, STUFF = slice(0, 12), slice(12, 27)
# Value of a COCO-Stuff pixel map, 0-181 (a category's id minus one) -> coarse class.
FINE_TO_COARSE = (
    9, 11, 11, 11, 11, 11, 11, 11, 11, 8, 8, 8, 8, 8, 8, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 6, 6, 6, 6,
    6, 6, 6, 6, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 5, 5, 5, 5, 5, 5, 5, 5, 2, 2, 2, 2, 2, 2,
    2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 4, 4, 4, 4, 4, 4,
    4, 4, 17, 17, 22, 20, 20, 22, 15, 25, 16, 13, 12, 12, 17, 17, 23, 15, 15, 17, 15, 21, 15, 25,
    13, 13, 13, 13, 13, 22, 26, 14, 14, 15, 22, 21, 21, 24, 20, 22, 15, 17, 16, 15, 22, 24, 21, 17,
    25, 16, 21, 17, 22, 16, 21, 21, 25, 21, 26, 21, 24, 20, 17, 14, 21, 26, 15, 23, 20, 21, 24, 15,
    24, 22, 25, 15, 20, 17, 17, 22, 14, 18, 18, 18, 18, 18, 18, 18, 26, 26, 19, 19, 24,
)
# fmt: on

# COCO's name of a super-category -> coarse class. The name has no ending, except for stuff that is
# also a thing.
SUPERCATEGORIES: dict[str, int] = {}
for _number, _name in enumerate(CLASSES):
    _short = _name.rpartition("-")[0]
    SUPERCATEGORIES[_name if _short in SUPERCATEGORIES else _short] = _number
