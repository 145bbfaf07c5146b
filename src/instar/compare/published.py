"""What is published of detectors on MassID45 and of answers to AnimalCLEF25, to stand beside one's own."""

from dataclasses import dataclass

from instar.annotations import Annotated

SOURCE = (
    "MassID45's authors, \u201cA multi-modal dataset for insect biodiversity with imagery and DNA at the trap and "
    "individual level\u201d, masks on the six photographs of the test split"
)
#: No library on the package index has these models, so that no preset trains them here.
WITHOUT_LIBRARY = ("CutLER", "Mask DINO")


@dataclass(frozen=True)
class Published:
    """Average precision of masks in [0, 1], named as in ``mask_figures.PRECISIONS``."""

    name: str
    ap: float
    ap50: float
    ap75: float
    small: float
    medium: float
    large: float

    @property
    def precisions(self) -> tuple[float, ...]:
        """In the order of ``mask_figures.PRECISIONS``."""
        return self.ap, self.ap50, self.ap75, self.small, self.medium, self.large


MASSID45 = (
    Published("CutLER", 0.227, 0.400, 0.221, 0.008, 0.181, 0.590),
    Published("Grounding DINO + SAM 2.1", 0.271, 0.476, 0.270, 0.013, 0.226, 0.663),
    Published("Florence-2 + SAM 2.1", 0.165, 0.288, 0.167, 0.030, 0.121, 0.417),
    Published("Gemini 2.0 Flash + SAM 2.1", 0.262, 0.500, 0.238, 0.033, 0.183, 0.642),
    Published("Mask R-CNN", 0.425, 0.831, 0.366, 0.200, 0.416, 0.704),
    Published("Mask2Former", 0.414, 0.787, 0.374, 0.205, 0.400, 0.711),
    Published("Mask DINO", 0.435, 0.809, 0.401, 0.211, 0.435, 0.731),
)


#: By split, tiles of 512 pixels at an overlap of 60 %, and insects on them; an insect counts for each tile that shows
#: a tenth of it.
TILES = {"train": (17_062, 110_520), "validation": (1_244, 5_867), "test": (1_586, 6_241)}
#: Scores of AnimalCLEF25's private half: sqrt(BAKS · BAUS), mean over the three data sets.
ANIMALCLEF25 = {
    "published report, eight configurations": 0.44326,
    "organisers' sample submission": 0.44363,
    "winner": 0.71389,
}
#: The data sets that they are of.
ANIMALCLEF25_DATASETS = {"LynxID2025", "SalamanderID2025", "SeaTurtleID2022"}
#: What must be said beside them.
HIDDEN_QUERIES = "The published ones are of AnimalCLEF25's hidden queries, so they compare with answers to these alone."
#: The held-out photographs of the published partition, as in workflow/conf/trays/partition.csv.
HELD_OUT = {
    "validation": {"GYTL2T", "GUSA7Z", "GRLLN6"},
    "test": {"G9XHGJ", "G5JHXH", "GGCNMZ", "GZDUDR", "GEB17N", "GPRD1F"},
}


def published_split(photographs: list[Annotated]) -> bool:
    """Whether the photographs held out are the published ones, by the samples' names in their keys."""
    return all(
        {one.key.rpartition("-")[2].partition("_")[0] for one in photographs if one.split == split} == names
        for split, names in HELD_OUT.items()
    )


def remark(*, shown: bool = True) -> str:
    """What must be said where published rows stand beside one's own, or do not, since the photographs are others."""
    lacking = f"{' and '.join(WITHOUT_LIBRARY)} are in no library on the package index, so nothing trains them here"
    if not shown:
        return f"Published figures are of {SOURCE}, so they are not shown beside these. {lacking}."
    return (
        f"Rows marked published are of {SOURCE}; they can be compared only with figures of the same photographs. "
        f"{lacking} and their rows stand as published."
    )
