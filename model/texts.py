"""Texts that the paper and the released code publish: background names and templates.

Imports without torch, so that the web process can use it.
"""

from collections.abc import Mapping

# The background names of the released configurations, the same for every data set.
RELEASED_BACKGROUND = (
    *("ground", "land", "grass", "tree", "building", "wall", "sky", "lake", "water", "river", "sea", "railway"),
    *("railroad", "helmet", "cloud", "house", "mountain", "ocean", "road", "rock", "street", "valley", "bridge"),
)

# The paper's background names by group (CaR, appendix D and Table 6): 32, 44 and 36. All but "helmet" of the released
# names are among them.
_TERRESTRIAL = """
ground land grass tree mountain rock valley earth terrain forest bush hill field pasture meadow plateau cliff canyon
ridge peak plain prairie tundra savanna steppe crag knoll dune glen dale copse thicket
"""
_AQUATIC_ATMOSPHERIC = """
sea ocean lake water river sky cloud pond stream lagoon bay gulf fjord estuary creek brook reservoir pool spring marsh
swamp wetland glacier iceberg atmosphere stratosphere mist fog rain drizzle hail sleet snow thunderstorm breeze wind
gust hurricane tornado monsoon cumulus cirrus stratus nimbus
"""
_MAN_MADE = """
building house wall road street railway railroad bridge edifice structure apartment condominium skyscraper highway
boulevard lane alley byway avenue expressway freeway path overpass underpass viaduct tunnel footbridge crosswalk culvert
dam archway causeway plaza square station terminal
"""
PAPER_GROUPS: Mapping[str, tuple[str, ...]] = {
    "terrestrial": tuple(_TERRESTRIAL.split()),
    "aquatic-atmospheric": tuple(_AQUATIC_ATMOSPHERIC.split()),
    "man-made": tuple(_MAN_MADE.split()),
}

# What `background` takes by name, alone or several with commas between.
BACKGROUNDS: Mapping[str, tuple[str, ...]] = {
    "released": RELEASED_BACKGROUND,
    "paper": tuple(name for names in PAPER_GROUPS.values() for name in names),
    **PAPER_GROUPS,
    "none": (),
}

# The classifier's templates in the released code: three of them without a full stop, as published.
RELEASED_TEMPLATES = (
    "a clean origami {}.",
    "a photo of a {}.",
    "This is a photo of a {}",
    "There is a {} in the scene",
    "There is the {} in the scene",
    "a photo of a {} in the scene",
    "a photo of a small {}.",
    "a photo of a medium {}.",
    "a photo of a large {}.",
    "This is a photo of a small {}.",
    "This is a photo of a medium {}.",
    "This is a photo of a large {}.",
    "There is a small {} in the scene.",
    "There is a medium {} in the scene.",
    "There is a large {} in the scene.",
)
