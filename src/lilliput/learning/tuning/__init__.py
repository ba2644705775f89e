"""Values that a study tries, the study on disk, and its trials."""
