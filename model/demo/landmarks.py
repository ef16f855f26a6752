"""Landmarks that no emoji shows, drawn here as small pictures: each function returns the inside of an SVG, 128 x 128.

Own drawings, made for this project and under its licence. Colours are flat with one shade for depth, as of emoji.
"""

from collections.abc import Callable

from model.demo.shapes import arches, columns, disc, line, path, poly, rect

SIDE = 128


def svg(name: str) -> str:
    """Return the landmark's SVG. Raises KeyError for a name that is not in LANDMARKS."""
    inside = LANDMARKS[name]()
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE} {SIDE}">{inside}</svg>'


def _eiffel_tower() -> str:
    iron, dark = "#8d6e52", "#6b513b"
    legs = path(iron, "M62 8H66C68 50 74 88 100 124H84C79 112 72 104 64 104S49 112 44 124H28C54 88 60 50 62 8Z")
    lattice = "".join(line(dark, 1.6, f"M{64 - w} {y}L{64 + w} {y + 9}M{64 + w} {y}L{64 - w} {y + 9}")
                      for y, w in ((38, 3), (50, 4), (62, 5.5)))  # fmt: skip
    feet = "".join(line(dark, 2, f"M{64 + s * 14} 94L{64 + s * 26} 116M{64 + s * 24} 100L{64 + s * 22} 114")
                   for s in (-1, 1))  # fmt: skip
    decks = rect(dark, 44, 86, 40, 6, 1) + rect(dark, 53, 58 + 16, 22, 4, 1) + rect(dark, 59, 27, 10, 4, 1)
    return line(dark, 2.2, "M64 2V12") + legs + lattice + feet + decks


def _big_ben() -> str:
    stone, shade, roof, gold = "#d9b777", "#b8924f", "#47606b", "#f2d479"
    body = rect(stone, 46, 50, 36, 76) + rect(shade, 70, 50, 12, 76)
    slits = "".join(rect("#8d6b34", x, 78, 4, 40) for x in (51, 59, 67, 75))
    clock = rect(shade, 42, 42, 44, 30) + disc("#fffaf0", 64, 57, 12.5) + line("#333", 2.2, "M64 57V48M64 57L71 60")
    ring = f'<circle cx="64" cy="57" r="12.5" fill="none" stroke="{gold}" stroke-width="2.5"/>'
    top = poly(roof, 44, 42, 84, 42, 74, 26, 54, 26) + rect(gold, 56, 20, 16, 7) + poly(roof, 54, 20, 74, 20, 64, 2)
    return body + slits + clock + ring + top + rect(shade, 42, 72, 44, 4) + rect(shade, 42, 120, 44, 6)


def _taj_mahal() -> str:
    marble, shade, dark = "#f6efe4", "#d8cbb8", "#9d8f7c"
    towers = "".join(
        rect(marble, x, 44, 7, 68) + rect(shade, x + 4, 44, 3, 68) + path(shade, f"M{x - 1} 44A4.5 6 0 0 1 {x + 8} 44Z")
        for x in (6, 115)
    )
    dome = path(marble, "M46 58C36 44 54 32 64 16C74 32 92 44 82 58Z") + path(
        shade, "M70 58C84 46 74 34 64 16C74 32 92 44 82 58Z"
    )
    small = "".join(
        path(shade, f"M{x} 60C{x - 3} 52 {x + 4} 48 {x + 7} 42C{x + 10} 48 {x + 17} 52 {x + 14} 60Z") for x in (26, 88)
    )
    body = rect(marble, 22, 60, 84, 52) + rect(shade, 22, 60, 84, 4)
    gate = rect(shade, 48, 56, 32, 56) + arches(dark, (53,), 66, 22, 46)
    niches = arches(dark, (28, 37, 84, 93), 70, 7, 16) + arches(dark, (28, 37, 84, 93), 92, 7, 18)
    return towers + small + dome + body + gate + niches + rect(dark, 2, 112, 124, 10) + line("#c9a227", 2, "M64 8V18")


def _pyramids() -> str:
    light, dark = "#e6c27a", "#b98d46"

    def one(x: float, y: float, w: float) -> str:
        return poly(light, x, y, x - w, 112, x + w * 0.45, 112) + poly(dark, x, y, x + w * 0.45, 112, x + w, 112)

    courses = "".join(
        line("#c9a258", 1.4, f"M{56 - d * 0.98} {24 + d * 1.42}L{56 + d * 0.44} {24 + d * 1.42}")
        for d in range(12, 60, 9)
    )
    return one(98, 66, 28) + one(56, 20, 54) + courses


