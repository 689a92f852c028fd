"""What pictures are there, and which of them are doubtful, before anything is trained on them."""
