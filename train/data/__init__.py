"""From rows in files to the tensors of a step."""