def _sphinx() -> str:
    sand, shade, dark = "#ddb56c", "#b88f49", "#7d5d2b"
    body = path(sand, "M4 118V104C20 84 44 78 70 80L92 84V118Z") + path(shade, "M40 118C44 98 58 92 70 92L86 118Z")
    paws = rect(sand, 62, 108, 62, 12, 5) + rect(shade, 62, 114, 62, 6, 3)
    hood = path(shade, "M66 88C62 60 66 30 88 28C112 30 114 60 116 84L104 92H78Z")
    stripes = "".join(
        line("#e8c98a", 2, f"M{69 - i * 0.6} {52 + i * 8}H{78}M{104} {52 + i * 8}H{112 + i * 0.5}") for i in range(4)
    )
    face = path(sand, "M78 46C78 36 104 36 104 46V66C104 78 98 82 91 82S78 78 78 66Z")
    features = disc(dark, 85, 56, 2.4) + disc(dark, 97, 56, 2.4) + line(dark, 2, "M91 58V66M86 73H96")
    return body + hood + stripes + face + features + paws


def _colosseum() -> str:
    stone, shade, dark = "#d8b98c", "#b7956a", "#5f4a33"
    wall = path(stone, "M6 112V36C20 24 44 20 66 22L80 50L94 56L106 62C116 64 122 68 122 74V112C100 122 28 122 6 112Z")
    side = path(shade, "M80 50L94 56L106 62C116 64 122 68 122 74V112C110 117 96 119 86 119Z")
    rows = arches(dark, range(12, 72, 12), 38, 7, 14) + arches(dark, range(12, 116, 12), 64, 7, 16)
    rows += arches(dark, range(12, 116, 12), 90, 7.5, 19)
    return (
        wall + side + line(shade, 2.5, "M6 58C30 52 50 52 82 55") + line(shade, 2.5, "M6 85C40 82 90 82 122 86") + rows
    )


def _leaning_tower() -> str:
    marble, shade, dark = "#f2ead9", "#cdbfa6", "#8f8068"
    floors = "".join(
        rect(shade, 42, y, 44, 4) + rect(marble, 45, y + 4, 38, 11) + arches(dark, range(47, 80, 7), y + 6, 4.4, 9)
        for y in range(26, 104, 15)
    )
    top = rect(marble, 50, 12, 28, 14) + arches(dark, (54, 62, 70), 15, 5, 11) + rect(shade, 48, 9, 32, 4)
    base = rect(marble, 43, 101, 42, 21) + rect(shade, 40, 118, 48, 6) + arches(dark, (60,), 106, 8, 12)
    return f'<g transform="rotate(9 64 118)">{floors}{top}{base}</g>' + rect("#a9bd76", 24, 120, 80, 6, 3)


def _stonehenge() -> str:
    light, mid, dark = "#a9a79f", "#8a887f", "#66645d"
    back = rect(dark, 34, 58, 12, 48) + rect(dark, 82, 58, 12, 48) + rect(dark, 32, 50, 64, 11, 3)
    left = (
        rect(light, 6, 52, 17, 64, 3)
        + rect(mid, 17, 52, 6, 64, 2)
        + rect(light, 37, 56, 15, 60, 3)
        + rect(mid, 46, 56, 6, 60, 2)
    )
    right = (
        rect(light, 76, 56, 15, 60, 3)
        + rect(mid, 85, 56, 6, 60, 2)
        + rect(light, 104, 52, 17, 64, 3)
        + rect(mid, 115, 52, 6, 64, 2)
    )
    tops = (
        rect(light, 2, 38, 54, 16, 4)
        + rect(mid, 2, 48, 54, 6, 3)
        + rect(light, 72, 38, 54, 16, 4)
        + rect(mid, 72, 48, 54, 6, 3)
    )
    return rect("#86a860", 0, 108, 128, 12, 6) + back + left + right + tops


def _golden_gate_bridge() -> str:
    red, dark = "#d8472b", "#a83220"
    cables = line(dark, 2.6, "M0 58Q16 50 30 20Q64 104 98 20Q112 50 128 58")
    hangers = "".join(
        line(dark, 1.1, f"M{x} {20 + 54 * (1 - ((x - 64) / 34) ** 2) * 0.78:.1f}V84") for x in range(38, 92, 6)
    )
    towers = "".join(
        rect(red, x - 7, 16, 5, 106)
        + rect(red, x + 2, 16, 5, 106)
        + "".join(rect(dark, x - 7, y, 14, 4) for y in (16, 34, 52, 70, 98))
        for x in (30, 98)
    )
    return cables + hangers + rect(red, 0, 82, 128, 8) + rect(dark, 0, 88, 128, 4) + towers


