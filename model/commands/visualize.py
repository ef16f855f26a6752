"""`python -m model visualize`: one picture of the recurrence over one image."""

import argparse
from pathlib import Path

from model.commands.common import Commands, add_settings, chosen
from model.vocabulary import check, vocabulary


def add(commands: Commands) -> None:
    """Describe the command and its flags."""
    visualize = commands.add_parser("visualize", help="draw how the labels of one image were found, pass by pass")
    visualize.add_argument("image", type=Path, metavar="IMAGE")
    visualize.add_argument("--labels", required=True, help='what to look for, commas between: "a cat,a dog"')
    visualize.add_argument("--out", type=Path, metavar="FILE", help="the picture (default: IMAGE.recurrence.png)")
    add_settings(visualize)
    visualize.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Segment the image and draw how."""
    from model.pictures import read_image
    from model.visualize import Watched, picture

    queries = vocabulary([label.strip() for label in options.labels.split(",") if label.strip()])
    check(queries)
    image = read_image(options.image)
    story = Watched(chosen(options), options.device, options.weights).tell(image, queries)
    out = options.out or Path(f"{options.image.stem}.recurrence.png")
    picture(story).savefig(out)
    print(f"{out}: {len(story.passes)} passes, found: {', '.join(story.result.labels) or 'nothing'}")
    return 0
