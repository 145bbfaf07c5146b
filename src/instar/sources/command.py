"""`instar source WHAT`: one command for each source that needs the network."""

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from instar.errors import InputError
from instar.params import Params, load

#: what -> (module, function, one line of help)
SOURCES = {
    "inaturalist-api": ("instar.sources.inaturalist_api", "inaturalist_api", "observations of a small taxon, or one"),
    "gbif-search": ("instar.sources.gbif", "gbif_search", "occurrences for small questions, without an account"),
    "gbif-download": ("instar.sources.gbif", "gbif_download", "a Darwin Core Archive, with its DOI; needs an account"),
    "zenodo": ("instar.sources.zenodo", "zenodo", "the files of a record, checked and unpacked; MassID45 by default"),
    "kaggle": ("instar.sources.kaggle", "kaggle", "a competition's files with your own token; AnimalCLEF25 by default"),
    "backbone": ("instar.sources.backbone", "backbone", "the accepted taxon of every name in the source folder"),
}


def source(words: list[str]) -> int:
    """Fetch what the stage records reads into the study's source folder.

    Options that are keys of the section records in params.yaml have their values from there.

    Raises:
        InputError: if there is no such source, or the source cannot be fetched.
    """
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return 0 if words else 2
    if words[0] not in SOURCES:
        raise InputError(f"{words[0]}: no such source; there are {', '.join(SOURCES)}")
    module, name, _ = SOURCES[words[0]]
    function: Callable[..., int] = getattr(importlib.import_module(module), name)
    from jsonargparse import auto_cli

    given = {word.split("=")[0] for word in words[1:]}
    asks_help = given & {"-h", "--help"}
    more = [] if asks_help else _from_params(function, load(), given)
    result = auto_cli(function, args=[*more, *words[1:]], as_positional=False, prog=f"instar source {words[0]}")
    return int(result or 0)


def _from_params(function: Callable[..., int], params: Params, given: set[str]) -> list[str]:
    """Required options that are not given, with their values in params.yaml."""
    is_drawn = params.records.kind == "world" or Path(params.records.source).is_file()
    if is_drawn and "--source" not in given:
        raise InputError(f"study {params.study}: is drawn and has no sources; name another with instar study")
    words = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.default is inspect.Parameter.empty and f"--{name}" not in given:
            value: Any = getattr(params.records, name)
            text = f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)
            words.append(f"--{name}={text}")
    return words


def _help() -> str:
    lines = [f"  {name:<16} {text}" for name, (_, _, text) in SOURCES.items()]
    return "\n".join(
        [
            "usage: instar source WHAT [options]",
            "",
            "Fetch into the study's source folder what the stage records reads. Folder, taxon, quality grades, box and",
            "dates are those of params.yaml where no option says otherwise. Stopped and started again, each goes on.",
            "'instar source WHAT --help' lists the options.",
            "",
            *lines,
        ]
    )
