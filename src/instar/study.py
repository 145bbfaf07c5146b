"""`instar study`: compose a study's presets with Hydra into params.yaml, which is what runs."""

import argparse
import difflib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from omegaconf import OmegaConf
from yaml import YAMLError

from instar.errors import InputError
from instar.files import replacing, sha256_of
from instar.params import PATH, Params, describe, keys, load, problem_of

CONF = Path("workflow/conf")
#: The sha256 of what this command wrote last.
WRITTEN = Path(".instar/params.sha256")
#: Planning takes hours with more, and their names fill a command line.
MOST_SHARDS = 10_000


def study(words: list[str]) -> int:
    """Compose the study named first with Hydra overrides after it, write params.yaml and show the difference.

    Raises:
        InputError: if there is no such study, an override is wrong, the result is not valid, or params.yaml holds an
            edit that is not committed and --force is not given.
    """
    parser = argparse.ArgumentParser(
        prog="instar study",
        description=f"Write {PATH} from the presets below {CONF}: {', '.join(names('study'))}.",
        epilog=f"Presets: {_presets()}; study=NAME gives the artifacts another folder.\n\nThe keys of {PATH}:\n\n"
        f"{describe()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", help="a study, for example demo")
    parser.add_argument(
        "overrides", nargs="*", help="in Hydra's grammar, such as beta=0.999 detector=yolo11s; shards=2000 names them"
    )
    parser.add_argument("--force", action="store_true", help=f"overwrite an edit of {PATH} that is not committed")
    options = parser.parse_intermixed_args(words)
    text = compose(options.name, options.overrides)
    before = PATH.read_text(encoding="utf-8") if PATH.is_file() else ""
    if text == before:
        print(f"{PATH} is study {options.name} already")
        return 0
    if before and not options.force and _edited():
        raise InputError(f"{PATH}: holds an edit that git does not; commit it, or give --force to lose it")
    with replacing(PATH) as temporary:
        temporary.write_text(text, encoding="utf-8")
    WRITTEN.parent.mkdir(exist_ok=True)
    WRITTEN.write_text(sha256_of(PATH), encoding="utf-8")
    sys.stdout.writelines(_difference(before, text))
    if lost := _undone(before, text, options.overrides):
        print(
            f"instar study: the preset starts afresh, which also undid {', '.join(lost)}; to keep what you had set, "
            "name it again",
            file=sys.stderr,
        )
    return 0


def compose(name: str | None, overrides: list[str]) -> str:
    """The text of params.yaml for a study with Hydra overrides, checked.

    None stands for what every study starts from; ``study=NAME`` must be among the overrides then. ``shards`` may be a
    number: that many get names.

    Raises:
        InputError: if a name is unknown, an override is wrong or the result is not valid.
    """
    if name is not None and name not in names("study"):
        raise InputError(f"{name}: no such study; {CONF / 'study'} has {', '.join(names('study'))}")
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    told = " ".join([*([name] if name else []), *overrides])
    words = [_checked(_with_shard_names(word)) for word in overrides]
    # Hydra would take study=… for a preset
    given = [word.partition("=")[2] for word in words if word.startswith("study=")]
    words = [word for word in words if not word.startswith("study=")]
    try:
        with initialize_config_dir(str(CONF.resolve()), version_base="1.3"):
            composed = hydra_compose("config", [f"study={name}" if name else "~study", *words])
        if given:
            composed.study = given[-1]
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(f"{told}: {' '.join(str(error).split())}") from None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / PATH.name
        path.write_text(OmegaConf.to_yaml(composed, resolve=True), encoding="utf-8")
        try:
            params = load(path)
        except InputError as error:
            raise InputError(str(error).replace(str(path), f"study {told}")) from None
    if any(word.lstrip("+~").startswith("detector.options") for word in words):
        _check_options(params)
    return OmegaConf.to_yaml(OmegaConf.structured(params))


def _check_options(params: Params) -> None:
    """Refuse options that the library of a detector that is trained does not take; takes seconds, as it is asked."""
    from instar import detectors

    if detectors.needs_training(params.detector.family):
        given = {one.name: getattr(params.detector, one.name) for one in fields(detectors.Recipe) if one.name != "seed"}
        # weights may be fetched later
        recipe = detectors.Recipe(**given | {"weights": str(CONF / "detector/random.md"), "seed": params.seed})
        detectors.family(params.detector.family).most(recipe)


def _checked(word: str) -> str:
    """An override as Hydra takes it; what is wrong with it is told in the words of params.yaml."""
    key, sign, value = word.partition("=")
    key = key.lstrip("+~")
    if not sign:
        raise InputError(f"{word}: write key=value, such as beta=0.99")
    if key in ("detector", "classifier"):
        if value not in names(key):
            raise InputError(f"{word}: no such preset; {CONF / key} has {', '.join(names(key))}")
    elif problem := problem_of(key, value):
        raise InputError(problem)
    elif key == "classifier.model":
        from instar.classifier.model import check_model  # takes seconds, which a preset's name need not

        check_model(value)
    # free keys below it, which Hydra wants to be told
    return f"++{key}={value}" if key.startswith("detector.options") else word


def _with_shard_names(override: str) -> str:
    """``shards=2000`` as the list of their names, s0000 to s1999, since params.yaml holds names; others as they are."""
    key, _, count = override.partition("=")
    if key != "shards" or not count.lstrip("-").isdecimal():
        return override
    if not 1 <= int(count) <= MOST_SHARDS:
        raise InputError(f"shards = {count} is not allowed; it must be from 1 to {MOST_SHARDS}, or a list of names")
    digits = max(2, len(str(int(count) - 1)))
    return f"shards=[{','.join(f's{n:0{digits}d}' for n in range(int(count)))}]"


def _presets() -> str:
    return ", ".join(f"{group}={'|'.join(names(group))}" for group in ("detector", "classifier"))


def names(group: str) -> list[str]:
    """The presets of a group: study, detector or classifier."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def _edited() -> bool:
    """Whether neither this command wrote what params.yaml holds now nor git has it."""
    if WRITTEN.is_file() and WRITTEN.read_text(encoding="utf-8") == sha256_of(PATH):
        return False
    status = subprocess.run(["git", "status", "--porcelain", "--", str(PATH)], capture_output=True, text=True)
    return status.returncode != 0 or status.stdout.strip() != ""


def _undone(before: str, after: str, overrides: list[str]) -> list[str]:
    """Keys that an earlier command for the same folder of artifacts gave another value, and this one does not name."""
    try:
        old, new = OmegaConf.create(before), OmegaConf.create(after)
    except YAMLError:  # spoilt by hand, and overwritten by --force
        return []
    if OmegaConf.select(old, "study") != new.study:
        return []
    named = [word.partition("=")[0].lstrip("+~") for word in overrides]
    changed = [key for key in keys() if OmegaConf.select(old, key) not in (None, OmegaConf.select(new, key))]
    return [key for key in changed if not any(f"{key}.".startswith(f"{name}.") for name in named)]


def _difference(before: str, after: str) -> Iterator[str]:
    lines = (before.splitlines(keepends=True), after.splitlines(keepends=True))
    yield from difflib.unified_diff(*lines, fromfile=f"{PATH} before", tofile=f"{PATH} now", n=1)
