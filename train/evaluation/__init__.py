"""What a trained model is worth: evaluation of splits, metrics, predictions."""