def _arc_de_triomphe() -> str:
    stone, shade, dark = "#e3d2b0", "#c4ae85", "#8b754e"
    body = path(stone, "M12 16H116V122H84V78A20 22 0 0 0 44 78V122H12Z")
    vault = path(dark, "M44 122V78A20 22 0 0 1 84 78V122H78V80A14 16 0 0 0 50 80V122Z")
    reliefs = (
        rect(shade, 19, 78, 18, 34, 2)
        + rect(shade, 91, 78, 18, 34, 2)
        + rect(shade, 20, 48, 20, 12)
        + rect(shade, 88, 48, 20, 12)
    )
    return (
        body
        + vault
        + reliefs
        + rect(shade, 8, 12, 112, 8)
        + rect(shade, 8, 32, 112, 6)
        + rect(shade, 12, 66, 30, 4)
        + rect(shade, 86, 66, 30, 4)
    )


def _brandenburg_gate() -> str:
    stone, shade, dark, copper = "#ddc79d", "#b79d6c", "#7d6740", "#4f9d84"
    xs = (8, 30, 52, 69, 91, 113)
    gate = (
        rect(dark, 10, 58, 108, 62)
        + columns(stone, shade, [x - 1 for x in xs], 58, 9, 62)
        + rect(stone, 2, 46, 124, 12)
    )
    top = rect(stone, 34, 34, 60, 12) + rect(shade, 34, 42, 60, 4) + rect(shade, 2, 54, 124, 4)
    horses = "".join(
        path(copper, f"M{x} 34V24C{x - 4} 22 {x - 3} 18 {x + 2} 18C{x + 7} 19 {x + 6} 26 {x + 6} 34Z")
        for x in (46, 54, 62, 70)
    )
    figure = disc(copper, 79, 13, 3.2) + path(copper, "M75 34L77 16H82L85 34Z") + line(copper, 2, "M82 20L88 8")
    return gate + top + horses + figure + rect(shade, 0, 118, 128, 6)


def _sydney_opera_house() -> str:
    shell, shade, base = "#fbf8ef", "#cfd3d6", "#b58f6b"

    def sail(x: float, y: float, w: float, h: float) -> str:
        edge = f"C{x + w * 0.72} {y - h * 0.55} {x + w * 0.7} {y - h * 0.2} {x + w * 0.78} {y}Z"
        outer = f"M{x} {y}C{x + 2} {y - h * 0.7} {x + w * 0.5} {y - h} {x + w} {y - h}"
        inner = f"M{x + w * 0.45} {y}C{x + w * 0.46} {y - h * 0.5} {x + w * 0.7} {y - h * 0.85} {x + w} {y - h}"
        return path(shell, outer + edge) + path(shade, inner + edge)

    sails = sail(66, 96, 56, 78) + sail(44, 96, 46, 64) + sail(22, 96, 38, 50) + sail(6, 96, 24, 32)
    return (
        sails
        + path(base, "M2 96H122L126 112H0Z")
        + rect("#8a6a4d", 0, 108, 127, 6)
        + "".join(rect("#8a6a4d", x, 100, 8, 3) for x in range(10, 116, 14))
    )


def _parthenon() -> str:
    stone, shade, dark = "#efe3c8", "#cbb98f", "#937f55"
    roof = poly(stone, 64, 18, 124, 46, 4, 46) + poly(shade, 64, 25, 106, 44, 22, 44)
    cella = rect(dark, 14, 56, 100, 52) + columns(stone, shade, range(10, 116, 16), 56, 11, 52)
    return (
        roof
        + rect(stone, 4, 46, 120, 10)
        + rect(shade, 4, 53, 120, 3)
        + cella
        + rect(stone, 4, 108, 120, 6)
        + rect(shade, 0, 114, 128, 8)
    )


def _burj_khalifa() -> str:
    glass, light, dark = "#8fb0c4", "#c3dae6", "#5d7d92"
    parts = ((62, 4, 4, 30), (59, 22, 10, 30), (55, 40, 18, 30), (50, 58, 28, 30), (45, 78, 38, 26), (40, 98, 48, 26))
    tiers = "".join(
        rect(glass, x, y, w, h) + rect(light, x, y, w * 0.35, h) + rect(dark, x + w * 0.8, y, w * 0.2, h)
        for x, y, w, h in parts
    )
    bands = "".join(rect(dark, 64 - w, y, 2 * w, 2) for y, w in ((50, 9), (68, 14), (88, 19), (108, 24)))
    return tiers + bands + line(dark, 1.6, "M64 0V8") + rect(dark, 34, 120, 60, 5)


