"""What an encoder is worth: heads, baselines, verification, uncertainty."""
