"""What transformers imports for models that Muster does not train, and is spared."""

from __future__ import annotations

import importlib

import transformers.utils as utils


def spare_detection() -> None:
    """Import transformers' losses without scipy's optimizers, which take a sixth of the time of the whole model module.

    Every model imports all losses; those of object detection alone solve assignment problems, and only if scipy is
    there, which it is where labels are scored. Call it before the first model module is imported.
    """
    asked = utils.is_scipy_available
    utils.is_scipy_available = lambda: False
    try:
        importlib.import_module("transformers.loss.loss_utils")
    except ImportError:
        return  # a transformers that keeps them elsewhere
    finally:
        utils.is_scipy_available = asked
