"""Presets of the classifier: their models exist, have the published size, and docs/models.md says so."""

from functools import cache
from typing import Any

import pytest
import timm
import torch
import yaml
from project import ROOT

from instar.classifier.published import PUBLISHED
from instar.study import compose, names

HEADER = """\
| preset | timm model | px | million parameters | published | licence of the weights | source |
| --- | --- | --- | --- | --- | --- | --- |
"""


@pytest.fixture(autouse=True)
def in_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def presets() -> list[str]:
    """Names of the files, whatever the working directory."""
    return sorted(path.stem for path in (ROOT / "workflow/conf/classifier").glob("*.yaml"))


@cache
def section(preset: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(compose("ants", [f"classifier={preset}"]))["classifier"]
    return found


@cache
def parameters(model: str, image_px: int, classes: int) -> float:
    """Millions of parameters; on the meta device, where they take no memory."""
    config = timm.get_pretrained_cfg(model)
    sized = {"img_size": image_px} if config is not None and config.fixed_input_size else {}
    with torch.device("meta"):
        network = timm.create_model(model, num_classes=classes, **sized)
        assert network(torch.empty(2, 3, image_px, image_px)).shape == (2, classes or network.num_features)
    return sum(parameter.numel() for parameter in network.parameters()) / 1e6


def test_what_presets_share_is_no_preset() -> None:
    assert presets() == names("classifier")
    assert "fine_tuned" not in names("classifier")


@pytest.mark.parametrize("preset", presets())
def test_a_model_has_the_published_size(preset: str) -> None:
    chosen = section(preset)
    published = PUBLISHED[chosen["model"]]
    found = parameters(chosen["model"], chosen["image_px"], published.head)
    assert found == pytest.approx(published.parameters, rel=0.1)


@pytest.mark.parametrize("preset", [one for one in presets() if one != "megadescriptor_l_384"])
def test_the_licence_is_the_one_that_timm_gives(preset: str) -> None:
    """But for weights that timm does not have, which a file brings."""
    assert section(preset)["weights"] == "workflow/conf/classifier/none.md"
    config = timm.get_pretrained_cfg(section(preset)["model"])
    assert config is not None
    assert (
        config.license.replace("-", " ").lower()
        == PUBLISHED[section(preset)["model"]].licence.replace("-", " ").lower()
    )


#: As a report has them, which counts photographs in a step without accumulation and trains end to end.
PUBLISHED_CONFIGS = [f"config{number}" for number in range(1, 9)]


@pytest.mark.parametrize("preset", sorted(set(presets()) - set(PUBLISHED_CONFIGS)))
def test_rates_are_for_256_crops_a_step(preset: str) -> None:
    chosen = section(preset)
    if chosen["pretrained"]:
        assert chosen["batch"] * chosen["accumulate"] * chosen["devices"] == 256


@pytest.mark.parametrize("preset", sorted(set(presets()) - set(PUBLISHED_CONFIGS)))
def test_eva_trains_end_to_end_and_others_freeze_first(preset: str) -> None:
    chosen = section(preset)
    if chosen["pretrained"]:
        assert (chosen["frozen_epochs"] == 0) == chosen["model"].startswith("eva02")


@pytest.mark.parametrize("preset", PUBLISHED_CONFIGS)
def test_a_published_config_has_published_values(preset: str) -> None:
    chosen = section(preset)
    assert chosen["learning_rate"] in (5e-5, 8e-5, 2e-4)
    assert chosen["batch"] in (32, 16, 8) and chosen["accumulate"] == 1
    assert chosen["warmup"] in (0.1, 0.2)
    fixed = ("weight_decay", "schedule", "keep", "frozen_epochs", "layer_decay", "label_smoothing")
    assert [chosen[key] for key in fixed] == [0.01, "linear", "best_both", 0, 1.0, 0.0]


def test_the_published_configs_are_these_models() -> None:
    found = [(section(preset)["model"].partition(".")[0], section(preset)["image_px"]) for preset in PUBLISHED_CONFIGS]
    assert found == [
        ("vit_base_patch16_384", 384),
        *[("vit_large_patch16_384", 384)] * 3,
        ("vit_huge_patch14_clip_336", 336),
        *[("convnext_xlarge", 384)] * 2,
        ("swin_large_patch4_window12_384", 384),
    ]
    assert [section(preset)["epochs"] for preset in ("config6", "config7")] == [10, 30]


@pytest.mark.parametrize("preset", presets())
def test_a_preset_says_what_it_is(preset: str) -> None:
    """Size and licence stand at its top, as they do in the table."""
    text = (ROOT / f"workflow/conf/classifier/{preset}.yaml").read_text()
    comment = " ".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("#"))
    published = PUBLISHED[section(preset)["model"]]
    assert published.licence.removesuffix(" License").replace("CC-BY-NC-", "CC BY-NC ") in comment
    if section(preset)["pretrained"]:
        assert f"{published.parameters:g} million parameters" in comment


def test_every_published_model_has_a_preset() -> None:
    assert set(PUBLISHED) == {section(preset)["model"] for preset in presets()}


def table() -> str:
    rows: list[str] = []
    notes: list[str] = []
    for preset in presets():
        chosen = section(preset)
        published = PUBLISHED[chosen["model"]]
        mark = ""
        if published.note:
            note = f"{published.note}."
            notes += [] if note in notes else [note]
            mark = f" ({notes.index(note) + 1})"
        with_head = ", with its head" if published.head else ""
        found = parameters(chosen["model"], chosen["image_px"], published.head)
        rows.append(
            f"| `{preset}` | `{chosen['model']}` | {chosen['image_px']} | {found:.1f} | "
            f"{published.parameters:g}{with_head}{mark} | {published.licence} | {published.source} |\n"
        )
    return HEADER + "".join(rows) + "".join(f"\n({index}) {note}\n" for index, note in enumerate(notes, 1))


def test_the_table_is_in_the_docs() -> None:
    assert table() in (ROOT / "docs/models.md").read_text()
