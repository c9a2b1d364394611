"""A Hydra application that does nothing, for hydra-submitit-launcher to send."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig


@hydra.main(config_path=None, version_base="1.3")
def main(config: DictConfig) -> None:
    del config


if __name__ == "__main__":
    main()