def _christ_the_redeemer() -> str:
    stone, shade, dark = "#e4e1d6", "#bcb8a8", "#8d8877"
    robe = path(stone, "M54 38H74L80 104H48Z") + path(shade, "M66 38H74L80 104H68Z")
    arms = path(stone, "M4 36C24 34 44 32 64 32S104 34 124 36V42C108 46 92 52 76 54H52C36 52 20 46 4 42Z") + path(
        shade, "M4 40L52 50H76L124 40V42C108 46 92 52 76 54H52C36 52 20 46 4 42Z"
    )
    head = disc(stone, 64, 20, 9) + path(shade, "M55 20C55 36 73 36 73 20C72 28 56 28 55 20Z")
    return (
        rect(dark, 42, 104, 44, 20, 2)
        + rect(shade, 46, 98, 36, 8)
        + robe
        + arms
        + head
        + line(dark, 1.5, "M58 56L55 98M64 56V98M70 56L74 98")
    )


def _windmill() -> str:
    wall, shade, sail = "#c98c5a", "#9c6537", "#f4ecd8"
    tower = poly(wall, 46, 58, 82, 58, 92, 124, 36, 124) + poly(shade, 70, 58, 82, 58, 92, 124, 74, 124)
    cap = (
        path("#6d4427", "M42 60C44 40 84 40 86 60Z")
        + arches("#4b2e19", (58,), 102, 12, 22)
        + rect("#f6e7a6", 59, 76, 10, 10)
    )
    blade = (
        rect("#5c3a20", 62, -2, 4, 56)
        + rect(sail, 66, 0, 13, 44)
        + "".join(line("#a58f6a", 1.2, f"M66 {y}H79") for y in (11, 22, 33))
    )
    blades = "".join(f'<g transform="translate(0 2) rotate({a} 64 54)">{blade}</g>' for a in (45, 135, 225, 315))
    return tower + cap + blades + disc("#4b2e19", 64, 56, 5)


def _pagoda() -> str:
    wall, roof, dark = "#f0dcc0", "#b3322b", "#7c1f1b"
    floors = ""
    for number, (y, wide) in enumerate(((98, 56), (74, 48), (51, 40), (30, 32))):
        half, eave, door = wide / 2, wide / 2 + 12, 7 if number else 9
        floors += rect(wall, 64 - half + 4, y, wide - 8, 22)
        floors += rect(dark, 64 - half + 4, y, 4, 22) + rect(dark, 64 + half - 8, y, 4, 22)
        left = f"M{64 - eave} {y + 4}C{76 - eave} {y} {64 - half} {y - 4} {69 - half} {y - 9}"
        right = f"H{59 + half}C{64 + half} {y - 4} {52 + eave} {y} {64 + eave} {y + 4}Z"
        floors += path(roof, left + right) + arches(dark, (59,), y + door, 10, 22 - door)
    spire = line("#c9a227", 3, "M64 4V22") + disc("#c9a227", 64, 10, 3)
    return spire + floors + rect("#8f8577", 24, 118, 80, 7)


def _lighthouse() -> str:
    white, red, shade = "#f7f4ee", "#d3342b", "#00000022"
    tower = poly(white, 50, 40, 78, 40, 88, 120, 40, 120)
    bands = poly(red, 48.7, 52, 79.3, 52, 81.5, 68, 46.5, 68) + poly(red, 44.3, 84, 83.7, 84, 86, 102, 42, 102)
    lamp = (
        rect("#3f4a57", 46, 36, 36, 5)
        + rect("#ffe27a", 54, 20, 20, 16)
        + line("#3f4a57", 2, "M54 20V36M64 20V36M74 20V36")
    )
    roof = path("#3f4a57", "M50 20C52 8 76 8 78 20Z") + disc("#3f4a57", 64, 7, 3)
    return (
        tower
        + bands
        + poly(shade, 68, 40, 78, 40, 88, 120, 72, 120)
        + lamp
        + roof
        + arches("#3f4a57", (58,), 106, 11, 14)
        + rect("#7c7468", 32, 118, 64, 8, 3)
    )


LANDMARKS: dict[str, Callable[[], str]] = {
    "eiffel tower": _eiffel_tower,
    "big ben": _big_ben,
    "taj mahal": _taj_mahal,
    "pyramids": _pyramids,
    "sphinx": _sphinx,
    "colosseum": _colosseum,
    "leaning tower of pisa": _leaning_tower,
    "stonehenge": _stonehenge,
    "golden gate bridge": _golden_gate_bridge,
    "arc de triomphe": _arc_de_triomphe,
    "brandenburg gate": _brandenburg_gate,
    "sydney opera house": _sydney_opera_house,
    "parthenon": _parthenon,
    "burj khalifa": _burj_khalifa,
    "christ the redeemer": _christ_the_redeemer,
    "windmill": _windmill,
    "pagoda": _pagoda,
    "lighthouse": _lighthouse,
}
