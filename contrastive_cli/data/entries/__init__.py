"""One file per dataset, found by listing this folder; each ends with its `DATASET`."""
