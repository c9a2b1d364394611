"""Where configuration files lie: Muster's own, the site's, the person's, and the folder of `--config-dir`.

A layer is a folder with groups (`cluster/mysite.yaml`). A later layer hides files of the same name in earlier ones.
Beside groups, `site.yaml` of the site may set any key and lock keys; `defaults.yaml` of the person, or in the folder of
`--config-dir`, may set any key. This module is the one reader of `$MUSTER_SITE`. It does not know Hydra.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import conf
from launcher.problems import Problem

PACKAGE, SITE, PERSON, FOLDER = "Muster", "site", "person", "--config-dir"


@dataclass(frozen=True)
class Layer:
    """One folder of configuration files."""

    name: str
    folder: Path

    @property
    def values_file(self) -> Path | None:
        """The file that sets keys of any section; Muster's own layer has none."""
        if self.name == PACKAGE:
            return None
        return self.folder / ("site.yaml" if self.name == SITE else "defaults.yaml")


@dataclass(frozen=True)
class Layers:
    """All layers, lowest first."""

    layers: tuple[Layer, ...]

    def find(self, group: str, option: str) -> tuple[Layer, Path] | None:
        """The file of an option in the highest layer that has it."""
        for layer in reversed(self.layers):
            path = layer.folder / group / f"{option}.yaml"
            if path.is_file():
                return layer, path
        return None

    def options(self, group: str) -> list[str]:
        """Names of all options of a group, over all layers."""
        return sorted({path.stem for layer in self.layers for path in (layer.folder / group).glob("*.yaml")})

    def named(self, name: str) -> Layer | None:
        """The layer of that name, where it exists."""
        return next((layer for layer in self.layers if layer.name == name), None)


def package_folder() -> Path:
    """The folder of Muster's own groups."""
    return Path(conf.__file__).resolve().parent


def find_layers(config_dir: str | None = None) -> tuple[Layers, list[Problem]]:
    """The layers of this process, and a problem for each that was asked for and is not there."""
    layers = [Layer(PACKAGE, package_folder())]
    problems = []
    site = os.environ.get("MUSTER_SITE")
    if site:
        if Path(site).is_dir():
            layers.append(Layer(SITE, Path(site).absolute()))
        else:
            problems.append(Problem("MUSTER_SITE", site, "is not a folder; unset it, or ask the site's administrators"))
    person = Path("~/.config/muster").expanduser()
    if person.is_dir():
        layers.append(Layer(PERSON, person))
    if config_dir is not None:
        if Path(config_dir).is_dir():
            layers.append(Layer(FOLDER, Path(config_dir).absolute()))
        else:
            problems.append(Problem("--config-dir", config_dir, "is not a folder"))
    return Layers(tuple(layers)), problems


_active: list[Layer] = []


def activate(layers: Layers) -> None:
    """Set the layers that Hydra searches from now on."""
    _active[:] = layers.layers


def active_folders() -> list[tuple[str, Path]]:
    """Name and folder of each layer above Muster's own, lowest first; read by the search path plugin."""
    return [(layer.name, layer.folder) for layer in _active if layer.name != PACKAGE]
