import pytest

from model.benchmarks.class_lists import CLASS_LISTS, ClassListError, class_list
from model.vocabulary import check


@pytest.mark.parametrize(
    ("name", "classes", "stuff"),
    [("voc", 20, 0), ("coco-object", 80, 0), ("context", 59, 21), ("ade", 150, 25), ("ade847", 847, 29)],
)
def test_sizes(name: str, classes: int, stuff: int) -> None:
    queries = class_list(name)
    check(queries)
    assert (len(queries), sum(query.stuff for query in queries)) == (classes, stuff)
    assert all(len(query.prompts) == 1 and query.prompts[0].strip() == query.prompts[0] for query in queries)


def test_there_are_no_others() -> None:
    assert CLASS_LISTS == ("ade", "ade847", "coco-object", "context", "voc")
    with pytest.raises(ClassListError, match="no class list 'lvis'; there are: ade, ade847, coco-object, context, voc"):
        class_list("lvis")


@pytest.mark.parametrize(
    ("name", "index", "label", "prompt"),
    [
        ("voc", 3, "bird", "bird avian"),
        ("voc", 20, "tvmonitor", "tvmonitor screen"),
        ("coco-object", 32, "snowboard", "sknowboard"),
        ("coco-object", 80, "toothbrush", "toothbrush"),
        ("context", 56, "wall", "wall"),
        ("ade", 15, "door", "door, double, door"),
        ("ade", 150, "flag", "flag"),
        ("ade847", 6, "floor", "floor, flooring"),
        ("ade847", 847, "adding machine", "adding machine, totalizer, totaliser"),
    ],
)
def test_published_names(name: str, index: int, label: str, prompt: str) -> None:
    query = class_list(name)[index - 1]
    assert (query.label, query.prompts) == (label, (prompt,))
